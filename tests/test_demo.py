"""The demo: what it counts and shows, that it tells a good run from a bad one, and that nothing of it is left."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from aegis_app.access import connect
from aegis_app.bundles import Published
from aegis_app.core.decision import Reason
from aegis_app.core.payment import Outcome, Transaction
from aegis_app.core.policy import Mode, parse_policy
from aegis_app.demo import DemoError, learning, run, traffic
from aegis_app.demo.interrupts import Interrupts
from aegis_app.demo.screen import Scene, render
from aegis_app.demo.show import line, picture
from aegis_app.demo.stack import enforcing
from aegis_app.demo.tally import (
    BLOCKED_SHOWN,
    KINDS,
    RECENT,
    Answer,
    Count,
    Flagged,
    Stopped,
    Tally,
    briefly,
    faults,
    percentile,
    share,
    summary,
)
from aegis_app.demo.training import Training
from aegis_app.settings import Settings
from aegis_app.simulate import Labelled
from aegis_app.topics import Name
from models.bundle import load
from tests.deployment import Deployment, wait_until
from tests.tools import tool

TESTING, STOLEN, TAKEOVER = "card_testing", "stolen_card", "account_takeover"


def labelled(number: int, fraud: str | None = None, card_id: str = "c1") -> Labelled:
    txn = Transaction(
        transaction_id=f"t{number}",
        card_id=card_id,
        amount_minor=12_50,
        currency="EUR",
        timestamp=datetime(2024, 2, 1, 9, number % 60, tzinfo=UTC),
    )
    return Labelled(txn, fraud, txn.at)


def answer(number: int, outcome: Outcome = Outcome.ALLOW) -> Answer:
    return Answer(f"t{number}", outcome, [] if outcome is Outcome.ALLOW else [Reason("velocity_1m", "5 payments in a minute")])


def tallied(*cases: tuple[str | None, Outcome]) -> Tally:
    """Each case sent and decided, 4 ms apart."""
    tally = Tally()
    for number, (fraud, outcome) in enumerate(cases):
        tally.send(labelled(number, fraud), number)
        tally.decide(answer(number, outcome), number + 0.004)
    return tally


SCENE = Scene(
    running=62.0,
    left=None,
    rate=200.2,
    p50=0.0031,
    p99=0.0182,
    genuine=Count(12_289, 9, 1),
    frauds=(Count(30, 0, 61), Count(), Count(8, 2, 0), *[Count()] * 4),
    blocked=(
        Stopped(labelled(7).transaction, [Reason("impossible_travel", "8,796 km from the last payment, which takes 5,773 km/h")], None),
        Stopped(labelled(5).transaction, [Reason("card_testing", "4 tiny amounts"), Reason("velocity_1m", "5 in a minute")], TESTING, 3),
    ),
    simulated=datetime(2024, 2, 2, 14, 5, tzinfo=UTC),
    passed=timedelta(hours=62),
    cards=3200,
    url="http://127.0.0.1:6066",
    card="c1",
    models="bundle 0123456789ab, trained meanwhile",
    layers=(Flagged("rules", 60, 101, 10, 12_299), Flagged("isolation_forest", 20, 101, 61, 12_299)),
)
SCREEN = """\
 Aegis decides card payments as they come                             running 1:02 · Ctrl-C ends it
 3,200 simulated cardholders. Their time: 2 Feb 2024, 14:05 UTC, 3,600 times as fast as yours

 payments ─────────  allowed ──────────  for review ───────  blocked ──────────  send to decision ─
 12,400              12,327              11                  62                  p50 3.1 ms
 200 a second        99.4 %              0.09 %              0.50 %              p99 18.2 ms

 frauds caught 63 of 101, false alarms 10 of 12,299 ───────  views on http://127.0.0.1:6066 ───────
 in truth               allowed    review  blocked  stopped  /health    is it well
 card testing                30         0       61     67 %  /rules     the policy
 enumeration                  0         0        0        -  /bundle    the models
 stolen card                  8         2        0     20 %  /metrics   all figures
 account takeover             0         0        0        -  /cards/c1  one card
 compromised terminal         0         0        0        -  layers: frauds seen, false alarms ────
 slow bleed                   0         0        0        -  rules             59 %  0.08 %
 merchant collusion           0         0        0        -  isolation forest  20 %  0.50 %
 genuine                 12,289         9        1   0.08 %

 cards blocked last, and why ──────────────────────────────────────────────────────────────────────
 1 Feb 09:07  12.50 EUR  ✗ genuine          8,796 km from the last payment, which takes 5,773 km/h
 1 Feb 09:05  12.50 EUR  ✓ card testing ×3  4 tiny amounts
                                            5 in a minute
"""  # noqa: RUF001


def text(scene: Scene, width: int = 100, height: int = 26) -> str:
    console = Console(width=width, height=height, file=StringIO(), force_terminal=True, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(render(scene))
    return "\n".join(row.rstrip() for row in capture.get().splitlines())


def test_the_screen_shows_all_there_is_to_see() -> None:
    assert text(SCENE).rstrip("\n") == SCREEN.rstrip("\n")


def test_the_screen_tells_how_to_pay_at_the_gateway() -> None:
    shown = text(msgspec.structs.replace(SCENE, trial=Path("/tmp/aegis-demo-x/pay.sh")))

    assert shown.splitlines()[2].strip() == "Pay at the gateway yourself: sh /tmp/aegis-demo-x/pay.sh"


def test_the_screen_says_when_the_worker_is_behind() -> None:
    busy, behind = (text(msgspec.structs.replace(SCENE, waiting=waiting)).splitlines()[5] for waiting in (400, 1_401))

    assert busy.split()[:3] == ["200", "a", "second"]
    assert behind.split()[:2] == ["1,401", "waiting"]


def test_the_screen_fits_before_the_first_payment_and_in_a_small_window() -> None:
    empty = msgspec.structs.replace(
        SCENE,
        running=0.0,
        genuine=Count(),
        frauds=(Count(),) * len(KINDS),
        blocked=(),
        simulated=None,
        passed=timedelta(),
        card=None,
        p50=None,
        p99=None,
    )

    rows = text(empty, width=80, height=24).splitlines()

    assert len(rows) <= 24
    assert max(map(len, rows)) <= 80


def test_a_line_stands_for_the_screen_elsewhere() -> None:
    assert line(SCENE) == (
        "1:02  12,400 decided, 200 a second; 11 for review, 62 blocked; frauds caught 63 of 101; p50 3.1 ms, p99 18.2 ms; "
        "bundle 0123456789ab, trained meanwhile"
    )


def test_while_no_models_serve_it_says_why() -> None:
    waiting = msgspec.structs.replace(SCENE, layers=(), models="models are being trained on their past")

    assert "models are being trained on their past" in text(waiting)


def test_layers_are_counted_from_when_models_serve() -> None:
    tally = tallied((None, Outcome.ALLOW), (TESTING, Outcome.BLOCK))
    assert tally.layers == []

    for number, fraud in ((10, None), (11, TESTING), (12, STOLEN)):
        tally.send(labelled(number, fraud), number)
        said = Answer(f"t{number}", Outcome.ALLOW, bundle="b1", isolation_forest=0.5, autoencoder=0.999, supervised=number / 20)
        tally.decide(msgspec.structs.replace(said, rules=["velocity_1m"] if number == 11 else []), number)

    assert tally.layers == [
        Flagged("rules", 1, 2, 0, 1),
        Flagged("isolation_forest", 0, 2, 0, 1),
        Flagged("autoencoder", 2, 2, 1, 1),
        Flagged("supervised", 2, 2, 1, 1),
    ]


def test_the_picture_loads_nothing_from_elsewhere() -> None:
    drawn = picture(SCENE)

    assert drawn.startswith("<svg")
    assert not re.findall(r"url\(.?http|href=.?http|src:", drawn)


@pytest.mark.parametrize(
    ("ordered", "asked", "found"),
    [([], 0.5, None), ([7.0], 0.99, 7.0), ([1.0, 2.0], 0.5, 1.0), ([1.0, 2.0, 3.0], 0.5, 2.0), (list(range(1, 101)), 0.99, 99)],
)
def test_a_percentile_is_the_nearest_rank(ordered: list[float], asked: float, found: float | None) -> None:
    assert percentile(ordered, asked) == found


@pytest.mark.parametrize(("taken", "said"), [(None, "-"), (0.0031, "3.1 ms"), (0.0999, "99.9 ms"), (0.1, "100 ms"), (2.5, "2,500 ms")])
def test_a_latency_is_said_in_milliseconds(taken: float | None, said: str) -> None:
    assert briefly(taken) == said


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(0, 0, "-"), (0, 9, "0 %"), (9, 9, "100 %"), (1, 2, "50 %"), (1, 20, "5.0 %"), (1, 5000, "0.02 %"), (4999, 5000, "100.0 %")],
)
def test_a_share_has_the_more_digits_the_nearer_to_none_or_all(part: int, whole: int, said: str) -> None:
    assert share(part, whole) == said


def test_outcomes_are_counted_against_the_truth() -> None:
    tally = tallied(
        (None, Outcome.ALLOW), (None, Outcome.REVIEW), (TESTING, Outcome.BLOCK), (TESTING, Outcome.ALLOW), (STOLEN, Outcome.REVIEW)
    )

    assert tally.of(None) == Count(allowed=1, reviewed=1, blocked=0)
    assert tally.of(TESTING) == Count(allowed=1, reviewed=0, blocked=1)
    assert tally.frauds == Count(allowed=1, reviewed=1, blocked=1)
    assert tally.all.payments == 5
    assert [each.fraud for each in tally.blocked] == [TESTING]


def test_latency_runs_from_send_to_decision() -> None:
    tally = Tally()
    for number, taken in enumerate((0.002, 0.004, 0.1)):
        tally.send(labelled(number), 10.0)
        tally.decide(answer(number), 10.0 + taken)

    assert tally.latencies(0.5, 0.99) == [pytest.approx(0.004), pytest.approx(0.1)]


def test_the_rate_is_that_of_late() -> None:
    tally = tallied(*[(None, Outcome.ALLOW)] * 20)

    assert tally.rate(now=19.5, running=19.5) == 1.0
    assert tally.rate(now=60.0, running=60.0) == 0.0
    assert tally.rate(now=0.0, running=0.0) == 0.0


def test_a_card_blocked_again_and_again_is_listed_once() -> None:
    tally = Tally()
    for number, card_id in enumerate(("c1", "c2", "c1", "c1")):
        tally.send(labelled(number, TESTING, card_id), 0.0)
        tally.decide(answer(number, Outcome.BLOCK), 1.0)

    assert [(each.transaction.card_id, each.times) for each in tally.blocked] == [("c1", 3), ("c2", 1)]


def test_a_long_run_is_remembered_by_its_end_alone() -> None:
    tally = Tally()
    for number in range(RECENT + 50):
        tally.send(labelled(number, TESTING, f"c{number}"), number)
        tally.decide(answer(number, Outcome.BLOCK), number + (1.0 if number < 50 else 0.004))

    assert tally.decided == RECENT + 50
    assert tally.latencies(1.0) == [pytest.approx(0.004)]
    assert [each.transaction.card_id for each in tally.blocked] == [f"c{RECENT + 49 - back}" for back in range(BLOCKED_SHOWN)]
    assert tally.waiting == 0


def test_a_good_run_is_without_fault() -> None:
    assert faults(tallied((None, Outcome.ALLOW), (STOLEN, Outcome.REVIEW)), 20) == []


def test_a_payment_without_a_decision_is_a_fault() -> None:
    tally = tallied((STOLEN, Outcome.BLOCK))
    tally.send(labelled(99), 1.0)

    assert faults(tally, 20) == ["1 of 2 payments were not decided within 20 s of the last one"]


def test_a_second_decision_is_a_fault() -> None:
    tally = tallied((STOLEN, Outcome.BLOCK))
    tally.decide(answer(0, Outcome.BLOCK), 1.0)

    assert faults(tally, 20) == ["1 of 2 decisions came a second time"]


def test_catching_no_fraud_is_a_fault() -> None:
    assert faults(tallied((None, Outcome.BLOCK), (TAKEOVER, Outcome.ALLOW)), 20) == ["none of 1 fraudulent payments was caught"]


def test_the_summary_tells_the_run_in_four_lines() -> None:
    tally = tallied((None, Outcome.ALLOW), (None, Outcome.REVIEW), (TESTING, Outcome.BLOCK), (TAKEOVER, Outcome.ALLOW))

    assert summary(tally) == [
        "4 payments sent, 4 decided: 2 allowed, 1 for review, 1 blocked",
        "latency from send to decision, latest 4: p50 4.0 ms, p99 4.0 ms",
        "frauds caught 1 of 2: card testing 1 of 1, enumeration 0 of 0, stolen card 0 of 0, account takeover 0 of 1, "
        "compromised terminal 0 of 0, slow bleed 0 of 0, merchant collusion 0 of 0",
        "false alarms 1 of 2 genuine payments (50 %)",
    ]


def test_the_first_frauds_come_soon_and_no_payment_lies_in_the_future() -> None:
    live = (each for each in traffic.lives() if each.transaction.timestamp >= traffic.BEGIN + traffic.WARM_DAYS)
    shown = list(islice(live, 5 * traffic.RATE))

    assert sum(each.fraud is not None for each in shown) >= 5
    assert shown[-1].transaction.timestamp < datetime.now(UTC)


def test_the_demo_enforces_whatever_the_policy_says(tmp_path: Path) -> None:
    silent = tmp_path / "policy.toml"
    silent.write_text('[rules.card_testing]\nstate = "on"\nasks = "block"\nmost = 5\n')

    assert parse_policy(enforcing(Settings())).mode is Mode.ENFORCE
    assert parse_policy(enforcing(Settings(policy=silent))).mode is Mode.ENFORCE


def test_data_goes_to_a_new_directory_only(tmp_path: Path) -> None:
    (tmp_path / "something").touch()

    with pytest.raises(DemoError, match="is there already: name a new directory"):
        run(Settings(), 1, keep=tmp_path)


def test_a_signal_waits_for_a_child_to_be_born() -> None:
    born = []

    def bear(interrupts: Interrupts) -> None:
        with interrupts.held():
            signal.raise_signal(signal.SIGTERM)
            born.append("child")
        born.append("more")

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        bear(interrupts)

    assert born == ["child"]


def test_no_signal_disturbs_the_ending() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        interrupts.ignore()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    assert signal.getsignal(signal.SIGINT) is before


@contextmanager
def demo(directory: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`aegis demo` in a session of its own, its data below `directory`; a failing test leaves nothing behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "aegis_app", "demo", "--no-models", *arguments],
        env=os.environ | {"TMPDIR": str(directory)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """What it says until a line with `word`, or its end."""
    assert process.stdout is not None
    said = ""
    for row in process.stdout:
        said += row
        if word in row:
            break
    return said


def riskiest(views: str) -> Any:
    with urllib.request.urlopen(f"{views}/merchants?order=risk", timeout=30) as answer:
        return msgspec.json.decode(answer.read())


def children(said: str) -> list[int]:
    return [int(number) for number in re.findall(r"\(process (\d+)\)", said)]


def lives(leader: int) -> bool:
    """Whether any process is left in the session that `leader` opened."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.kafka
def test_unattended_it_decides_each_payment_once_and_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", "8") as process:
        said = read_until(process, " a second; ")
        (paste,) = re.findall(r"Try it:  (curl .*)", said)
        pasted = subprocess.run([tool("bash"), "-c", paste], capture_output=True, text=True, check=True)
        (pay,) = tmp_path.rglob("pay.sh")
        assert pay.read_text() == f"{paste}\necho\n"
        assert pay.stat().st_mode & 0o777 == 0o600
        (views,) = re.findall(r"views on (\S+)", said)
        wait_until(lambda: riskiest(views)["as_of"] is not None, 60)
        as_of = riskiest(views)["as_of"]
        said += read_until(process, "no such word")

        assert process.wait(30) == 0, said
    assert '"duplicate":false' in pasted.stdout
    assert as_of.startswith("2024"), "who pays at the gateway is not two years ahead of everybody"
    sent, decided = re.findall(r"([\d,]+) payments sent, ([\d,]+) decided", said)[0]
    assert sent == decided
    assert int(sent.replace(",", "")) > 6 * traffic.RATE
    assert "nothing is left running" in said
    assert len(children(said)) == 4
    assert 'Paid:    {"transaction_id":"try-1","outcome":' in said
    assert not [pid for pid in children(said) if lives(pid)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("number", "moment", "code"),
    [(signal.SIGINT, " a second; ", 0), (signal.SIGTERM, "cardholders", 1)],
    ids=["SIGINT-while-it-shows", "SIGTERM-while-it-starts"],
)
def test_a_signal_ends_all_of_it_within_20_seconds(tmp_path: Path, number: signal.Signals, moment: str, code: int) -> None:
    with demo(tmp_path) as process:
        said = read_until(process, moment)
        running = [pid for pid in children(said) if lives(pid)]
        os.killpg(process.pid, number)

        assert process.wait(20) == code
        said += read_until(process, "no such word")
    assert running == children(said)
    assert running
    assert not [pid for pid in running if lives(pid)]
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kafka
def test_a_worker_that_dies_ends_it_with_the_reason_and_leaves_nothing_on_the_broker_of_others(kafka: str, tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", "60", AEGIS_BROKER=kafka) as process:
        said = read_until(process, " a second; ")
        worker, *_ = children(said)
        assert any(topic.startswith("aegis-demo-") for topic in topics(kafka))
        os.kill(worker, signal.SIGKILL)
        said += read_until(process, "aegis: ")

        assert process.wait(20) == 1
    assert "aegis: the worker ended with status -9" in said
    assert not [pid for pid in children(said) if lives(pid)]
    assert not [topic for topic in topics(kafka) if topic.startswith("aegis-demo-")]


@pytest.mark.kafka
def test_what_was_trained_meanwhile_is_published(kafka: str, tmp_path: Path) -> None:
    """With few cardholders; the process is one that has ended."""
    with Deployment(kafka, tmp_path, "trained-meanwhile") as made:
        training = Training(made.settings, tmp_path, {})
        assert training.state == "rules decide alone"
        asyncio.run(training.look())
        learning.main(tmp_path / "bundle", cards=250, part=1)
        training._process = subprocess.Popen([sys.executable, "-c", ""])
        training._process.wait()
        asyncio.run(training.look())

        (record,) = made.records(Name.BUNDLES)
    published = msgspec.json.decode(record.value, type=Published)
    assert training.state == f"bundle {published.version}, trained meanwhile"
    manifest = load(Path(published.source or "")).manifest
    assert manifest.version == published.version
    assert {layer.name for layer in manifest.layers} == {"isolation_forest", "autoencoder", "supervised"}
    assert (manifest.metrics["ensemble"]["roc_auc"] or 0) > 0.7


def test_a_training_that_fails_is_told(tmp_path: Path) -> None:
    training = Training(Settings(), tmp_path, {})
    training._process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    training._process.wait()
    asyncio.run(training.look())

    assert training.state.startswith("rules decide alone: the training failed, see ")


def topics(broker: str) -> set[str]:
    async def ask() -> set[str]:
        async with connect(Settings(broker=broker)) as client:
            return set(await client.list_topics())

    return asyncio.run(ask())
