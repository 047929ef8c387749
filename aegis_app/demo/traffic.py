"""Simulated cardholders: their past through `history`, their payments at a steady rate, and the decisions as they come."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from time import perf_counter
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from aegis_app.core.intake import Past, encode_history
from aegis_app.core.payment import encode_transaction
from aegis_app.demo.tally import Answer, Tally
from aegis_app.send import send as send_to
from aegis_app.settings import Settings
from aegis_app.simulate import PAYMENTS_A_DAY, Labelled, simulate
from aegis_app.topics import Name, full_name

RATE: Final = 200
"""Payments a second."""
CARDS: Final = 3_200
"""So many make about 200 payments an hour: on average, each second of the demo is an hour of theirs."""
FRAUD_RATE: Final = 0.01
"""Ten times what is usual, so that there is something to see."""
SEED: Final = 4
BEGIN: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""Long ago: simulated time runs faster than the real one, and must not overtake it."""
WARM_DAYS: Final = timedelta(days=30)
WARM_PAYMENTS: Final = WARM_DAYS.days * CARDS * PAYMENTS_A_DAY
"""About so many."""
TICK_SECONDS: Final = 0.002
CLOSE_SECONDS: Final = 1.0

_decode = msgspec.json.Decoder(Answer).decode


def lives(cards: int = CARDS) -> Iterator[Labelled]:
    """All that so many cardholders do from `BEGIN` to the present."""
    days = (datetime.now(UTC) - BEGIN) / timedelta(days=1)
    return simulate(cards, days, SEED, BEGIN, FRAUD_RATE)


async def warm(settings: Settings, stream: Iterator[Labelled], learnt: Callable[[int], object]) -> int:
    """Take the warm days from `stream`, and put what is genuine of them on `history`. Returns how many payments that is."""
    days = takewhile(lambda each: each.transaction.timestamp < BEGIN + WARM_DAYS, stream)
    past = (each.transaction for each in days if each.fraud is None)
    topic = full_name(Name.HISTORY, settings)
    return (await send_to(settings, topic, past, encode=lambda txn: encode_history(Past(txn)), sent=learnt)).number


async def send(settings: Settings, stream: Iterator[Labelled], tally: Tally, ending: asyncio.Event) -> None:
    """Send payments at `RATE` until `ending` is set, or simulated time has caught up with the present."""
    topic = full_name(Name.TRANSACTIONS, settings)
    async with _closing(AIOKafkaProducer(**settings.connection(), acks="all", enable_idempotence=True)) as producer:
        begun, before = perf_counter(), tally.sent
        while not ending.is_set():
            while tally.sent - before < (perf_counter() - begun) * RATE:
                each = next(stream, None)
                if each is None:
                    return
                key, value = each.transaction.card_id.encode(), encode_transaction(each.transaction)
                tally.send(each, perf_counter())
                await producer.send(topic, key=key, value=value)
            await asyncio.sleep(TICK_SECONDS)


@asynccontextmanager
async def decisions(settings: Settings) -> AsyncIterator[Any]:
    """A reader of what is decided from now on; it stands at the log's end when the block begins."""
    topic = full_name(Name.DECISIONS, settings)
    consumer = AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False, isolation_level="read_committed")
    async with _closing(consumer):
        partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        for partition in partitions:
            await consumer.position(partition)
        yield consumer


async def read(consumer: Any, tally: Tally) -> None:
    """Take note of decisions until cancelled; but not of those about cards that others pay with, at the gateway."""
    async for record in consumer:
        if record.key.decode() in tally.cards:
            tally.decide(_decode(record.value), perf_counter())


@asynccontextmanager
async def _closing(client: Any) -> AsyncIterator[Any]:
    """Not even a broker that is gone may keep the demo from ending."""
    try:
        await client.start()
        yield client
    finally:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.stop()
        except TimeoutError:
            pass
