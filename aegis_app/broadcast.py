"""Compacted topics that whoever reads them holds whole: no consumer group, every reader sees every record.

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
FETCHED: Final = 4096
"""Most records asked for at once."""
CHUNK: Final = 128
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
        """Take in what follows on the records before, of one partition."""


H = TypeVar("H", bound=Held)
T = TypeVar("T")


class Part:
    """How far one partition was read since the log is read from its beginning."""

    def __init__(self, tp: TopicPartition, answered: int | None) -> None:
        self.tp = tp
        self.answered = answered
        """Kafka's latest answer that was seen to its end: aiokafka's timestamp, in milliseconds."""
        self.is_whole = False
        """Whether its end was reached."""
        self.last: ConsumerRecord | None = None
        """The record read last; `None` for none."""
        self.is_checked = True
        """Whether what comes next is known to follow on `last`."""
        self.checked_at = monotonic()


class Broadcast(Generic[H]):
    """Follows one topic. `make` gives what its log amounts to while nothing of it was read; `pause` is the time between two looks, in
    seconds, at a topic with many records that nobody waits for.
    """

    def __init__(self, settings: Settings, name: Name, make: Callable[[], H], *, pause: float = 0.0) -> None:
        self.name = name
        self.topic = full_name(name, settings)
        self.held = make()
        """All of the log, as far as this reader ever knew it whole, and what was read since."""
        self._make = make
        self._building = self.held
        self._settings = settings
        self._pause = pause
        self._consumer: AIOKafkaConsumer
        self._parts: list[Part] = []
        self._whole_at: dict[TopicPartition, float] = {}
        self._made_at = self._moved_at = monotonic()

    @property
    def age(self) -> float:
        """Seconds since this reader last knew that it stood at the end of every partition; before that, since it was made."""
        return monotonic() - min(self._whole_at.values(), default=self._made_at)

    async def load(self) -> None:
        """Read the log to its end. Raises `KafkaError` where Kafka is away, `MissingTopicError`."""
        partitions = range(await partition_count(self._settings, self.topic))
        self._whole_at = {TopicPartition(self.topic, partition): self._made_at for partition in partitions}
        self._consumer = AIOKafkaConsumer(
            **self._settings.connection(),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_poll_records=FETCHED,
        )
        try:
            await self._consumer.start()
            self._consumer.assign(list(self._whole_at))
            await self._start_over()
            while not await self._read():
                if monotonic() - self._moved_at > LOAD_SECONDS:
                    raise KafkaTimeoutError(f"{self.topic}: nothing came for {LOAD_SECONDS:.0f} s")
        except BaseException:
            await self._consumer.stop()
            raise

    async def follow(self) -> None:
        """Keep up with the log until stopped. While Kafka is away, what is held stays."""
        away = False
        while True:
            try:
                await self._read()
                away = False
                await asyncio.sleep(self._pause)
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                if not away:
                    log.warning("%s cannot be read, what was read stays in force: %s", self.topic, type(error).__name__)
                away = True
                await asyncio.sleep(LOOK_SECONDS)

    async def stop(self) -> None:
        await self._consumer.stop()

    async def _read(self) -> bool:
        """Take in what has come, waiting for it a moment at most. Whether all that there was is held."""
        try:
            fetched = await self._consumer.getmany(timeout_ms=int(LOOK_SECONDS * 1000))
            for part in self._parts:
                if part.last is not None and (
                    (part.tp in fetched and not part.is_checked) or monotonic() - part.checked_at > CHECK_SECONDS
                ):
                    fetched.pop(part.tp, None)
                    if not await self._follows(part, part.last):
                        await self._start_over()
                        return False
        except OffsetOutOfRangeError:
            log.warning("%s is shorter than what was read of it: it was made anew, and is read anew", self.topic)
            await self._start_over()
            return False
        for part in self._parts:
            if records := fetched.get(part.tp):
                for start in range(0, len(records), CHUNK):
                    self._building.apply(records[start : start + CHUNK])
                    await asyncio.sleep(0)
                part.last, self._moved_at = records[-1], monotonic()
        for part in self._parts:
            answered, end = self._consumer.last_poll_timestamp(part.tp), self._consumer.last_stable_offset(part.tp)
            if answered != part.answered and await self._consumer.position(part.tp) >= end:
                part.answered, part.is_whole, self._whole_at[part.tp] = answered, True, monotonic()
                part.is_checked = part.is_checked and self._pause > 0  # where there is much to read, once in a while is often enough
        if not all(part.is_whole for part in self._parts):
            return False
        self.held = self._building
        return True

    async def _follows(self, part: Part, last: ConsumerRecord) -> bool:
        """Read on behind `last` if it stands where it stood. Another one there belongs to a topic made anew, whatever its length: `False`.

        Where Kafka does not answer in time, the next look checks again: whatever it fetches begins with `last`.
        """
        part.is_checked = False
        self._consumer.seek(part.tp, last.offset)
        for found in (await self._consumer.getmany(part.tp, timeout_ms=int(LOOK_SECONDS * 1000), max_records=1)).values():
            if any(getattr(found[0], field) != getattr(last, field) for field in ("offset", "timestamp", "key", "value")):
                log.warning("%s holds another record where one was read: it was made anew, and is read anew", self.topic)
                return False
            self._consumer.seek(part.tp, last.offset + 1)
            part.is_checked, part.checked_at = True, monotonic()
        return True

    async def _start_over(self) -> None:
        """What is held stays until the log was read to its end."""
        self._building = self._make()
        self._parts = [Part(tp, self._consumer.last_poll_timestamp(tp)) for tp in self._whole_at]
        self._moved_at = monotonic()
        await self._consumer.seek_to_beginning(*self._whole_at)


async def read_once(settings: Settings, name: Name) -> list[ConsumerRecord]:
    """Every record that a topic holds now. Raises `KafkaError`, `MissingTopicError`."""
    reader = Broadcast(settings, name, _Everything)
    await reader.load()
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
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            log.error("%s, offset %d is passed over, what was in force stays: %s", name, record.offset, why, extra=place)
            metrics.BROADCAST_REFUSED.labels(name).inc()
            continue
        yield found
