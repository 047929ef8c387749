"""The time from sending a payment to reading its decision."""

import asyncio
import time
from collections.abc import Iterable

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from msgspec import Struct

from aegis_app.core.payment import Transaction, encode_transaction
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name, home
from bench.rig import PARTITIONS

TICK_SECONDS = 0.002
WARM_SECONDS = 5.0
"""Left out at the start: caches are cold and producers still learn where to send."""


class _Id(Struct):
    transaction_id: str


async def measure(settings: Settings, stream: Iterable[Transaction], rate: int) -> list[float]:
    """Send `stream` at `rate` payments a second; returns the seconds to each decision after the warm-up.

    Every `TICK_SECONDS`, what is due by then is sent: a request per payment would measure the sender.
    """
    outbox = Outbox(settings.connection())
    consumer = AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False)
    await outbox.start()
    await consumer.start()
    consumer.assign([TopicPartition(full_name(Name.DECISIONS, settings), number) for number in range(PARTITIONS)])
    await consumer.seek_to_end()
    records = [(txn.transaction_id, Outgoing(txn.card_id.encode(), encode_transaction(txn))) for txn in stream]
    sent: dict[str, float] = {}
    seconds: list[float] = []
    reading = asyncio.create_task(_read(consumer, sent, seconds, len(records)))
    topic = full_name(Name.TRANSACTIONS, settings)
    begun, number = time.perf_counter(), 0
    while number < len(records):
        await asyncio.sleep(TICK_SECONDS)
        now = time.perf_counter()
        due = records[number : int((now - begun) * rate)]
        number += len(due)
        sent.update((transaction_id, now) for transaction_id, _ in due)
        for partition in range(PARTITIONS):
            here = [record for _, record in due if home(record.key or b"", PARTITIONS) == partition]
            await outbox.send(topic, partition, here)
    await asyncio.wait_for(reading, 60)
    await outbox.stop()
    await consumer.stop()
    return seconds[int(WARM_SECONDS * rate) :]


async def _read(consumer: AIOKafkaConsumer, sent: dict[str, float], seconds: list[float], number: int) -> None:
    decode = msgspec.json.Decoder(_Id).decode
    while len(seconds) < number:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            now = time.perf_counter()
            seconds += [now - sent[decode(record.value).transaction_id] for record in records]
