"""Compacted topics of one partition that whoever reads them holds whole: no consumer group, every reader sees every record.

Each record stands alone, and the latest of a key replaces those before it. One that cannot be read is passed over: what was in force stays.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Final, Generic, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError, KafkaError, KafkaTimeoutError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from aegis_app import metrics
from aegis_app.admin import partition_count
from aegis_app.settings import Settings
from aegis_app.topics import Name, full_name

log = logging.getLogger(__name__)

FETCH_WAIT_MS: Final = 200
"""How long Kafka may wait for something new before it says that there is nothing; what is new it hands over at once."""
LOOK_SECONDS: Final = 0.5
"""Longest time between two looks at what has come; and the pause after an error."""
CHUNK: Final = 4096
"""Most records taken in at once: between two chunks, payments are decided."""
CHECK_SECONDS: Final = 10.0
"""Longest time after which a topic that was made anew, and is as long as before, is noticed."""
LOAD_SECONDS: Final = 30.0
"""A load during which nothing comes for so long has failed."""


class UnreadableError(ValueError):
    """A record makes no sense to us; the message says why, without what stands in it."""


class Held(Protocol):
    """What the records of a topic amount to."""

    def apply(self, records: list[ConsumerRecord]) -> None:
        """Take in what follows on the records before."""


H = TypeVar("H", bound=Held)
T = TypeVar("T")


class Broadcast(Generic[H]):
    """Follows one topic. `make` gives what its log amounts to while nothing of it was read."""

    def __init__(self, settings: Settings, name: Name, make: Callable[[], H]) -> None:
        self.name = name
        self.held = make()
        """All of the log, as far as this reader ever knew it whole, and what was read since."""
        self._make = make
        self._building = self.held
        self._connection = settings.connection()
        self._tp = TopicPartition(full_name(name, settings), 0)
        self._consumer: AIOKafkaConsumer
        self._answered: int | None = None
        """Kafka's latest answer that was seen to its end: aiokafka's timestamp, in milliseconds."""
        self._last: ConsumerRecord | None = None
        """The record read last; `None` for none since the log is read from its beginning."""
        self._is_checked = True
        """Whether what comes next is known to follow on `_last`."""
        self._whole_at = self._moved_at = self._checked_at = monotonic()

    @property
    def age(self) -> float:
        """Seconds since this reader last knew that it stood at the log's end; before that, since it was made."""
        return monotonic() - self._whole_at

    async def load(self) -> None:
        """Read the log to its end. Raises `KafkaError` where Kafka is away."""
        self._consumer = AIOKafkaConsumer(
            **self._connection,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_poll_records=CHUNK,
        )
        await self._consumer.start()
        self._consumer.assign([self._tp])
        await self._start_over()
        while not await self._read():
            if monotonic() - self._moved_at > LOAD_SECONDS:
                raise KafkaTimeoutError(f"{self._tp.topic}: nothing came for {LOAD_SECONDS:.0f} s")

    async def follow(self) -> None:
        """Keep up with the log until stopped. While Kafka is away, what is held stays."""
        away = False
        while True:
            try:
                await self._read()
                away = False
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                if not away:
                    log.warning("%s cannot be read, what was read stays in force: %s", self._tp.topic, type(error).__name__)
                away = True
                await asyncio.sleep(LOOK_SECONDS)

    async def stop(self) -> None:
        await self._consumer.stop()

    async def _read(self) -> bool:
        """Take in what has come, waiting for it a moment at most. Whether that was all there is."""
        try:
            fetched = await self._consumer.getmany(self._tp, timeout_ms=int(LOOK_SECONDS * 1000))
            if self._last is not None and ((fetched and not self._is_checked) or monotonic() - self._checked_at > CHECK_SECONDS):
                await self._check(self._last)
                return False
        except OffsetOutOfRangeError:
            log.warning("%s is shorter than what was read of it: it was made anew, and is read anew", self._tp.topic)
            await self._start_over()
            return False
        for records in fetched.values():
            self._building.apply(records)
            self._last, self._moved_at = records[-1], monotonic()
        answered, end = self._consumer.last_poll_timestamp(self._tp), self._consumer.last_stable_offset(self._tp)
        if answered == self._answered or await self._consumer.position(self._tp) < end:
            return False
        self._answered, self._whole_at, self._is_checked = answered, monotonic(), False
        self.held = self._building
        return True

    async def _check(self, last: ConsumerRecord) -> None:
        """Read on behind `last` if it stands where it stood. Another one there belongs to a topic made anew, whatever its length.

        Where Kafka does not answer in time, the next look checks again: whatever it fetches begins with `last`.
        """
        self._is_checked = False
        self._consumer.seek(self._tp, last.offset)
        for found in (await self._consumer.getmany(self._tp, timeout_ms=int(LOOK_SECONDS * 1000), max_records=1)).values():
            if any(getattr(found[0], part) != getattr(last, part) for part in ("offset", "timestamp", "key", "value")):
                log.warning("%s holds another record where one was read: it was made anew, and is read anew", self._tp.topic)
                await self._start_over()
                return
            self._consumer.seek(self._tp, last.offset + 1)
            self._is_checked, self._checked_at = True, monotonic()

    async def _start_over(self) -> None:
        """What is held stays until the log was read to its end."""
        self._building = self._make()
        self._last, self._is_checked, self._checked_at = None, True, monotonic()
        self._answered = self._consumer.last_poll_timestamp(self._tp)
        self._moved_at = monotonic()
        await self._consumer.seek_to_beginning(self._tp)


async def read_once(settings: Settings, name: Name) -> list[ConsumerRecord]:
    """Every record that a topic holds now. Raises `KafkaError`, `MissingTopicError`."""
    await partition_count(settings, full_name(name, settings))
    reader = Broadcast(settings, name, _Everything)
    try:
        await reader.load()
    finally:
        await reader.stop()
    return reader.held.records


class _Everything:
    def __init__(self) -> None:
        self.records: list[ConsumerRecord] = []

    def apply(self, records: list[ConsumerRecord]) -> None:
        self.records += records


def readable(name: Name, records: Iterable[ConsumerRecord], read: Callable[[ConsumerRecord], T]) -> Iterator[T]:
    """What `read` makes of each record; one that it cannot read is logged, counted and passed over."""
    for record in records:
        try:
            found = read(record)
        except Exception as error:  # whatever is wrong with one record must stop neither the worker nor those after it
            why = str(error) if isinstance(error, UnreadableError) else type(error).__name__
            log.error("%s, offset %d is passed over, what was in force stays: %s", name, record.offset, why)
            metrics.BROADCAST_REFUSED.labels(name).inc()
            continue
        yield found
