"""What the consumer hands over: payments first, nothing twice, and nothing lost while partitions change hands."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from faust.types import TP

from aegis_app.core.merchant_events import Events, Paid, encode_events
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.stream.transport import ChunkConsumer, ChunkConsumerThread
from aegis_app.topics import Name
from tests.deployment import PARTITIONS, Deployment, wait_until
from tests.make import payment

pytestmark = pytest.mark.kafka

BEHIND = 80_000
"""Events of merchants to catch up with, more than ten seconds of work."""


def test_payments_are_decided_while_merchants_have_much_to_catch_up(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "behind") as made:
        made.send_many([told(n) for n in range(BEHIND)], Name.MERCHANT_EVENTS)
        made.worker().wait_until_ready()

        for n in range(1, 11):
            made.pay(payment(card_id=f"card-{n}", transaction_id=f"t{n}"))
            wait_until(lambda n=n: made.decided() >= n, 10, made)  # type: ignore[misc]  # mypy sees no default in a lambda

        learnt = sum(at or 0 for at in made.logs.committed(made.topic(Name.MERCHANT_EVENTS)).values())
        assert learnt < BEHIND / 2


def told(n: int) -> tuple[bytes, bytes]:
    """What some card's owner tells a merchant of."""
    paid = Paid(offset=n, at=1_750_000_000_000 + n, kind=0, amount=100, small=True, card=n, first=False, unusual=0, verdict=0)
    return b"merchant-%d" % (n % 20_000), encode_events(Events(source=0, partition=n % PARTITIONS, events=[paid]))


def test_sources_are_fetched_where_there_is_room_and_not_while_partitions_change_hands() -> None:
    waiting = {TP("merchant-events", 0): 16, TP("transactions", 0): 15, TP("cards-changelog", 0): 0}

    assert asyncio.run(asked_for(waiting, rebalancing=False)) == {TP("transactions", 0), TP("cards-changelog", 0)}
    assert asyncio.run(asked_for(waiting, rebalancing=True)) == {TP("cards-changelog", 0)}


async def asked_for(waiting: dict[TP, int], *, rebalancing: bool) -> set[TP]:
    """Of which partitions the consumer fetches, where so many chunks wait for their agents."""
    consumer, fetch = ChunkConsumer.__new__(ChunkConsumer), AsyncMock(return_value={})
    queues = {tp: [SimpleNamespace(queue=SimpleNamespace(qsize=lambda chunks=chunks: chunks))] for tp, chunks in waiting.items()}
    tables = SimpleNamespace(changelog_topics={"cards-changelog"})
    consumer.app = SimpleNamespace(topics=SimpleNamespace(_tp_index=queues), rebalancing=rebalancing, tables=tables)  # type: ignore[assignment]
    consumer._thread = SimpleNamespace(getmany=fetch)  # type: ignore[assignment]
    await consumer._getmany(set(waiting), 1.0)
    asked: set[TP] = fetch.call_args.args[0]
    return asked


def test_of_what_is_fetched_payments_are_handed_over_first_and_partitions_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegis_app.stream.transport.CHUNK", 2)
    merchants, first, second = TP("merchant-events", 0), TP("transactions", 0), TP("transactions", 1)
    fetched = {merchants: [1, 2, 3], first: [4, 5, 6], second: [7]}

    handed = asyncio.run(hand_over(fetched))

    assert handed == [(first, [4, 5]), (second, [7]), (merchants, [1, 2]), (first, [6]), (merchants, [3])]


async def hand_over(fetched: dict[TP, list[int]]) -> list[tuple[TP, list[int]]]:
    """What the consumer makes of these records."""
    consumer = ChunkConsumer.__new__(ChunkConsumer)
    consumer.stops, consumer._stopped, consumer._crashed = 0, asyncio.Event(), asyncio.Event()  # type: ignore[assignment]
    consumer.app = SimpleNamespace(holdings=SimpleNamespace(urgent={"transactions"}), should_stop=False)  # type: ignore[assignment]
    consumer._wait_next_records = AsyncMock(return_value=(fetched, set(fetched)))  # type: ignore[method-assign]
    consumer._to_message = lambda tp, record: SimpleNamespace(value=None)  # type: ignore[method-assign, assignment, return-value]
    return [(tp, message.value) async for tp, message in consumer.getmany(1.0)]


def test_what_was_asked_for_before_partitions_changed_hands_is_left_where_it_is(kafka: str, tmp_path: Path) -> None:
    """Recovery seeks, and a fetch that was asked for before takes what it is about to wait for."""
    with Deployment(kafka, tmp_path, "asked") as made:
        early, late = asyncio.run(fetch_while_the_flow_stops(made))

    assert early == {}
    assert [record.value for records in late.values() for record in records] == [b"0", b"1", b"2"]


async def fetch_while_the_flow_stops(made: Deployment) -> tuple[Any, Any]:
    """What a fetch gets during which the flow stopped and went on; and what the next one gets."""
    topic = made.topic(Name.TRANSACTIONS)
    consumer, outbox = AIOKafkaConsumer(**made.settings.connection(), auto_offset_reset="earliest"), Outbox(made.settings.connection())
    thread = ChunkConsumerThread.__new__(ChunkConsumerThread)
    thread.consumer, thread.fetched, thread._asked_at = SimpleNamespace(flow_active=True, stops=0), {}, 0  # type: ignore[assignment]
    await consumer.start()
    await outbox.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        early = asyncio.create_task(thread._fetch_records(consumer, set(), timeout=30))
        await asyncio.sleep(0.1)
        thread.consumer.stops += 1
        await outbox.publish(topic, 0, [Outgoing(b"card-1", b"%d" % n) for n in range(3)])
        taken = await early
        assert thread.fetched == {}
        thread._asked_at = thread.consumer.stops
        return taken, await thread._fetch_records(consumer, set(), timeout=30)
    finally:
        await consumer.stop()
        await outbox.stop()
