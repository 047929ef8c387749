"""Records on their way to Kafka, a chunk's worth at a time, acknowledged by all replicas."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata
from msgspec import Struct

from aegis_app.topics import LARGEST_RECORD

Headers = list[tuple[str, bytes]]
Sent = tuple[asyncio.Future[RecordMetadata], int]
"""A batch on its way, and its number of records."""
Landed = tuple[int, int]
"""A batch that Kafka holds: its first offset, and its number of records."""
BATCH_BYTES: Final = 900_000
SUSPICIOUS: Final = LARGEST_RECORD // 2
"""Values below this need no exact look: keys and headers are bounded far below the rest."""


class Outgoing(Struct, frozen=True, gc=False):
    """One record to publish; `value` is `None` for a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: Headers = []

    @property
    def size(self) -> int:
        """At least what Kafka counts against its limit, in bytes."""
        return 64 + len(self.key or b"") + len(self.value or b"") + sum(16 + len(name) + len(value) for name, value in self.headers)


class TooLargeError(ValueError):
    """A record that Kafka would refuse; with an idempotent producer even the next one would then fail."""


class Outbox:
    """An idempotent producer that sends whole batches to named partitions."""

    def __init__(self, connection: dict[str, Any], linger_ms: int = 0) -> None:
        # Metadata of a broker that is away is asked for again and again; a batch waits for it as long as a restart takes.
        self._producer = AIOKafkaProducer(
            **connection, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES, request_timeout_ms=60_000, linger_ms=linger_ms
        )
        self._turns: dict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        await self._producer.start()

    async def stop(self) -> None:
        await self._producer.stop()

    async def publish(self, topic: str, partition: int, records: Iterable[Outgoing]) -> list[Landed]:
        """Send `records` in order and wait until Kafka holds them."""
        return await landed(await self.send(topic, partition, records))

    async def send(self, topic: str, partition: int, records: Iterable[Outgoing]) -> list[Sent]:
        """Send `records` in order; those sent before to this partition come before. Raises `TooLargeError`."""
        batch = self._producer.create_batch()
        batches = [batch]
        for record in records:
            if record.value is not None and len(record.value) > SUSPICIOUS and record.size > LARGEST_RECORD:
                raise TooLargeError(f"a record of {record.size} bytes for {topic}, where {LARGEST_RECORD} fit")
            if batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers) is None:
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
                batches.append(batch)
        # One at a time: of several that wait for a partition, aiokafka takes the whole time from each whenever one of them had its turn,
        # and gives up long before its timeout.
        async with self._turns[topic, partition]:
            return [
                (await self._producer.send_batch(each, topic, partition=partition), each.record_count())
                for each in batches
                if each.record_count()
            ]


async def landed(sent: Iterable[Sent]) -> list[Landed]:
    """Wait until Kafka holds what was sent; returns the first offset and the number of records of each batch."""
    return [((await future).offset, number) for future, number in sent]
