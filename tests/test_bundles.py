"""Bundles on a real Kafka: taken up while payments come, refused where they cannot serve, and never changing what stands."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

import aegis_app
from aegis_app.bundles import Published, Releases
from aegis_app.cli import main
from aegis_app.core.decision import encode_decision
from aegis_app.core.payment import Transaction, encode_transaction
from aegis_app.core.policy import parse_policy
from aegis_app.core.screen import screen
from aegis_app.core.terms import Terms
from aegis_app.process import Worker
from aegis_app.stream.outbox import Outgoing
from aegis_app.topics import Name
from models.bundle import MANIFEST, read_manifest
from models.serving import serve
from tests.conftest import Trained
from tests.deployment import Deployment, wait_until
from tests.make import NOON, payment, receipt, record

POLICY = 'mode = "enforce"\n'
DEFAULT = Path(aegis_app.__file__).parent / "default_policy.toml"


class Bundles:
    """Three bundles that differ in what they ask for: `lax` allows, `strict` reviews, `stricter` blocks everything."""

    def __init__(self, trained: Trained, directory: Path) -> None:
        self.directory = directory
        self.lax = trained.asking(directory / "lax", 1.0)
        self.strict = trained.asking(directory / "strict", 0.0)
        self.stricter = trained.asking(directory / "stricter", 0.0, 0.0)

    def version(self, path: Path) -> str:
        return read_manifest(path).version


@pytest.fixture(scope="module")
def bundles(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(trained, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def made(kafka: str, bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("deployment")
    (directory / "policy.toml").write_text(POLICY)
    environment = {"AEGIS_POLICY": str(directory / "policy.toml"), "AEGIS_BUNDLE": str(bundles.lax)}
    with Deployment(kafka, directory, "bundles", **environment) as deployment:
        deployment.worker().wait_until_ready()
        yield deployment


@pytest.fixture(scope="module")
def served(bundles: Bundles) -> Iterator[str]:
    """The address of a web server over the bundles."""
    with serving(bundles.directory) as address:
        yield address


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def aegis(made: Deployment, *arguments: str) -> dict[str, Any]:
    result = made.aegis("bundles", *arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def view(worker: Worker) -> dict[str, Any]:
    status, answer = worker.get("/bundle")
    assert status == 200
    found: dict[str, Any] = answer
    return found


def await_bundle(made: Deployment, version: str) -> None:
    wait_until(lambda: view(made.workers[0])["bundle"] == version, 30, made)


def decided(made: Deployment, name: str) -> dict[str, Any]:
    """The decision about a new payment."""
    made.pay(payment(transaction_id=name, card_id=f"card-{name}"))
    made.await_settled()
    (found,) = (decision for decision in made.decisions() if decision["transaction_id"] == name)
    return found


def series(made: Deployment, name: str) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in str(made.workers[0].get("/metrics")[1]).splitlines() if line.startswith(name))
    return {series.removeprefix(name): float(value) for series, value in lines}


@pytest.mark.kafka
def test_while_nothing_is_published_that_of_the_setting_serves(made: Deployment, bundles: Bundles) -> None:
    version = bundles.version(bundles.lax)
    found = decided(made, "local")

    assert (found["bundle"], found["outcome"], found["degraded"]) == (version, "allow", False)
    assert None not in {found[name] for name in ("isolation_forest", "autoencoder", "supervised", "score", "probability")}
    seen = view(made.workers[0])
    assert (seen["bundle"], seen["source"], seen["refused"]) == (version, {"from": "AEGIS_BUNDLE"}, None)
    assert [layer["layer"] for layer in seen["layers"]] == ["isolation_forest", "autoencoder", "supervised"]
    assert series(made, "aegis_bundle_info") == {f'{{version="{version}"}}': 1}
    assert series(made, "aegis_score_count")['{layer="autoencoder"}'] == 1
    spent = series(made, "aegis_stage_seconds_sum")
    assert 0 < spent['{stage="score"}'] < spent['{stage="decide"}']
    for feature in ("amount", "attributes.V1", "supervised", "score"):
        drift = {each: number for each, number in series(made, "aegis_drift_payments_total").items() if f'feature="{feature}"' in each}
        expected = {each: share for each, share in series(made, "aegis_drift_expected_ratio").items() if f'feature="{feature}"' in each}
        assert drift.keys() == expected.keys()
        assert sum(drift.values()) == 1
        assert sum(expected.values()) == pytest.approx(1)


@pytest.mark.kafka
def test_a_published_bundle_decides_the_next_payments_without_a_restart(made: Deployment, bundles: Bundles) -> None:
    version = bundles.version(bundles.strict)
    dry = aegis(made, "publish", str(bundles.strict), "--note", "try", "--dry-run")
    assert (dry, made.records(Name.BUNDLES)) == ({"bundle": version, "was": None, "offset": None}, [])

    assert aegis(made, "publish", str(bundles.strict), "--note", "stricter", "--by", "ana")["offset"] == 0
    await_bundle(made, version)
    found = decided(made, "published")

    assert (found["bundle"], found["outcome"], found["reasons"][0]["code"]) == (version, "review", "models")
    assert {reason["code"] for reason in found["reasons"][1:]} & {"model_amount", "model_place", "model_rhythm", "model_unusual"}
    assert view(made.workers[0])["source"].items() >= {"offset": 0, "author": "ana", "note": "stricter", "from": "bundles-bundles"}.items()
    assert aegis(made, "publish", str(bundles.strict), "--note", "again")["offset"] is None


@pytest.mark.kafka
def test_a_bundle_at_an_address_is_downloaded_and_checked(made: Deployment, bundles: Bundles, served: str) -> None:
    version = bundles.version(bundles.stricter)

    assert aegis(made, "publish", f"{served}/stricter/", "--note", "from elsewhere")["was"] == bundles.version(bundles.strict)
    await_bundle(made, version)

    assert decided(made, "downloaded")["outcome"] == "block"
    kept = [path.name for path in (made.workers[0].directory / "data" / "bundles").iterdir()]
    assert kept == [sha256((bundles.stricter / MANIFEST).read_bytes()).hexdigest()]


@pytest.mark.kafka
def test_a_bundle_that_cannot_serve_leaves_the_one_before_and_everybody_sees_it(made: Deployment, bundles: Bundles) -> None:
    serves, wanted = bundles.version(bundles.stricter), bundles.version(bundles.lax)
    other = sha256((bundles.strict / MANIFEST).read_bytes()).hexdigest()
    published = Published(version=wanted, checksum=other, source=str(bundles.lax), author="eve", note="not what it says", at=NOON)
    made.put(Name.BUNDLES, 0, [Outgoing(wanted.encode(), msgspec.json.encode(published))])
    wait_until(lambda: view(made.workers[0])["refused"] is not None, 30, made)

    status, ready = made.workers[0].get("/ready")
    assert status == 200
    assert ready["behind"] == [
        f"bundle {wanted} is refused: {bundles.lax / MANIFEST} is not what was published: its checksum differs; bundle {serves} serves on"
    ]
    assert series(made, "aegis_bundle_refused") == {"": 1}
    assert decided(made, "refused")["bundle"] == serves

    made.workers[0].stop()
    made.workers[0].start("-l", "info").wait_until_ready()
    assert view(made.workers[0])["bundle"] == serves, "a restart goes back to the latest that can be loaded"
    assert f"Bundle {wanted} is refused: " in made.workers[0].log.read_text(), "nothing served before"
    assert series(made, "aegis_bundle_refused") == {"": 1}


@pytest.mark.kafka
def test_rollback_leads_back_and_history_tells_all(made: Deployment, bundles: Bundles) -> None:
    lax, strict, stricter = map(bundles.version, (bundles.lax, bundles.strict, bundles.stricter))

    assert aegis(made, "rollback")["bundle"] == stricter
    wait_until(lambda: view(made.workers[0])["refused"] is None, 30, made)
    assert aegis(made, "rollback", strict)["was"] == stricter
    await_bundle(made, strict)

    assert made.aegis("bundles", "rollback", "no-such-bundle").stderr == (
        "aegis: there is no bundle no-such-bundle on bundles-bundles; see `aegis bundles history`. "
        "`aegis bundles withdraw` lets rules decide alone\n"
    )
    past = made.aegis("bundles", "history", "--json").stdout.splitlines()
    assert [(each["bundle"], each["state"]) for each in map(json.loads, past)] == [
        (strict, "past"),
        (stricter, "past"),
        (lax, "past"),
        (stricter, "past"),
        (strict, "in force"),
    ]


@pytest.mark.kafka
def test_withdrawn_no_bundle_serves_whatever_the_setting_says_and_rollback_leads_back(made: Deployment, bundles: Bundles) -> None:
    serves = bundles.version(bundles.strict)

    assert aegis(made, "withdraw", "--note", "too many reviews", "--by", "ana").items() >= {"bundle": None, "was": serves}.items()
    wait_until(lambda: view(made.workers[0])["bundle"] is None, 30, made)
    found = decided(made, "withdrawn")
    assert (found["bundle"], found["outcome"], found["degraded"]) == (None, "allow", False)
    assert view(made.workers[0])["source"].items() >= {"author": "ana", "note": "too many reviews", "source": None}.items()
    assert aegis(made, "withdraw")["offset"] is None

    made.workers[0].stop()
    made.workers[0].start("-l", "info").wait_until_ready()
    assert (view(made.workers[0])["bundle"], view(made.workers[0])["refused"]) == (None, None)

    assert aegis(made, "rollback")["bundle"] == serves
    await_bundle(made, serves)
    assert "  past  too many reviews  (by ana)" in made.aegis("bundles", "history").stdout


@pytest.mark.kafka
def test_the_first_bundle_is_withdrawn_where_there_is_none_to_go_back_to(kafka: str, bundles: Bundles, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "first-bundle") as made:
        aegis(made, "publish", str(bundles.strict), "--note", "the first")
        refused = made.aegis("bundles", "rollback")
        assert refused.exit_code == 1
        assert "there is no earlier bundle" in refused.stderr
        assert "`aegis bundles withdraw` lets rules decide alone" in refused.stderr

        assert "no bundle is in force, rules decide alone" in made.aegis("bundles", "withdraw").stdout


@pytest.mark.kafka
def test_what_was_decided_stands_whichever_bundle_serves_after_a_crash(made: Deployment, bundles: Bundles) -> None:
    """A decision on the log that nobody learnt yet is what a kill between publishing and learning leaves."""
    worker, (lax, stricter) = made.workers[0], map(bundles.version, (bundles.lax, bundles.stricter))
    aegis(made, "publish", str(bundles.lax), "--note", "lax")
    await_bundle(made, lax)
    made.await_settled()
    worker.kill()
    orphan = payment(transaction_id="orphan", card_id="orphan")
    ((partition, offset),) = made.pay(orphan)
    ruling = screen(None, orphan, Terms(parse_policy(POLICY), bundle=serve(bundles.lax)), receipt(orphan), offset).ruling
    source = [("source", b"%d:%d" % (partition, offset))]
    made.put(Name.DECISIONS, partition, [Outgoing(b"orphan", encode_decision(orphan, ruling), source)])
    aegis(made, "publish", str(bundles.stricter), "--note", "stricter")
    worker.start("-l", "info").wait_until_ready()
    made.await_settled()

    paid = [payment(transaction_id=f"k{number}", card_id=f"k{number % 40}", seconds=number) for number in range(1500)]
    before = made.decided()
    made.send_many([(txn.card_id.encode(), encode_transaction(txn)) for txn in paid[:750]])
    wait_until(lambda: made.decided() > before, 30, made)
    worker.kill()
    aegis(made, "publish", str(bundles.lax), "--note", "lax again")
    made.send_many([(txn.card_id.encode(), encode_transaction(txn)) for txn in paid[750:]])
    worker.start("-l", "info").wait_until_ready()
    made.await_settled()

    outcomes = {stricter: "block", lax: "allow"}
    decisions = made.decisions()
    assert sorted(each["transaction_id"] for each in decisions if each["transaction_id"] in {*ids(paid), "orphan"}) == sorted(
        [*ids(paid), "orphan"]
    )
    for each in decisions:
        if each["transaction_id"] in ids(paid):
            assert each["outcome"] == outcomes[each["bundle"]]
    (found,) = (each for each in decisions if each["transaction_id"] == "orphan")
    assert (found["bundle"], found["outcome"]) == (lax, "allow")
    remembered = worker.get("/cards/orphan")[1]
    assert ([each["refused"] for each in remembered["attempts"]], remembered["habit"]["payments"]) == ([False], 1)


def ids(paid: list[Transaction]) -> set[str]:
    return {txn.transaction_id for txn in paid}


@pytest.mark.kafka
def test_a_setting_that_names_no_bundle_stops_the_start(made: Deployment, tmp_path: Path) -> None:
    worker = Worker(tmp_path / "worker", made.workers[0].port, {"AEGIS_BUNDLE": str(tmp_path)}).start()
    wait_until(lambda: worker.pid is None, 60)

    assert worker.returncode == 1
    assert f"aegis: AEGIS_BUNDLE: {tmp_path}: no bundle here" in worker.last_words()


def test_records_that_name_no_bundle_are_passed_over() -> None:
    good = Published(version="0123456789ab", checksum="0" * 64, source="/b", author="ana", note="n", at=NOON)
    releases = Releases()
    releases.apply(
        [
            record(0, b"0123456789ab", msgspec.json.encode(good)),
            record(1, b"another", msgspec.json.encode(good)),
            record(2, b"0123456789ab", b"{}"),
            record(3, b"0123456789ab", msgspec.json.encode(good).replace(b'"0123456789ab"', b'"../../etc/p"')),
            record(4, b"0123456789ab", msgspec.json.encode(msgspec.structs.replace(good, checksum=None))),
        ]
    )

    assert [each.offset for each in releases.past] == [0]
    releases.apply([record(5, b"0123456789ab", None)])
    assert releases.latest is None


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("ftp://host/bundle", "begins with http:// or https://"),
        ("file:///etc", "begins with http:// or https://"),
        ("https://ana:secret@host/bundle", "no user, password"),
        ("https://host/bundle?token=1", "no user, password"),
        ("http://127.0.0.1:9/bundle", "cannot be downloaded"),
        ("nowhere", "can this worker read it"),
    ],
)
def test_a_source_that_nobody_can_read_is_refused_before_it_is_published(source: str, why: str) -> None:
    result = CliRunner().invoke(main, ["bundles", "publish", source, "--note", "why"])

    assert result.exit_code == 1
    assert why in result.stderr
    assert "secret" not in result.stderr


def test_a_download_is_refused_where_a_byte_differs(bundles: Bundles, trained: Trained, tmp_path: Path) -> None:
    trained.asking(tmp_path / "odd", 0.3)
    (tmp_path / "odd" / "supervised.onnx").write_bytes(b"other")
    with serving(tmp_path) as address:
        result = CliRunner().invoke(main, ["bundles", "publish", f"{address}/odd", "--note", "why", "--dry-run"])

    assert (result.exit_code, "supervised.onnx is not what was written: its checksum differs" in result.stderr) == (1, True)


def test_files_are_decided_and_judged_by_a_bundle_too(bundles: Bundles, tmp_path: Path) -> None:
    payments, without = tmp_path / "payments.jsonl", tmp_path / "without.toml"
    payments.write_bytes(b"\n".join(encode_transaction(payment(transaction_id=f"t{n}", card_id=f"c{n}")) for n in range(3)))
    without.write_text('[models]\nstate = "off"\n')

    decided = CliRunner().invoke(main, ["decide", str(payments), "--bundle", str(bundles.strict)])
    judged = CliRunner().invoke(
        main, ["backtest", str(payments), "--json", "--bundle", str(bundles.strict), "--policy", str(without), "--policy", str(DEFAULT)]
    )

    rulings = [json.loads(line) for line in decided.stdout.splitlines()]
    assert {(ruling["bundle"], ruling["verdict"]) for ruling in rulings} == {(bundles.version(bundles.strict), "review")}
    before, after = json.loads(judged.stdout)["policies"]
    hits = {each["rule"]: (each["hits"]["payments"], each["text"][:10]) for each in after["rules"]}
    assert hits["models"] == (3, "The models")
    assert "models" not in {each["rule"] for each in before["rules"]}
    assert [each["flagged"][0]["caught"]["payments"] for each in (before, after)] == [0, 3]
