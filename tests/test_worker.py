"""A running worker on a real Kafka: what strangers send, and what people ask of it."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import psutil
import pytest
from aiokafka import AIOKafkaProducer

from aegis_app.core.card import encode_card
from aegis_app.core.intake import HIDDEN, Past, encode_history
from aegis_app.core.payment import Transaction, encode_transaction
from aegis_app.deployment import check_base_currency
from aegis_app.kafka.ports import free_port
from aegis_app.metrics import PARTS
from aegis_app.process import Worker
from aegis_app.stream.outbox import Outgoing
from aegis_app.topics import REDRIVEN, Name, changelog, home
from tests.deployment import PARTITIONS, Deployment, wait_until
from tests.make import payment, remember

pytestmark = pytest.mark.kafka

CARD_NUMBER = "4111111111111111"
GOOD = msgspec.json.decode(encode_transaction(payment()))


@pytest.fixture(scope="module")
def deployment(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("deployment")
    policy = directory / "policy.toml"
    policy.write_text('mode = "enforce"\n[rules.velocity_1m]\nstate = "on"\nasks = "block"\nmost = 3\n')
    with Deployment(kafka, directory, "strangers", AEGIS_POLICY=str(policy), AEGIS_DEAD_LETTER_SHARE="1") as made:
        made.worker().wait_until_ready()
        yield made


def changed(**fields: Any) -> bytes:
    return msgspec.json.encode(GOOD | fields)


def without(name: str) -> bytes:
    return msgspec.json.encode({field: value for field, value in GOOD.items() if field != name})


KEY = b"card-1"
BAD: dict[str, tuple[bytes | None, bytes | None, str]] = {
    "not JSON": (b"hello", KEY, "malformed"),
    "half of it": (encode_transaction(payment())[:40], KEY, "malformed"),
    "not UTF-8": (b'{"transaction_id": "\xff\xfe"}', KEY, "malformed"),
    "nothing": (None, KEY, "empty"),
    "an empty value": (b"", KEY, "empty"),
    "a list": (b"[]", KEY, "invalid"),
    "no amount": (without("amount_minor"), KEY, "invalid"),
    "amount as text": (changed(amount_minor="12"), KEY, "invalid"),
    "amount with a fraction": (changed(amount_minor=12.5), KEY, "invalid"),
    "a negative amount": (changed(amount_minor=-1), KEY, "invalid"),
    "an amount beyond 2^53": (changed(amount_minor=2**53 + 1), KEY, "invalid"),
    "NaN": (changed(amount_minor=0).replace(b'"amount_minor":0', b'"amount_minor":NaN'), KEY, "malformed"),
    "infinity": (changed(latitude=1).replace(b'"latitude":1,', b'"latitude":1e999,'), KEY, "invalid"),
    "minus infinity": (changed(latitude=1).replace(b'"latitude":1,', b'"latitude":-Infinity,'), KEY, "malformed"),
    "half a position": (without("longitude"), KEY, "invalid"),
    "a position beyond the pole": (changed(latitude=90.1), KEY, "invalid"),
    "a time without offset": (changed(timestamp="2026-03-04T12:00:00"), KEY, "invalid"),
    "a time before 2000": (changed(timestamp="1999-12-31T23:59:59Z"), KEY, "invalid"),
    "a time in the far future": (changed(timestamp="2090-03-04T12:00:00Z"), KEY, "future"),
    "a time after 2099": (changed(timestamp="2126-03-04T12:00:00Z"), KEY, "invalid"),
    "an unknown kind": (changed(kind="gift"), KEY, "invalid"),
    "a currency in words": (changed(currency="euro"), KEY, "invalid"),
    "an id too long": (changed(transaction_id="x" * 65), KEY, "invalid"),
    "a line break in an id": (changed(transaction_id="a\nb"), KEY, "invalid"),
    "no key": (encode_transaction(payment()), None, "key"),
    "an empty key": (encode_transaction(payment()), b"", "key"),
    "another's key": (encode_transaction(payment()), b"card-2", "key"),
    "deep nesting": (b'{"deep":' + b"[" * 50_000 + b"]" * 50_000 + b"}", KEY, "malformed"),
    "too many attributes": (changed(attributes={f"a{n}": n for n in range(300)}), KEY, "invalid"),
    "almost a record's size": (b'{"padding":"' + b"x" * 990_000, KEY, "malformed"),
}


def test_bad_input_becomes_a_dead_letter_and_the_stream_goes_on(deployment: Deployment) -> None:
    sent = {name: deployment.send(value, key) for name, (value, key, _) in BAD.items()}
    wrong_home = deployment.send(encode_transaction(payment(card_id="stray")), b"stray", partition=1 - home(b"stray", PARTITIONS))
    after = deployment.pay(payment(card_id="after", transaction_id="after"))
    deployment.await_settled()

    letters = {source(record.headers): record for record in deployment.records(Name.DEAD_LETTERS)}

    for name, (value, key, reason) in BAD.items():
        letter = letters[sent[name]]
        assert dict(letter.headers)["reason"].decode() == reason, name
        assert letter.value == value, name
        assert letter.key == key, name
    assert b"partitioner=murmur2_random" in dict(letters[wrong_home].headers)["error"]
    assert after[0] not in letters
    assert any(decision["transaction_id"] == "after" for decision in deployment.decisions())


def test_a_card_number_is_found_nowhere(deployment: Deployment) -> None:
    spaced = "4111 1111 1111 1111"
    escaped = changed(card_id="X").replace(b'"X"', b'"\\u0034111111111111111"')
    sent = [
        deployment.send(changed(card_id=CARD_NUMBER), CARD_NUMBER.encode()),
        deployment.send(changed(card_id=spaced), spaced.encode()),
        deployment.send(escaped, KEY),
        deployment.send(b'{"oops": "card ' + CARD_NUMBER.encode(), KEY),
        deployment.send(changed(kind=CARD_NUMBER), KEY),
    ]
    deployment.await_settled()

    letters = {source(record.headers): record for record in deployment.records(Name.DEAD_LETTERS)}
    text = b"".join(part for record in letters.values() for part in (record.key or b"", record.value or b"", str(record.headers).encode()))
    logged = deployment.workers[0].log.read_bytes()

    for place in sent:
        assert dict(letters[place].headers)["redacted"] == b"true"
    assert HIDDEN in text
    for form in (CARD_NUMBER.encode(), spaced.encode(), b"\\u0034"):
        assert form not in text
        assert form not in logged


def test_a_record_at_kafkas_limit_is_cut_and_says_so(deployment: Deployment) -> None:
    place = deployment.send(b"y" * (1_000_000 - 200), KEY)
    deployment.await_settled()

    letter = next(record for record in deployment.records(Name.DEAD_LETTERS) if source(record.headers) == place)

    assert letter.value == b"y" * len(letter.value)
    assert dict(letter.headers)["cut"].startswith(b"999800 bytes, sha256 ")


def test_each_payment_is_decided_once_and_a_repeat_is_answered_as_before(deployment: Deployment) -> None:
    burst = [payment(card_id="burst", transaction_id=f"burst-{n}", seconds=n) for n in range(4)]
    deployment.pay(*burst, burst[3], payment(card_id="burst", transaction_id="burst-3", seconds=3, amount_minor=1))
    deployment.await_settled()

    found = [decision for decision in deployment.decisions() if decision["card_id"] == "burst"]
    first, again, conflict = found[3:]

    assert [decision["outcome"] for decision in found[:4]] == ["allow", "allow", "allow", "block"]
    assert first["reasons"][0]["text"].startswith("4 payments in a minute")
    assert first["features"]["attempts_1m"] == 3
    for repeat in (again, conflict):
        assert repeat["duplicate"]
        assert (repeat["outcome"], repeat["score"]) == ("block", first["score"])
        assert [reason["code"] for reason in repeat["reasons"]] == ["velocity_1m"]
    assert (again["conflict"], conflict["conflict"]) == (False, True)
    metrics = deployment.workers[0].get("/metrics")[1]
    assert value(metrics, "aegis_conflicts_total") == 1
    spent = {stage: value(metrics, f'aegis_stage_seconds_sum{{stage="{stage}"}}') or 0.0 for stage in ("judge", *PARTS)}
    assert all(spent.values())
    assert sum(spent[part] for part in PARTS) < spent["judge"]


async def produce_in_transactions(deployment: Deployment, card_id: str, number: int) -> None:
    """A payment in each transaction, every second of them aborted."""
    producer = AIOKafkaProducer(**deployment.settings.connection(), transactional_id="upstream")
    await producer.start()
    for n in range(number):
        txn = payment(card_id=card_id, transaction_id=f"{'abort' if n % 2 else 'keep'}-{n}", minute=n)
        await producer.begin_transaction()
        await producer.send(deployment.topic(Name.TRANSACTIONS), encode_transaction(txn), card_id.encode())
        await (producer.abort_transaction() if n % 2 else producer.commit_transaction())
    await producer.stop()


def test_aborted_transactions_are_never_decided_and_hold_nothing_up(deployment: Deployment) -> None:
    asyncio.run(produce_in_transactions(deployment, "exact", 10))
    deployment.pay(payment(card_id="exact", transaction_id="plain", minute=60))

    def decided() -> list[str]:
        return [decision["transaction_id"] for decision in deployment.decisions() if decision["card_id"] == "exact"]

    wait_until(lambda: "plain" in decided(), 60, deployment)  # not until all is committed: the last marker can land behind it, and never is
    assert decided() == ["keep-0", "keep-2", "keep-4", "keep-6", "keep-8", "plain"]


def test_a_log_that_ends_in_markers_of_transactions_is_no_lag(kafka: str, tmp_path: Path) -> None:
    cards = {home(card_id.encode(), PARTITIONS): card_id for card_id in ("c0", "c1", "c2", "c3")}
    with Deployment(kafka, tmp_path, "markers") as made:
        for number, card_id in enumerate(cards.values(), 3):  # one log ends in a commit, the other in an abort
            asyncio.run(produce_in_transactions(made, card_id, number))
        worker = made.worker().wait_until_ready()
        wait_until(lambda: made.decided() == 4, 20, made)
        wait_until(lambda: value(worker.get("/metrics")[1], "aegis_lag_payments") == 0, 20, made)
        worker.stop()
        worker.start("-l", "info").wait_until_ready()  # nothing comes any more, so no partition has an owner
        wait_until(lambda: value(worker.get("/metrics")[1], "aegis_lag_payments") == 0, 20, made)

        assert len(cards) == PARTITIONS
        assert all(
            made.logs.committed(made.topic(Name.TRANSACTIONS))[p] < end for p, end in made.logs.ends(made.topic(Name.TRANSACTIONS)).items()
        )


def test_fields_that_nobody_knows_are_taken_counted_and_named_once(deployment: Deployment) -> None:
    name, worker = "aegis_unknown_fields_total", deployment.workers[0]
    before = value(worker.get("/metrics")[1], name) or 0.0
    for number in range(2):
        record = msgspec.json.decode(encode_transaction(payment(card_id="misspelt", transaction_id=f"misspelt-{number}", minute=number)))
        deployment.send_many([(b"misspelt", msgspec.json.encode(record | {"chanel": "online"}))])
        wait_until(lambda: value(worker.get("/metrics")[1], name) == before + number + 1, 20, deployment)  # noqa: B023  # called at once
    deployment.pay(payment(card_id="misspelt", transaction_id="spelt", minute=3))

    assert value(worker.get("/metrics")[1], name) == before + 2
    assert worker.log.read_text().count("is not used: chanel (is it channel?)") == 1


def test_history_is_learnt_without_a_decision(deployment: Deployment) -> None:
    past = [Past(payment(card_id="warm", transaction_id=f"warm-{n}", minute=-60 * n)) for n in range(6)]
    deployment.send_many([(b"warm", encode_history(each)) for each in past], Name.HISTORY)
    wait_until(lambda: deployment.workers[0].get("/cards/warm")[0] == 200, 20, deployment)
    wait_until(lambda: deployment.workers[0].get("/cards/warm")[1]["habit"]["payments"] == 6, 20, deployment)

    assert not any(decision["card_id"] == "warm" for decision in deployment.decisions())


def test_who_warms_can_wait_until_workers_know_the_past_and_the_earliest_payment_counts_as_the_first(deployment: Deployment) -> None:
    now, past = (
        payment(card_id="waited-for"),
        [payment(card_id="waited-for", transaction_id=f"past-{n}", minute=-60 * n) for n in range(1, 40)],
    )
    deployment.pay(now)
    deployment.await_settled()

    warmed = deployment.aegis("warm", "-", "--wait", stdin=b"\n".join(map(encode_transaction, past)))

    assert (warmed.exit_code, warmed.stdout[:16]) == (0, "sent 39 payments")
    known = deployment.workers[0].get("/cards/waited-for")[1]
    assert known["habit"]["payments"] == 40
    assert datetime.fromisoformat(known["first_payment"]) == past[-1].timestamp


def test_the_views_say_what_is_known(deployment: Deployment) -> None:
    worker = deployment.workers[0]
    deployment.pay(payment(card_id="seen", transaction_id="seen-1"))
    deployment.await_settled()

    status, card = worker.get("/cards/seen")

    assert status == 200
    assert card["habit"]["countries"] == {"FR": 1}
    assert card["attempts"] == [{"at": "2026-03-04T12:00:00Z", "amount_minor": 2500.0, "small": False, "refused": False}]
    assert worker.get("/cards/never")[0] == 404
    assert worker.get("/health")[0] == 200
    assert worker.get("/ready") == (200, {"ready": True, "waits_for": [], "partitions": [0, 1]})
    assert {rule["rule"]: rule["state"] for rule in worker.get("/rules")[1]["rules"]}["velocity_1m"] == "on"
    assert value(worker.get("/metrics")[1], "aegis_partitions_owned") == PARTITIONS
    for hidden in ("/table", "/table/cards/seen", "/router", "/stats", "/graph"):
        assert worker.get(hidden)[0] == 404


def test_the_views_listen_where_they_were_told_to_and_nowhere_else(deployment: Deployment) -> None:
    sockets = psutil.Process(deployment.workers[0].pid).net_connections("inet")

    assert {each.laddr for each in sockets if each.status == psutil.CONN_LISTEN} == {("127.0.0.1", deployment.workers[0].port)}


def test_a_worker_that_is_stopped_while_it_waits_for_kafka_ends_quietly(tmp_path: Path) -> None:
    worker = Worker(tmp_path, free_port(), {"AEGIS_BROKER": "127.0.0.1:9"}).start("-l", "info")
    wait_until(lambda: "No Kafka at 127.0.0.1:9 yet" in worker.log.read_text(), 30)
    assert "; start one with `aegis kafka`, or set AEGIS_BROKER" in worker.last_words()
    worker.stop()

    assert "Traceback" not in worker.log.read_text()


def test_workers_share_the_partitions_and_one_too_many_stands_by_and_all_answer_for_each_other(kafka: str, tmp_path: Path) -> None:
    cards = [f"{odd}{n}" for odd in ("c", "a/b?c=%2F&d#e+f ", "../é;") for n in range(4)]
    with Deployment(kafka, tmp_path, "pair") as pair:
        for _ in range(3):
            pair.worker().wait_until_ready()
        wait_until(lambda: sorted(held(worker) for worker in pair.workers) == [[], [0], [1]], 60, pair)
        spare = next(worker for worker in pair.workers if not held(worker))
        wait_until(lambda: "Ready: stands by, other workers have all partitions; policy " in spare.log.read_text(), 30, pair)
        assert value(spare.get("/metrics")[1], "aegis_ready") == 1
        pair.pay(*(payment(card_id=card_id, transaction_id=f"t{n}") for n, card_id in enumerate(cards)))
        pair.await_settled()

        answers = [[worker.get(f"/cards/{quote(card_id, safe='')}") for worker in pair.workers] for card_id in cards]

        assert {home(card_id.encode(), PARTITIONS) for card_id in cards} == {0, 1}
        for card_id, (one, other, third) in zip(cards, answers, strict=True):
            assert one == other == third
            assert (one[0], one[1]["card_id"]) == (200, card_id)


def test_a_first_start_learns_of_many_partitions_and_decides_at_once(kafka: str, tmp_path: Path) -> None:
    """To wait half a second at the empty end of each partition's decisions, before the next one is looked at, would take 20 s and more."""
    with Deployment(kafka, tmp_path, "first", AEGIS_PARTITIONS="40") as made:
        made.worker().wait_until_ready()
        cards = {home(card_id.encode(), 40): card_id for card_id in (f"c{n}" for n in range(1000))}
        made.send_many([(card_id.encode(), encode_history(Past(payment(card_id=card_id)))) for card_id in cards.values()], Name.HISTORY)

        made.pay(*(payment(card_id=card_id, transaction_id=card_id) for card_id in cards.values()))

        assert len(cards) == 40
        wait_until(lambda: made.decided() == len(cards), 2, made)


def test_a_card_is_not_called_unknown_while_memory_is_read_back(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "recovery") as made:
        remembered(made, b"card-1")
        worker = made.worker()
        seen = [(0, "")]
        while seen[-1][0] != 200:
            seen.append((worker.get("/cards/card-1")[0], str(worker.get("/ready")[1])))
            assert worker.pid is not None, worker.last_words()

        assert any(status == 503 and "memory is read back" in waits for status, waits in seen)
        assert {status for status, _ in seen} == {0, 200, 503}


def test_a_worker_that_is_stopped_while_memory_is_read_back_ends_quietly(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "broken-off") as made:
        remembered(made, b"card-1")
        worker = made.worker()
        wait_until(lambda: re.search(r"memory is read back: [1-9]", str(worker.get("/ready")[1])) is not None, 30, made, pause=0.01)

        assert worker.stop() == 0
        assert "Traceback" not in worker.log.read_text()


def test_a_worker_in_another_base_currency_is_refused_before_it_is_given_a_partition(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "currency") as made:
        first = made.worker().wait_until_ready()
        other = made.worker(AEGIS_BASE_CURRENCY="USD")
        wait_until(lambda: other.pid is None, 60, made)
        assert (other.returncode, "Assigned" in other.log.read_text()) == (1, False)
        assert other.last_words(1) == (
            "aegis: this deployment remembers amounts in EUR, and AEGIS_BASE_CURRENCY is USD: a base currency never changes. "
            "Set AEGIS_BASE_CURRENCY=EUR; for USD, begin another deployment, with AEGIS_TOPIC_PREFIX and AEGIS_APP_ID of its own"
        )
        assert held(first) == [0, 1]

        first.stop()
        shutil.rmtree(first.directory / "data")
        first.start("-l", "info", AEGIS_BASE_CURRENCY="USD")
        wait_until(lambda: first.pid is None, 60, made)
        assert (first.returncode, "amounts in EUR" in first.last_words(1)) == (1, True)
        first.start("-l", "info").wait_until_ready()


def test_nobody_beside_the_workers_goes_on_in_another_base_currency(kafka: str, tmp_path: Path) -> None:
    routes = tmp_path / "alerts.toml"
    routes.write_text('[destinations.desk]\nkind = "apprise"\nurl = "json://127.0.0.1:9"\n\n[routes.all]\nto = ["desk"]\n')
    ours, theirs = encode_transaction(payment(card_id="card-1")), encode_transaction(payment(card_id="card-2"))
    abroad = {"AEGIS_BASE_CURRENCY": "USD", "AEGIS_ALERTS": str(routes), "AEGIS_KEYS": str(tmp_path / "keys.json")}
    with Deployment(kafka, tmp_path, "abroad") as made:
        first = made.aegis("send", "payments", "-", stdin=ours, environment=abroad)
        assert first.exit_code == 0, "no worker said one yet"

        asyncio.run(check_base_currency(made.settings, founds=True))
        for command in (["gateway", "--port", str(free_port())], ["alerts", "run"], ["send", "payments", "-"]):
            refused = made.aegis(*command, stdin=theirs, environment=abroad)
            assert refused.exit_code == 1
            assert "remembers amounts in EUR, and AEGIS_BASE_CURRENCY is USD" in refused.stderr
        checked = made.aegis("topics", "check", environment=abroad)
        assert (checked.exit_code, checked.stderr) == (1, f"aegis: 1 problems with the topics on {kafka}\n")
        assert "remembers amounts in EUR, and AEGIS_BASE_CURRENCY is USD" in checked.stdout
        assert [record.key for record in made.records(Name.TRANSACTIONS)] == [b"card-1"]


def test_of_two_base_currencies_at_once_the_first_on_the_log_holds(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "founding") as made:
        made.send(b"garbage", b"XXX", partition=0, name=Name.DEPLOYMENT)
        settings = [msgspec.structs.replace(made.settings, base_currency=currency) for currency in ("CHF", "EUR", "USD")]

        async def found() -> set[str]:
            said = await asyncio.gather(*(check_base_currency(each, founds=True) for each in settings), return_exceptions=True)
            return {each.base_currency for each, error in zip(settings, said, strict=True) if error is None}

        accepted = asyncio.run(found())

        _, first, *others = (record.key.decode() for record in made.records(Name.DEPLOYMENT))
        assert accepted == {first}
        assert len({first, *others}) == 1 + len(others), "compaction, which keeps the latest of each key, keeps the first"
        assert asyncio.run(found()) == accepted


def test_a_policy_that_asks_for_nothing_is_told_once_each_time_it_comes_into_force(kafka: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.write_text("")

    def silent(origin: str) -> int:
        return len(re.findall(f"WARNING.*no rule is on in policy [0-9a-f]+ of {origin}: it asks for nothing", worker.log.read_text()))

    with Deployment(kafka, tmp_path, "silent", AEGIS_POLICY=str(empty)) as made:
        worker = made.worker().wait_until_ready()
        wait_until(lambda: silent("AEGIS_POLICY") == 1, 30, made)
        shown = made.aegis("policies", "show", "--local", "--toml", environment={"AEGIS_POLICY": ""})
        for text in (shown.stdout.encode(), b""):
            done = made.aegis("policies", "publish", "-", "--note", "why", "--yes", stdin=text)
            assert done.exit_code == 0, done.output
        wait_until(lambda: silent("silent-policies") == 1, 30, made)
        time.sleep(2)
        assert (silent("AEGIS_POLICY"), silent("silent-policies")) == (1, 1)


def test_a_second_worker_on_one_data_directory_is_refused(deployment: Deployment) -> None:
    second = deployment.worker(AEGIS_DATADIR=str(deployment.workers[0].directory / "data"))
    wait_until(lambda: second.pid is None, 20, deployment)

    assert second.returncode == 1
    assert "is used by another worker; give each its own AEGIS_DATADIR" in second.last_words(2)
    deployment.workers.remove(second)


def test_a_port_that_is_taken_stops_the_start_in_one_line(deployment: Deployment) -> None:
    port = deployment.workers[0].port
    second = deployment.worker(port)
    deployment.workers.remove(second)
    wait_until(lambda: second.pid is None, 30, deployment)

    line = f"aegis: the views cannot listen on 127.0.0.1, port {port} (Address already in use): set AEGIS_WEB_PORT to a free one"
    assert second.returncode == 1
    assert second.last_words(1) == line
    assert "Traceback" not in second.log.read_text()


def run(program: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    """What becomes of a program that has the application, whose data directory that is."""
    environment = os.environ | {"AEGIS_DATADIR": str(directory)}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("stopping", "status"), [(True, 0), (False, 70)])
def test_partitions_that_come_apart_end_it_and_are_no_failure_of_one_that_is_stopped_as_it_starts(
    tmp_path: Path, stopping: bool, status: int
) -> None:
    """The group hears of a worker's tables after it joined: whoever is stopped in between gets partitions without them."""
    program = f"""
from aegis_app.worker import app
from faust.types import TP
app._stopping = {stopping}
app.check_assignment({{TP("transactions", 0), TP("labels", 0), TP("history", 0)}})
"""
    ended = run(program, tmp_path)

    assert ended.returncode == status, ended.stderr


@pytest.mark.parametrize("client", ["None", "AIOKafkaConsumer()"])
def test_one_that_is_stopped_before_it_is_in_the_group_ends_at_once(tmp_path: Path, client: str) -> None:
    """Its start may go on beside its stop: it would join with some of its topics alone, and partitions would come apart at all others."""
    program = f"""
import asyncio
from aegis_app.worker import app
from aiokafka import AIOKafkaConsumer
async def stop():
    app.consumer._thread = app.consumer._new_consumer_thread()
    app.consumer._thread._consumer = {client}
    await app.on_stop()
asyncio.run(stop())
print("went on")
"""
    ended = run(program, tmp_path)

    assert (ended.returncode, ended.stdout) == (0, "")


def test_a_start_that_fails_is_no_success(tmp_path: Path) -> None:
    program = """
from aegis_app.worker import app
async def fail():
    raise OSError("the disk is full")
app.on_first_start = fail
app.Worker(loglevel="error").execute_from_commandline()
"""
    ended = run(program, tmp_path)

    assert ended.returncode == 70
    assert "the disk is full" in ended.stderr


def test_too_many_dead_letters_latch_the_worker_until_an_operator_says_otherwise(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "latch", AEGIS_DEAD_LETTER_WINDOW="100") as made:
        worker = made.worker().wait_until_ready()
        made.send_many([(KEY, encode_transaction(payment(transaction_id=f"good-{n}", minute=n))) for n in range(200)])
        asyncio.run(send_as_of(made, time.time() - 3600, payment(transaction_id="an hour ago", minute=300)))
        made.await_settled()
        wait_until(lambda: value(worker.get("/metrics")[1], "aegis_lag_payments") == 0, 30, made)
        committed = made.logs.committed(made.topic(Name.TRANSACTIONS))
        made.send_many([(KEY, b"from a bad deploy")] * 300)

        wait_until(lambda: worker.get("/ready")[0] == 503, 20, made)
        assert "dead letters" in worker.get("/ready")[1]["waits_for"][0]
        assert worker.get("/health")[0] == 200
        time.sleep(2.5)
        assert made.logs.committed(made.topic(Name.TRANSACTIONS)) == committed
        assert made.records(Name.DEAD_LETTERS) == []
        wait_until(lambda: value(worker.get("/metrics")[1], "aegis_behind_seconds") not in (None, 0), 30, made)
        behind = value(worker.get("/metrics")[1], "aegis_behind_seconds")
        assert behind is not None
        assert behind < 600, "after an hour without payments it is not an hour behind"

        worker.stop()
        worker.start("-l", "info", AEGIS_DEAD_LETTER_SHARE="1").wait_until_ready()
        made.await_settled()
        assert len(made.records(Name.DEAD_LETTERS)) == 300


def test_a_latched_worker_that_is_started_again_counts_anew(kafka: str, tmp_path: Path) -> None:
    """So that it goes on by itself where the rest of what is broken is too little for the latch."""
    with Deployment(kafka, tmp_path, "latch-anew", AEGIS_DEAD_LETTER_WINDOW="100") as made:
        good = [(KEY, encode_transaction(payment(transaction_id=f"good-{n}", minute=n))) for n in range(200)]
        made.send_many(good)
        worker = made.worker().wait_until_ready()
        made.await_settled()
        made.send_many([(KEY, b"from a bad deploy")] * 60)
        wait_until(lambda: worker.get("/ready")[0] == 503, 20, made)
        assert "a restart counts anew" in worker.get("/ready")[1]["waits_for"][0]

        worker.stop()
        worker.start("-l", "info").wait_until_ready()
        made.await_settled()
        assert worker.get("/ready")[0] == 200
        assert len(made.records(Name.DEAD_LETTERS)) == 60


def test_what_is_sent_back_and_cannot_be_read_again_never_latches_a_worker(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "sent-back", AEGIS_DEAD_LETTER_WINDOW="100") as made:
        broken = [Outgoing(KEY, b"still broken", [(REDRIVEN, b"0:%d" % n)]) for n in range(300)]
        good = [Outgoing(KEY, encode_transaction(payment(transaction_id=f"good-{n}", minute=n))) for n in range(200)]
        made.put(Name.TRANSACTIONS, home(KEY, PARTITIONS), [*good, *broken, *good])
        worker = made.worker().wait_until_ready()
        made.await_settled()

        assert worker.get("/ready")[0] == 200
        assert len(made.records(Name.DEAD_LETTERS)) == 300


def test_what_was_fetched_and_is_not_settled_counts_as_waiting(kafka: str, tmp_path: Path) -> None:
    """The latch stops a worker with the other partition's chunks in its queues: read from Kafka to the end, and yet undone."""
    with Deployment(kafka, tmp_path, "queued", AEGIS_DEAD_LETTER_WINDOW="100") as made:
        other = next(card for card in map("c{}".format, range(99)) if home(card.encode(), PARTITIONS) != home(KEY, PARTITIONS))
        payments = [payment(card_id=other, transaction_id=f"t{n}") for n in range(2500)]
        made.send_many([(KEY, b"from a bad deploy")] * 200 + [(other.encode(), encode_transaction(txn)) for txn in payments])
        worker = made.worker()
        wait_until(lambda: "dead letters" in str(worker.get("/ready")[1]), 30, made)
        topic = made.topic(Name.TRANSACTIONS)

        def waiting() -> int:
            return 2700 - sum(made.logs.committed(topic).values())

        assert waiting() > 1000
        wait_until(lambda: value(worker.get("/metrics")[1], "aegis_lag_payments") == waiting(), 10, made)


def test_sigterm_ends_within_15_seconds_with_everything_in_hand_committed(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "term") as made:
        worker = made.worker().wait_until_ready()
        payments = [payment(card_id=f"c{number % 50}", transaction_id=f"t{number}") for number in range(20_000)]
        made.send_many([(txn.card_id.encode(), encode_transaction(txn)) for txn in payments])
        wait_until(lambda: made.decided() > 500, 30, made)
        begun = time.monotonic()
        worker.signal(signal.SIGTERM)
        wait_until(lambda: worker.pid is None, 20, made)

        assert time.monotonic() - begun < 16
        assert worker.returncode == 0
        assert made.decided() < 20_000
        assert sum(made.logs.committed(made.topic(Name.TRANSACTIONS)).values()) == made.decided()


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"AEGIS_PARTITION": "4"}, "aegis: AEGIS_PARTITION is not a setting; did you mean AEGIS_PARTITIONS?"),
        ({"AEGIS_BROKER": "kafka-1:9092,:9"}, "aegis: broker `kafka-1:9092,:9` names a place without a host; kafka-1:9092 has one"),
        ({"AEGIS_BROKER": ","}, "aegis: broker `,` names a place without a host; kafka-1:9092 has one"),
        ({"AEGIS_WEB_HOST": "0.0.0.0"}, "aegis: web_host 0.0.0.0 is reachable from outside: set AEGIS_WEB_TOKEN as well"),
        ({"AEGIS_SSL_CAFILE": "/nowhere/ca.pem"}, "aegis: AEGIS_SSL_CAFILE='/nowhere/ca.pem': no such file"),
        ({"AEGIS_POLICY": "/nowhere/policy.toml"}, "aegis: AEGIS_POLICY: /nowhere/policy.toml cannot be read (No such file or directory)"),
    ],
)
def test_a_bad_setting_stops_the_start_in_one_line(deployment: Deployment, environment: dict[str, str], line: str) -> None:
    worker = deployment.worker(**environment)
    deployment.workers.remove(worker)
    wait_until(lambda: worker.pid is None, 20, deployment)

    assert worker.returncode == 1
    assert worker.log.read_text().strip() == line


@pytest.mark.parametrize("place", ["own.csv", "own.csv/below", "/proc/nowhere"])
def test_a_data_directory_that_cannot_be_one_stops_the_start_in_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "own.csv").write_text("mine")
    directory = tmp_path / place
    environment = os.environ | {"AEGIS_DATADIR": str(directory), "AEGIS_WEB_PORT": str(free_port())}

    command = [sys.executable, "-m", "faust", "-A", "aegis_app", "worker"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"aegis: AEGIS_DATADIR is {directory}: nothing can be kept there (")
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stdout
    assert (tmp_path / "own.csv").read_text() == "mine"


def test_views_beyond_loopback_want_the_token(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "token", AEGIS_WEB_TOKEN="open sesame 1234567") as made:
        worker = made.worker().wait_until_ready()

        assert worker.get("/cards/anyone")[0] == 401
        assert worker.get("/metrics")[0] == 401
        assert worker.get("/health")[0] == 200


def remembered(made: Deployment, key: bytes) -> None:
    """Put a card on the changelog, after so many others of its partition that to read them back takes a while."""
    memory = encode_card(remember(payment()))
    others = (Outgoing(b"other-%d" % n, memory) for n in range(150_000))
    made.put(changelog("cards", made.settings), home(key, PARTITIONS), [*others, Outgoing(key, memory)])


async def send_as_of(made: Deployment, at: float, txn: Transaction) -> None:
    """Send a payment whose record says that it was written at `at`, in seconds since 1970."""
    producer = AIOKafkaProducer(**made.settings.connection())
    await producer.start()
    try:
        partition = home(txn.card_id.encode(), PARTITIONS)
        topic, value, key = made.topic(Name.TRANSACTIONS), encode_transaction(txn), txn.card_id.encode()
        await producer.send_and_wait(topic, value, key, partition=partition, timestamp_ms=int(at * 1000))
    finally:
        await producer.stop()


def held(worker: Worker) -> list[int]:
    """The partitions whose payments a worker decides; [-1] while it is not ready."""
    status, answer = worker.get("/ready")
    return list(answer["partitions"]) if status == 200 else [-1]


def source(headers: Any) -> tuple[int, int]:
    found = dict(headers)
    return int(found["partition"]), int(found["offset"])


def value(metrics: Any, name: str) -> float | None:
    """The sum of a series over its labels; `None` where it is absent."""
    found = [float(line.rsplit(" ", 1)[1]) for line in str(metrics).splitlines() if line.startswith((name + " ", name + "{"))]
    return sum(found) if found else None
