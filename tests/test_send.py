"""Payments into a topic of a real Kafka: in order, at home, at a chosen pace, and none lost when the source ends badly."""

import asyncio
import json
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import ConsumerRecord, TopicPartition
from click.testing import CliRunner

from aegis_app import admin
from aegis_app.admin import MissingTopicError
from aegis_app.cli import main
from aegis_app.core.intake import Past, read_history, read_payment
from aegis_app.core.payment import Outcome, Transaction, encode_transaction
from aegis_app.send import at_once, at_rate, at_speed, send
from aegis_app.settings import Settings
from aegis_app.simulate import simulate
from aegis_app.topics import Name, full_name, home
from tests.make import NOON, payment

PARTITIONS = 4


@pytest.fixture
def settings(kafka: str) -> Settings:
    """Of a deployment of its own, whose topics are there."""
    name = f"send-{uuid.uuid4().hex[:8]}"
    ours = Settings(broker=kafka, topic_prefix=f"{name}-", app_id=name, partitions=PARTITIONS)
    asyncio.run(admin.create(ours))
    return ours


def contents(settings: Settings, name: Name) -> list[list[ConsumerRecord]]:
    """What a topic holds, by partition."""

    async def read() -> list[list[ConsumerRecord]]:
        partitions = [TopicPartition(full_name(name, settings), partition) for partition in range(PARTITIONS)]
        found = []
        async with AIOKafkaConsumer(**settings.connection(), auto_offset_reset="earliest") as consumer:
            consumer.assign(partitions)
            for tp, end in sorted((await consumer.end_offsets(partitions)).items()):
                records: list[ConsumerRecord] = []
                while len(records) < end:
                    records += (await consumer.getmany(tp, timeout_ms=10_000))[tp]
                found.append(records)
        return found

    return asyncio.run(asyncio.wait_for(read(), 60))


def to_transactions(settings: Settings, payments: Any, **how: Any) -> int:
    return asyncio.run(send(settings, full_name(Name.TRANSACTIONS, settings), payments, **how))


def run(settings: Settings, *arguments: str, stdin: bytes = b"") -> Any:
    environment = {"AEGIS_TOPIC_PREFIX": settings.topic_prefix, "AEGIS_APP_ID": settings.app_id, "AEGIS_BROKER": settings.broker}
    from aegis_app.settings import settings as cached

    cached.cache_clear()
    try:
        return CliRunner().invoke(main, arguments, input=stdin, env=environment)
    finally:
        cached.cache_clear()


@pytest.mark.kafka
def test_every_payment_arrives_once_in_order_in_the_partition_of_its_card(settings: Settings) -> None:
    payments = [each.transaction for each in simulate(200, 20, 6, NOON, fraud_rate=0.02)]
    counts: list[int] = []

    assert to_transactions(settings, iter(payments), sent=counts.append) == len(payments) == sum(counts)

    expected: dict[int, list[Transaction]] = defaultdict(list)
    for txn in payments:
        expected[DefaultPartitioner()(txn.card_id.encode(), list(range(PARTITIONS)), [])].append(txn)
    arrived = contents(settings, Name.TRANSACTIONS)
    assert {
        partition: [read_payment(record.value, record.key, record.timestamp, token=False) for record in records]
        for partition, records in enumerate(arrived)
    } == expected
    assert len(expected) == PARTITIONS


@pytest.mark.kafka
def test_a_rate_spreads_payments_evenly_over_time(settings: Settings) -> None:
    to_transactions(settings, [payment(card_id="one", transaction_id=f"t{n}") for n in range(50)], pace=at_rate(100))

    times = [record.timestamp for records in contents(settings, Name.TRANSACTIONS) for record in records]

    assert times[-1] - times[0] >= 470  # 49 gaps of 10 ms, less a tick of each clock
    assert all(times[n] - times[0] >= n * 10 - 20 for n in range(50))


@pytest.mark.kafka
def test_a_speed_keeps_the_gaps_between_payments_so_many_times_shorter(settings: Settings) -> None:
    minutes = [0, 5, 5, 60, 10]

    to_transactions(settings, [payment(minute=each, transaction_id=f"t{n}") for n, each in enumerate(minutes)], pace=at_speed(7200))

    times = [record.timestamp for records in contents(settings, Name.TRANSACTIONS) for record in records]
    assert times[3] - times[0] == pytest.approx(500, abs=200)
    assert times[2] - times[0] < 300
    assert times[4] >= times[3]  # late in the file, so it is due at once


@pytest.mark.kafka
def test_what_was_read_is_sent_while_its_source_is_silent(settings: Settings) -> None:
    arrived = threading.Event()
    waits: list[bool] = []

    def source() -> Iterator[Transaction]:
        yield payment(transaction_id="first")
        waits.append(arrived.wait(30))
        yield payment(transaction_id="second")

    assert to_transactions(settings, source(), sent=lambda number: arrived.set()) == 2
    assert waits == [True]


@pytest.mark.kafka
def test_what_the_source_raises_comes_after_the_payments_before_it_were_sent(settings: Settings) -> None:
    def source() -> Iterator[Transaction]:
        yield payment(transaction_id="first")
        raise ZeroDivisionError("the source broke")

    with pytest.raises(ZeroDivisionError, match="the source broke"):
        to_transactions(settings, source())

    assert sum(map(len, contents(settings, Name.TRANSACTIONS))) == 1


@pytest.mark.kafka
def test_a_source_that_nobody_reads_to_its_end_leaves_no_thread_behind(settings: Settings) -> None:
    def endless() -> Iterator[Transaction]:
        while True:
            yield payment()

    def broken(txn: Transaction) -> bytes:
        raise ZeroDivisionError("cannot encode")

    with pytest.raises(ZeroDivisionError):
        to_transactions(settings, endless(), encode=broken)

    deadline = time.monotonic() + 10
    while any(thread.name == "read ahead" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.kafka
def test_a_missing_topic_is_named_with_the_command_that_makes_it(settings: Settings) -> None:
    with pytest.raises(MissingTopicError, match=r"there is no topic elsewhere on .*`aegis topics create`"):
        asyncio.run(send(settings, "elsewhere", [payment()]))


@pytest.mark.kafka
def test_send_payments_counts_what_it_sent(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "payments.jsonl"
    file.write_bytes(b"\n".join(encode_transaction(payment(minute=n)) for n in range(10)))

    result = run(settings, "send", "payments", str(file), "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) | {"seconds": 0} == {"sent": 10, "topic": full_name(Name.TRANSACTIONS, settings), "seconds": 0}
    assert sum(map(len, contents(settings, Name.TRANSACTIONS))) == 10


@pytest.mark.kafka
def test_send_payments_says_which_line_is_bad_and_how_many_before_it_were_sent(settings: Settings) -> None:
    result = run(settings, "send", "payments", "-", stdin=encode_transaction(payment()) + b"\nno json\n")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "line 2: JSON is malformed" in result.stderr
    assert result.stderr.endswith("; 1 payments before it were sent\n")


@pytest.mark.kafka
def test_warm_puts_payments_on_history_with_the_outcome_they_had(settings: Settings) -> None:
    result = run(settings, "warm", "-", "--outcome", "review", stdin=encode_transaction(payment()))

    assert result.exit_code == 0, result.output
    (record,) = [record for records in contents(settings, Name.HISTORY) for record in records]
    assert read_history(record.value, record.key, record.timestamp, token=False) == Past(payment(), Outcome.REVIEW)


@pytest.mark.kafka
def test_topics_are_made_once_and_a_broken_set_is_told(kafka: str) -> None:
    name = f"topics-{uuid.uuid4().hex[:8]}"
    ours = Settings(broker=kafka, topic_prefix=f"{name}-", app_id=name)

    before = run(ours, "topics", "check")
    made = run(ours, "topics", "create", "--json")
    again = run(ours, "topics", "create", "--json")
    after = run(ours, "topics", "check")

    assert before.exit_code == 1
    assert f"{name}-transactions is missing" in before.stdout
    assert f"{name}-transactions" in json.loads(made.stdout)["created"]
    assert json.loads(again.stdout) == {"created": []}
    assert (after.exit_code, after.stdout) == (0, "the topics are as they should be\n")


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
