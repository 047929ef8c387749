"""The way of records into a topic: a lane for each partition, in order, a batch at a time, each acknowledged by all replicas."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from aiokafka.errors import KafkaError

from aegis_app.gateway import metrics
from aegis_app.stream.outbox import Outbox, Outgoing

log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 0.5
MOST_AT_ONCE: Final = 512
"""Records in a batch."""

Landed = Callable[[int | None], None]
"""Told the offset where a record lies; `None` where Kafka did not acknowledge it."""


class Mail:
    """The producer that the lanes of a topic share. After an error it is replaced: an idempotent one may not go on behind a gap."""

    def __init__(self, make: Callable[[], Outbox]) -> None:
        self._make = make
        self._outbox: Outbox | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Raises `KafkaError` where Kafka is away."""
        self._outbox = await self._made()

    async def stop(self) -> None:
        if self._outbox is not None:
            await self._outbox.stop()

    async def publish(self, topic: str, partition: int, records: Iterable[Outgoing]) -> list[int]:
        """Send `records` and wait until Kafka holds them. Returns their offsets. Raises `KafkaError`, `OSError`."""
        outbox = self._outbox
        if outbox is None:
            outbox = await self._renewed(None)
        try:
            batches = await outbox.publish(topic, partition, records)
        except (KafkaError, OSError):
            await self._renewed(outbox)
            raise
        return [first + place for first, number in batches for place in range(number)]

    async def _renewed(self, broken: Outbox | None) -> Outbox:
        async with self._turn:
            if self._outbox is broken:
                self._outbox = None
                if broken is not None:
                    await broken.stop()
                self._outbox = await self._made()
            assert self._outbox is not None
            return self._outbox

    async def _made(self) -> Outbox:
        outbox = self._make()
        try:
            await outbox.start()
        except BaseException:
            await outbox.stop()
            raise
        return outbox


class Lane:
    """One partition's records on their way: while a batch is under way, the next one gathers."""

    def __init__(self, mail: Mail, topic: str, partition: int) -> None:
        self._mail = mail
        self._topic = topic
        self._partition = partition
        self._queue: list[tuple[Outgoing, Landed]] = []
        self._news, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self.in_hand = 0
        """Records of the batch under way."""

    def __len__(self) -> int:
        return len(self._queue) + self.in_hand

    def put(self, record: Outgoing, landed: Landed) -> None:
        self._queue.append((record, landed))
        self._news.set()
        self._idle.clear()

    async def drained(self) -> None:
        """Return once nothing is on its way."""
        await self._idle.wait()

    async def run(self) -> None:
        while True:
            await self._news.wait()
            batch, self._queue = self._queue[:MOST_AT_ONCE], self._queue[MOST_AT_ONCE:]
            self.in_hand = len(batch)
            offsets: list[int] | list[None] = [None] * len(batch)
            try:
                offsets = await self._mail.publish(self._topic, self._partition, [record for record, _ in batch])
            except (KafkaError, OSError) as error:
                log.error("%d records for %s were not acknowledged: %s", len(batch), self._topic, type(error).__name__)
                metrics.UNSENT.inc(len(batch))
                await asyncio.sleep(PAUSE_SECONDS)
            for (_, landed), offset in zip(batch, offsets, strict=True):
                landed(offset)
            self.in_hand = 0
            if not self._queue:
                self._news.clear()
                self._idle.set()
