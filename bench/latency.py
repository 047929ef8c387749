"""The time from sending a payment to reading its decision."""

import asyncio
import time
from collections.abc import Iterable

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition
from msgspec import Struct

from aegis_app.core.payment import Transaction, encode_transaction
from aegis_app.settings import Settings
from aegis_app.topics import Name, full_name
from bench.rig import PARTITIONS

WARM_SECONDS = 5.0
"""Left out at the start: caches are cold and producers still learn where to send."""


class _Id(Struct):
    transaction_id: str


async def measure(settings: Settings, stream: Iterable[Transaction], rate: int) -> list[float]:
    """Send `stream` at `rate` payments a second; returns the seconds to each decision after the warm-up."""
    producer = AIOKafkaProducer(**settings.connection(), acks=1, linger_ms=0)
    consumer = AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False, fetch_max_wait_ms=500)
    await producer.start()
    await consumer.start()
    consumer.assign([TopicPartition(full_name(Name.DECISIONS, settings), number) for number in range(PARTITIONS)])
    await consumer.seek_to_end()
    sent: dict[str, float] = {}
    records = [(txn.transaction_id, txn.card_id.encode(), encode_transaction(txn)) for txn in stream]
    seconds: list[float] = []
    reading = asyncio.create_task(_read(consumer, sent, seconds, len(records)))
    topic = full_name(Name.TRANSACTIONS, settings)
    begun = time.perf_counter()
    for number, (transaction_id, key, value) in enumerate(records):
        early = number / rate - (time.perf_counter() - begun)
        if early > 0:
            await asyncio.sleep(early)
        sent[transaction_id] = time.perf_counter()
        await producer.send(topic, value, key)
    await asyncio.wait_for(reading, 60)
    await producer.stop()
    await consumer.stop()
    return seconds[int(WARM_SECONDS * rate) :]


async def _read(consumer: AIOKafkaConsumer, sent: dict[str, float], seconds: list[float], number: int) -> None:
    decode = msgspec.json.Decoder(_Id).decode
    while len(seconds) < number:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            now = time.perf_counter()
            seconds += [now - sent[decode(record.value).transaction_id] for record in records]
