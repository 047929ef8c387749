"""Payments into a topic of a real Kafka: in order, at home, at a chosen pace, and none lost when the source ends badly."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.admin import NewTopic
from aiokafka.partitioner import DefaultPartitioner

from aegis_app import admin
from aegis_app.access import connect
from aegis_app.admin import MissingTopicError
from aegis_app.core.intake import Past, read_history, read_label, read_payment
from aegis_app.core.label import encode_label
from aegis_app.core.payment import Outcome, Transaction, encode_transaction
from aegis_app.send import at_once, at_rate, at_speed, send
from aegis_app.settings import Settings
from aegis_app.simulate import simulate
from aegis_app.topics import Name, home
from tests.deployment import PARTITIONS, Deployment, wait_until
from tests.make import NOON, label, payment


@pytest.fixture
def made(kafka: str, tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(kafka, tmp_path, f"send-{uuid.uuid4().hex[:8]}") as made:
        yield made


def to_transactions(made: Deployment, payments: Any, **how: Any) -> int:
    return asyncio.run(send(made.settings, made.topic(Name.TRANSACTIONS), payments, **{"encode": encode_transaction} | how)).number


@pytest.mark.kafka
@pytest.mark.parametrize(("command", "name"), [(("send", "payments"), Name.TRANSACTIONS), (("warm",), Name.HISTORY)])
def test_a_card_number_is_not_sent(made: Deployment, command: tuple[str, ...], name: Name) -> None:
    number = "4111111111111111"
    lines = b"".join(encode_transaction(payment(card_id=card_id)) + b"\n" for card_id in ("tok_1", number))

    refused = made.aegis(*command, "-", stdin=lines)
    sent = made.aegis(*command, "-", stdin=lines, environment={"AEGIS_CARD_ID_IS_TOKEN": "true"})

    assert refused.exit_code == 1
    assert "-, payment 2: card_id looks like a card number; send a token" in refused.stderr
    assert number not in refused.output
    assert sent.exit_code == 0
    assert [record.key for record in made.records(name)].count(number.encode()) == 1


@pytest.mark.kafka
def test_every_payment_arrives_once_in_order_in_the_partition_of_its_card(made: Deployment) -> None:
    payments = [each.transaction for each in simulate(200, 20, 6, NOON, fraud_rate=0.02)]
    counts: list[int] = []

    assert to_transactions(made, iter(payments), sent=counts.append) == len(payments) == sum(counts)

    expected: dict[int, list[Transaction]] = defaultdict(list)
    for txn in payments:
        expected[DefaultPartitioner()(txn.card_id.encode(), list(range(PARTITIONS)), [])].append(txn)
    arrived = made.by_partition(Name.TRANSACTIONS)
    assert {
        partition: [read_payment(record.value, record.key, record.timestamp, token=False) for record in records]
        for partition, records in enumerate(arrived)
    } == expected
    assert len(expected) == PARTITIONS


@pytest.mark.kafka
def test_a_rate_spreads_payments_evenly_over_time(made: Deployment) -> None:
    to_transactions(made, [payment(card_id="one", transaction_id=f"t{n}") for n in range(50)], pace=at_rate(100))

    times = [record.timestamp for record in made.records(Name.TRANSACTIONS)]

    assert times[-1] - times[0] >= 470  # 49 gaps of 10 ms, less a tick of each clock
    assert all(times[n] - times[0] >= n * 10 - 20 for n in range(50))


@pytest.mark.kafka
def test_a_speed_keeps_the_gaps_between_payments_so_many_times_shorter(made: Deployment) -> None:
    minutes = [0, 5, 5, 60, 10]

    to_transactions(made, [payment(minute=each, transaction_id=f"t{n}") for n, each in enumerate(minutes)], pace=at_speed(7200))

    times = [record.timestamp for record in made.records(Name.TRANSACTIONS)]
    assert times[3] - times[0] == pytest.approx(500, abs=200)
    assert times[2] - times[0] < 300
    assert times[4] >= times[3]  # late in the file, so it is due at once


@pytest.mark.kafka
def test_what_was_read_is_sent_while_its_source_is_silent(made: Deployment) -> None:
    arrived = threading.Event()
    waits: list[bool] = []

    def source() -> Iterator[Transaction]:
        yield payment(transaction_id="first")
        waits.append(arrived.wait(30))
        yield payment(transaction_id="second")

    assert to_transactions(made, source(), sent=lambda number: arrived.set()) == 2
    assert waits == [True]


@pytest.mark.kafka
def test_what_the_source_raises_comes_after_the_payments_before_it_were_sent(made: Deployment) -> None:
    def source() -> Iterator[Transaction]:
        yield payment(transaction_id="first")
        raise ZeroDivisionError("the source broke")

    with pytest.raises(ZeroDivisionError, match="the source broke"):
        to_transactions(made, source())

    assert len(made.records(Name.TRANSACTIONS)) == 1


@pytest.mark.kafka
def test_a_source_that_nobody_reads_to_its_end_leaves_no_thread_behind(made: Deployment) -> None:
    def endless() -> Iterator[Transaction]:
        while True:
            yield payment()

    def broken(txn: Transaction) -> bytes:
        raise ZeroDivisionError("cannot encode")

    with pytest.raises(ZeroDivisionError):
        to_transactions(made, endless(), encode=broken)

    deadline = time.monotonic() + 10
    while any(thread.name == "read ahead" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.kafka
def test_a_missing_topic_is_named_with_the_command_that_makes_it(made: Deployment) -> None:
    with pytest.raises(MissingTopicError, match=r"there is no topic elsewhere on .*`aegis topics create`"):
        asyncio.run(send(made.settings, "elsewhere", [payment()], encode=encode_transaction))


@pytest.mark.kafka
def test_send_payments_counts_what_it_sent(made: Deployment, tmp_path: Path) -> None:
    file = tmp_path / "payments.jsonl"
    file.write_bytes(b"\n".join(encode_transaction(payment(minute=n)) for n in range(10)))

    result = made.aegis("send", "payments", str(file), "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) | {"seconds": 0} == {"sent": 10, "topic": made.topic(Name.TRANSACTIONS), "seconds": 0}
    assert len(made.records(Name.TRANSACTIONS)) == 10


@pytest.mark.kafka
def test_send_payments_tells_of_fields_that_nobody_knows_also_where_a_line_is_bad(made: Deployment) -> None:
    line = encode_transaction(payment()).replace(b'"channel"', b'"chanel"') + b"\n"
    told = "-: fields that no payment has, which are not used: chanel (is it channel?) in 2\n"

    assert made.aegis("send", "payments", "-", stdin=line * 2).stderr == told
    assert told in made.aegis("send", "payments", "-", stdin=line * 2 + b"no json\n").stderr


@pytest.mark.kafka
def test_send_payments_says_which_line_is_bad_and_how_many_before_it_were_sent(made: Deployment) -> None:
    result = made.aegis("send", "payments", "-", stdin=encode_transaction(payment()) + b"\nno json\n")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "line 2: JSON is malformed" in result.stderr
    assert result.stderr.endswith("; 1 payment before it was sent\n")


@pytest.mark.kafka
def test_ctrl_c_says_how_many_were_sent(made: Deployment) -> None:
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from aegis_app.cli import main; main()"
    command = [sys.executable, "-c", program, "send", "payments", "-"]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=os.environ | made.environment, **pipes) as sending:
        assert sending.stdin is not None
        sending.stdin.write(b"".join(encode_transaction(payment(minute=n)) + b"\n" for n in range(3)))
        sending.stdin.flush()
        wait_until(lambda: len(made.records(Name.TRANSACTIONS)) == 3, 60)
        time.sleep(0.5)  # for Kafka's answer
        sending.send_signal(signal.SIGINT)
        sending.wait(30)  # while its stdin is open
        out, errors = sending.communicate()

    assert (sending.returncode, out, errors.decode()) == (130, b"", "aegis: ended by Ctrl-C; at least 3 payments were sent\n")


@pytest.mark.kafka
def test_send_labels_puts_each_where_its_card_is_and_says_which_line_is_bad(made: Deployment) -> None:
    labels = [label(payment(card_id=f"card-{number}")) for number in range(9)]
    lines = b"\n".join(map(encode_label, labels))

    result = made.aegis("send", "labels", "-", stdin=lines)
    bad = made.aegis("send", "labels", "-", stdin=lines + b"\n" + encode_transaction(payment()))

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"sent 9 labels to {made.topic(Name.LABELS)} in ")
    records = made.records(Name.LABELS)
    assert len(records) == 18
    for record in records:
        assert read_label(record.value, record.key, record.timestamp, token=False) in labels
        assert record.partition == home(record.key, PARTITIONS)
    assert (bad.exit_code, bad.stdout) == (1, "")
    assert bad.stderr == (
        "aegis: -, line 10: this is a payment, no label: it has no is_fraud and labelled_at; use `aegis send payments`; "
        "9 labels before it were sent\n"
    )


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("command", "name"), [(("send", "payments"), Name.TRANSACTIONS), (("send", "labels"), Name.LABELS), (("warm",), Name.HISTORY)]
)
def test_what_would_be_refused_as_too_far_ahead_is_not_sent(made: Deployment, command: tuple[str, ...], name: Name) -> None:
    ahead = payment(timestamp=datetime.now(UTC) + timedelta(days=3))
    is_label = name is Name.LABELS
    lines = b"\n".join(encode_label(label(txn)) if is_label else encode_transaction(txn) for txn in (payment(), ahead))

    result = made.aegis(*command, "-", stdin=lines)

    assert result.exit_code == 1
    noun, field = ("label", "labelled_at") if is_label else ("payment", "timestamp")
    assert f"-, {noun} 2: {field} lies " in result.stderr
    assert f" days ahead of the record's; 1 {noun} before it was sent" in result.stderr
    assert len(made.records(name)) == 1


@pytest.mark.kafka
def test_warm_puts_payments_on_history_with_the_outcome_they_had(made: Deployment) -> None:
    result = made.aegis("warm", "-", "--outcome", "review", stdin=encode_transaction(payment()))

    assert result.exit_code == 0, result.output
    (record,) = made.records(Name.HISTORY)
    assert read_history(record.value, record.key, record.timestamp, token=False) == Past(payment(), Outcome.REVIEW)


@pytest.mark.kafka
def test_topics_are_made_once_and_a_broken_set_is_told(kafka: str, tmp_path: Path) -> None:
    ours = Deployment(kafka, tmp_path, f"topics-{uuid.uuid4().hex[:8]}")

    before = ours.aegis("topics", "check")
    too_many = ours.aegis("topics", "create", environment={"AEGIS_REPLICATION": "3"})
    created = ours.aegis("topics", "create", "--json")
    again = ours.aegis("topics", "create", "--json")
    after = ours.aegis("topics", "check")

    assert before.exit_code == 1
    assert f"{ours.topic(Name.TRANSACTIONS)} is missing" in before.stdout
    assert (too_many.exit_code, too_many.stderr) == (1, f"aegis: Kafka at {kafka} has too few brokers for AEGIS_REPLICATION=3\n")
    assert ours.topic(Name.TRANSACTIONS) in json.loads(created.stdout)["created"]
    assert json.loads(again.stdout) == {"created": []}
    assert (after.exit_code, after.stdout) == (0, "the topics are as they should be\n")


class Slow:
    """Stands for a Kafka, one of whose brokers hears of new topics a while after they were made."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.asked = 0

    async def create_topics(self, topics: list[NewTopic]) -> Any:
        self.made = [topic.name for topic in topics]
        return SimpleNamespace(topic_errors=[])

    async def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        self.asked += bool(self.made)
        return [{"topic": name, "partitions": [0], "error_code": 0 if self.asked > 2 else 3} for name in names]


def test_topics_that_were_made_are_there_when_it_is_said() -> None:
    client: Any = Slow()

    assert asyncio.run(admin._create(client, Settings())) == client.made != []
    assert client.asked == 3


@pytest.mark.kafka
def test_what_does_not_fit_about_a_topic_is_told(kafka: str, tmp_path: Path) -> None:
    ours = Deployment(kafka, tmp_path, f"unfit-{uuid.uuid4().hex[:8]}")
    labels, decisions, risk = map(ours.topic, (Name.LABELS, Name.DECISIONS, Name.MERCHANT_RISK))

    async def make() -> None:
        async with connect(ours.settings) as client:
            made = [
                NewTopic(ours.topic(Name.TRANSACTIONS), 2, 1),
                NewTopic(labels, 3, 1),
                NewTopic(decisions, 2, 1, topic_configs={"retention.ms": "1000"}),
                NewTopic(risk, 2, 1),
            ]
            await client.create_topics(made)

    asyncio.run(make())
    assert ours.aegis("topics", "create").exit_code == 0
    told = ours.aegis("topics", "check", environment={"AEGIS_REPLICATION": "3"}).stdout.splitlines()

    for problem in (
        f"{labels} has 3 partitions, transactions has 2: they must be equal",
        f"{decisions}: retention.ms is 1000, should be 2592000000",
        f"{risk}: cleanup.policy is delete, should be compact",
        f"{risk}: min.insync.replicas is 1, should be 2",
        f"{risk} has 1 copies, AEGIS_REPLICATION asks for 3",
    ):
        assert problem in told
    with ours:
        worker = ours.worker()
        wait_until(lambda: worker.pid is None, 30, ours)
    assert worker.returncode == 1
    assert worker.last_words(1).startswith(f"aegis: {labels} has 3 partitions, transactions has 2: they must be equal; ")


def test_payments_are_due_at_once_at_a_rate_or_at_their_own_times() -> None:
    speed = at_speed(60)

    assert at_once(7, payment()) == 0
    assert at_rate(200)(100, payment()) == 0.5
    assert [speed(n, payment(minute=minute)) for n, minute in enumerate((10, 11, 5))] == [0, 1, -5]


def test_a_card_is_at_home_where_kafkas_own_clients_put_it() -> None:
    for number in range(200):
        key = f"card-{number}".encode()
        assert home(key, 7) == DefaultPartitioner()(key, list(range(7)), [])


def test_the_simulators_default_start_lies_in_the_past() -> None:
    """A payment far ahead of its Kafka record is refused, and `simulate` feeds `send`."""
    from aegis_app.cli.simulating import simulate as command

    start = next(parameter for parameter in command.params if parameter.name == "start").default
    days = next(parameter for parameter in command.params if parameter.name == "days").default
    assert datetime.fromisoformat(str(start)).replace(tzinfo=UTC) + timedelta(days=float(str(days))) < datetime.now(UTC)
