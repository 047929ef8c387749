"""Records on their way to Kafka, a chunk's worth at a time, acknowledged by all replicas."""

import asyncio
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import NodeNotReadyError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import RecordMetadata
from msgspec import Struct

from aegis_app.topics import LARGEST_RECORD

Headers = list[tuple[str, bytes]]
Sent = tuple[asyncio.Future[RecordMetadata], int]
"""A batch on its way, and its number of records."""
Landed = tuple[int, int]
"""A batch that Kafka holds: its first offset, and its number of records."""
BATCH_BYTES: Final = 900_000
FORGET: Final = struct.pack("ii", 1, 0)
"""As SO_LINGER: what the system has not got rid of when a socket closes is never sent."""
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
    """An idempotent producer that sends whole batches to named partitions, while `may_send` says so; what it does not say yet waits."""

    def __init__(self, connection: dict[str, Any], linger_ms: int = 0, may_send: Callable[[], bool] | None = None) -> None:
        # Metadata of a broker that is away is asked for again and again; a batch waits for it as long as a restart takes.
        self._producer = AIOKafkaProducer(
            **connection, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES, request_timeout_ms=60_000, linger_ms=linger_ms
        )
        self._turns: dict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        if may_send is not None:
            self._ask_before_each_request(may_send)

    def _ask_before_each_request(self, may_send: Callable[[], bool]) -> None:
        """Not before each batch: one can be under way for as long as a broker is away."""
        client: Any = self._producer.client
        send = client.send

        async def asked(node: int, request: Any, **options: Any) -> Any:
            # Connected first, which can take its time, too. Of this error the producer tries again, as often as it must.
            if isinstance(request, ProduceRequest) and not (await client.ready(node) and may_send()):
                raise NodeNotReadyError("not connected, or not allowed to send")
            return await send(node, request, **options)

        client.send = asked

    def take_back(self) -> None:
        """Forget what lies in sockets, as far as it did not leave this machine; the producer sends it again when it may."""
        self.forget()
        for transport in self._transports():
            transport.abort()

    def forget(self) -> None:
        """Have what lies in sockets be forgotten when they are closed, as by the end of the process."""
        for transport in self._transports():
            with suppress(OSError):  # closed meanwhile
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, FORGET)

    def _transports(self) -> list[asyncio.Transport]:
        return [connection._writer.transport for connection in list(self._producer.client._conns.values()) if connection.connected()]

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
