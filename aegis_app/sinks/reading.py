"""Topics read on behalf of something slow, or away for a while: in batches, each handed over until it is taken, and committed after.

At least once, in each partition's order. What is taken twice after a crash or a rebalance, the sink knows by what it is, or by its offset.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from time import monotonic, time
from typing import Any, Final, Protocol, TypeVar

import stamina
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from aegis_app import metrics
from aegis_app.admin import partition_count
from aegis_app.core.payment import DAY_MS, Millis
from aegis_app.settings import Settings
from aegis_app.topics import Name, full_name

log = logging.getLogger(__name__)

BATCH: Final = 2000
"""Most records handed over at once."""
POLL_MS: Final = 500
"""Longest wait for records; what is there is handed over at once."""
FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 10.0
"""Between two attempts at a batch."""
LOOK_SECONDS: Final = 2.0
"""Between two looks at how much waits."""
PEEK_SECONDS: Final = 3.0
"""Longest look at the age of what waits, where it is not known from reading."""
T = TypeVar("T")


class AwayError(Exception):
    """Where records go does not answer now: they are handed over again until it does. The message says so in one line."""


class Sink(Protocol):
    """What takes the records."""

    name: str
    """Of its consumer group, behind `AEGIS_APP_ID`, and in metrics."""

    async def places(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Offsets to read on from, of the partitions for which the sink knows better than Kafka. Raises `AwayError`."""

    async def take(self, records: list[ConsumerRecord]) -> None:
        """Return once none of them can be lost, whatever happens. Raises `AwayError`; any other error ends the process."""


class Reader(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One member of a sink's consumer group."""

    def __init__(self, settings: Settings, sink: Sink, topics: Iterable[Name], *, batch: int = BATCH) -> None:
        self._settings = settings
        self._sink = sink
        self.name = sink.name
        self._topics = {full_name(name, settings): name for name in topics}
        self._batch = batch
        self._consumer: Any = None
        for name in self._topics.values():
            metrics.SINK_RECORDS.labels(sink.name, name)
            metrics.SINK_UNREADABLE.labels(sink.name, name)
        metrics.SINK_RETRIES.labels(sink.name)
        metrics.SINK_AWAY.labels(sink.name).set(0)
        self._assignment = 0
        """Counts what happens to partitions; what was fetched before the last change is not handed over."""
        self._placed = 0
        """The count when the sink was last asked where to read on."""
        self._taken: dict[TopicPartition, int] = {}
        """Of each partition, the next offset."""
        self._since: dict[TopicPartition, float] = {}
        """Of each partition, when what waits there was written at the earliest, in seconds since 1970."""
        self._in_hand: Collection[TopicPartition] = ()
        """Those of the batch that is being handed over."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self.lag: int | None = None
        """Records that wait for this member; `None` while Kafka does not answer."""
        self.away: str | None = None
        """Why the sink cannot take anything now."""
        self.moved_at = monotonic()
        """When a batch was taken last, or nothing waited, or it was not for us to take it."""

    @property
    def assigned(self) -> int:
        """Partitions that are ours."""
        return 0 if self._consumer is None else len(self._consumer.assignment())

    @property
    def topics(self) -> list[str]:
        """Full names."""
        return list(self._topics)

    @property
    def partitions(self) -> set[int]:
        """Those that are ours now, of any topic."""
        return set() if self._consumer is None else {tp.partition for tp in self._consumer.assignment()}

    def stop(self) -> None:
        """Make `run` return, with the batch in hand taken if that can be done in time."""
        self._stopping.set()

    async def run(self) -> None:
        """Read until stopped. Raises `MissingTopicError`, what aiokafka raises where Kafka is away, and what the sink raises."""
        for topic in self._topics:
            await partition_count(self._settings, topic)
        tasks = []
        self._consumer = self._make_consumer()
        try:
            await self._consumer.start()
            self._consumer.subscribe(list(self._topics), listener=self)
            tasks = [asyncio.create_task(work) for work in (self._read(), self._watch(), self._stopping.wait())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._consumer.stop()

    def _make_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._settings.connection(),
            group_id=f"{self._settings.app_id}-{self.name}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=int(self._settings.session_timeout_seconds * 1000),
            max_poll_records=self._batch,
            max_poll_interval_ms=DAY_MS,  # waiting for a database is no reason to lose partitions to others, who would wait as well
        )

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """The batch in hand goes first if it can, so that whoever comes next need not take it again."""
        self._assignment += 1
        await self._drain()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._assignment += 1
        self._taken, self._since = {}, {}

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%s: the batch in hand could not be taken in time; it is read again", self.name)

    async def _read(self) -> None:
        while not self._stopping.is_set():
            fetched: Mapping[TopicPartition, list[ConsumerRecord]] = {}
            try:
                if self._placed != self._assignment:
                    await self._place()
                fetched = self._in_hand = await self._consumer.getmany(timeout_ms=POLL_MS)
                self._idle.clear()
                if fetched:
                    await self._hand_over(fetched)
            except _GivenUpError:
                for tp, records in fetched.items():
                    self._seek(tp, records[0].offset)
            finally:
                self._in_hand = ()
                self._idle.set()

    async def _place(self) -> None:
        """Read on where the sink says; where it does not know, at Kafka's committed offset."""
        assignment, partitions = self._assignment, self._consumer.assignment()
        places = await self._insist(lambda: self._sink.places(partitions), assignment) if partitions else {}
        try:
            begins = await self._consumer.beginning_offsets(list(places)) if places else {}
            ends = await self._consumer.end_offsets(list(places)) if places else {}
        except KafkaError as error:
            log.warning("%s: Kafka does not say where its logs begin and end (%s)", self.name, type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)
            raise _GivenUpError from error
        for tp, offset in places.items():
            if offset > ends[tp]:
                log.warning("%s:%d ends before what was read of it: it was made anew, and is read from its beginning", *tp)
            elif 0 < offset < begins[tp]:
                log.error("%s:%d: %d records were deleted by its retention before they were read", *tp, begins[tp] - offset)
            self._seek(tp, offset if begins[tp] <= offset <= ends[tp] else begins[tp])
        self._placed = assignment

    async def _hand_over(self, fetched: Mapping[TopicPartition, list[ConsumerRecord]]) -> None:
        """Have a batch taken, and committed."""
        begun, records = monotonic(), [record for each in fetched.values() for record in each]
        await self._insist(lambda: self._sink.take(records), self._placed)
        self.moved_at = monotonic()
        metrics.SINK_BATCH.labels(self.name).observe(self.moved_at - begun)
        for tp, each in fetched.items():
            metrics.SINK_RECORDS.labels(self.name, self._topics[tp.topic]).inc(len(each))
            self._taken[tp] = each[-1].offset + 1
            self._since[tp] = max(self._since.get(tp, 0.0), each[-1].timestamp / 1000)
        try:
            await self._consumer.commit({tp: each[-1].offset + 1 for tp, each in fetched.items()})
        except (IllegalStateError, KafkaError) as error:  # the next commit covers it, or whoever has the partitions takes them again
            log.warning("%s: what was taken is not committed yet (%s)", self.name, type(error).__name__)

    async def _insist(self, ask: Callable[[], Awaitable[T]], assignment: int) -> T:
        """Ask the sink until it answers. Raises `_GivenUpError` where partitions changed hands since `assignment`, or at the end."""
        name, begun = self.name, monotonic()
        async for attempt in stamina.retry_context(
            on=AwayError, attempts=None, timeout=None, wait_initial=FIRST_PAUSE_SECONDS, wait_max=LONGEST_PAUSE_SECONDS
        ):
            if self._stopping.is_set() or assignment != self._assignment:
                break
            with attempt:
                try:
                    answer = await ask()
                except AwayError as error:
                    if self.away is None:
                        log.warning("%s: %s; asked again until it answers, meanwhile Kafka keeps what comes", name, error)
                    self.away = str(error)
                    metrics.SINK_AWAY.labels(name).set(1)
                    metrics.SINK_RETRIES.labels(name).inc()
                    raise
                if self.away is not None:
                    log.warning("%s: it answers again, after %.0f s", name, monotonic() - begun)
                self.away = None
                metrics.SINK_AWAY.labels(name).set(0)
                return answer
        raise _GivenUpError

    def _seek(self, tp: TopicPartition, offset: int) -> None:
        try:
            self._consumer.seek(tp, offset)
        except IllegalStateError:  # it is somebody else's by now
            log.debug("%s:%d is not ours any more", *tp)

    async def _watch(self) -> None:
        """Measure what waits, by Kafka's own word: a reader that is stuck believes to be at the end."""
        while True:
            try:
                async with asyncio.timeout(10):
                    waiting = await self._waiting()
            except (KafkaError, IllegalStateError, OSError, TimeoutError):
                waiting = None
            self._export(waiting)
            await asyncio.sleep(LOOK_SECONDS)

    async def _waiting(self) -> dict[TopicPartition, int]:
        """How many records wait in each partition; and when the oldest was written, where that is not known yet."""
        partitions, looked = self._consumer.assignment(), time()
        ends = await self._consumer.end_offsets(list(partitions)) if partitions else {}
        begins = await self._consumer.beginning_offsets(list(partitions)) if partitions else {}
        waiting, unknown = {}, {}
        for tp in partitions:
            at = self._taken[tp] if tp in self._taken else await self._consumer.committed(tp)
            first = max(begins[tp], 0 if at is None else at)
            waiting[tp] = 0 if await self._has_read(tp, ends[tp]) else max(0, ends[tp] - first)
            if waiting[tp] == 0:
                self._since[tp] = looked
            elif tp not in self._since:
                unknown[tp] = first
        if unknown:
            found = await written(self._settings, unknown)
            self._since = {tp: at / 1000 for tp, at in found.items()} | self._since
        return waiting

    async def _has_read(self, tp: TopicPartition, end: int) -> bool:
        """Whether all up to `end` was read and taken: a log can end in markers of transactions, which are no records."""
        return self._placed == self._assignment and tp not in self._in_hand and await self._consumer.position(tp) >= end

    def _export(self, waiting: dict[TopicPartition, int] | None) -> None:
        name = self.name
        metrics.SINK_LAG.clear()
        metrics.SINK_BEHIND.clear()
        for tp, records in ({} if waiting is None else waiting).items():
            labels = name, self._topics[tp.topic], str(tp.partition)
            metrics.SINK_LAG.labels(*labels).set(records)
            if records == 0:
                metrics.SINK_BEHIND.labels(*labels).set(0)
            elif tp in self._since:
                metrics.SINK_BEHIND.labels(*labels).set(max(0.0, time() - self._since[tp]))
        self.lag = None if waiting is None else sum(waiting.values())
        if not self.lag:
            self.moved_at = monotonic()


async def written(settings: Settings, places: Mapping[TopicPartition, int]) -> dict[TopicPartition, Millis]:
    """When the first record at or behind each place was written, of those that Kafka hands out within some seconds."""
    consumer = AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False, isolation_level="read_committed")
    found: dict[TopicPartition, Millis] = {}
    try:
        await consumer.start()
        consumer.assign(list(places))
        for tp, offset in places.items():
            consumer.seek(tp, offset)
        ends = monotonic() + PEEK_SECONDS
        while len(found) < len(places) and monotonic() < ends:
            for tp, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                found.setdefault(tp, records[0].timestamp)
                consumer.pause(tp)
    finally:
        await consumer.stop()
    return found


class _GivenUpError(Exception):
    """A batch is not for us to take any more, or not now."""
