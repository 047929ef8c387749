"""One owner per partition of a table: everything about its keys goes through here, in order, outputs first.

A chunk is computed on memory plus an overlay of what is in flight, and its outputs are sent. Then, in order: its outputs are
acknowledged, others are told and that is acknowledged, the changelog is published and acknowledged, RocksDB is written with the
changelog's offset in the same batch, the chunk is settled, and the next commit commits that. So memory that contains a payment implies
that everything about it was published; and what others are told of a payment implies that its decision stands.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import rocksdict
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition
from faust.types import TP

from aegis_app import metrics
from aegis_app.logs import log
from aegis_app.stream.clock import now
from aegis_app.stream.letters import Latch
from aegis_app.stream.memory import LEARNT, PRIVATE, RESTORED, SUPERSEDED, Memory, decode_learnt, encode_learnt
from aegis_app.stream.outbox import Headers, Landed, Outgoing, Sent, landed
from aegis_app.stream.transport import CHUNK
from aegis_app.topics import EVENTS, home

if TYPE_CHECKING:
    from aegis_app.stream.app import StreamApp

T = TypeVar("T")
V = TypeVar("V")
Place = tuple[str, int]
"""A topic, and a partition of it."""
Sendings = list[tuple[str, Sent]]
"""What is on its way, with its topic."""

PATIENCE: Final = 0.05
"""Seconds for which changes of cards are gathered before they are settled. No decision waits for that; and a broker is asked less often."""
PAUSES: Final = 8
"""So often is looked, while changes are gathered, whether partitions change hands."""
IN_HAND: Final = 8 * CHUNK
"""Most records of a partition that are computed and not settled, and a chunk: what is in hand must be done with when it changes hands."""
TAIL: Final = 2 * (IN_HAND + CHUNK)
"""Most decisions to search: half can have been published without being learnt; the rest is for a revived writer's."""
CACHED: Final = 8192
"""Values kept at hand per partition, at one or two kilobytes each; all are dropped when there are more."""
SWEEP: Final = 8
"""One in so many records lets one more value be looked at, to forget those that idled too long."""
SOURCE: Final = "source"
"""Header of every output: partition:offset of the payment that led to it."""


class Stop(RuntimeError):
    """The process must not go on; the message says why and what to do."""


class Forgotten:
    """Stands for a value that is to go. One for each time, so that it is known which chunk asked for it."""


class Work(Generic[V]):
    """A chunk in hand: what it reads, what it publishes, what it teaches."""

    def __init__(self, owner: "Owner[V]", records: list[ConsumerRecord]) -> None:
        self.owner = owner
        self.records = records
        self.topic: str = records[-1].topic
        self.last: int = records[-1].offset
        self.passed = owner.passed.get(self.topic, -1)
        """Up to this offset everything is learnt, also of what is not remembered any more."""
        self.outputs: dict[str, list[Outgoing]] = defaultdict(list)
        self.told: dict[Place, list[Outgoing]] = defaultdict(list)
        self.changed: dict[str, V | Forgotten] = {}
        self.sent_at = 0.0
        """When outputs began to be sent, in seconds since 1970."""
        self.acknowledged_at: float | None = None
        """When Kafka had them all, likewise; `None` while that is not noted."""

    def recall(self, key: str) -> V | None:
        """Memory as of the last payment before; `None` for none."""
        return self.owner.recall(key)

    def learn(self, key: str, value: V | None) -> None:
        """Remember `value` from now on; `None` forgets."""
        self.changed[key] = self.owner.overlay[key] = Forgotten() if value is None else value

    def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """An output, into this partition: sent at once."""
        self.outputs[topic].append(Outgoing(key, value, headers))

    def tell(self, topic: str, key: bytes, value: bytes) -> None:
        """An event for whoever owns `key` elsewhere: sent once Kafka holds the outputs."""
        self.told[topic, home(key, self.owner.app.partitions)].append(Outgoing(key, value))

    def acknowledge(self, _: object) -> None:
        """Note that Kafka holds a batch of the outputs; settling, which waits its turn, comes later."""
        self.acknowledged_at = time()


def waiting(queue: asyncio.Queue[T]) -> list[T]:
    """All that is in the queue now."""
    return [queue.get_nowait() for _ in range(queue.qsize())]


class Owner(Generic[V]):
    """The one writer of a partition's memory."""

    def __init__(self, owners: "Owners[V]", partition: int) -> None:
        self.owners = owners
        self.app = owners.app
        self.memory = owners.memory
        self.partition = partition
        self.changelog = self.memory.changelog_topic.get_topic_name()
        self.overlay: dict[str, V | Forgotten] = {}
        """What is in flight, newer than the database."""
        self.cached: dict[str, V] = {}
        """What the database holds of late, as values."""
        self.recorded: Mapping[int, list[bytes]] = {}
        """Decisions that stood on the log when this partition was taken over, and are not learnt yet, by the offset of their payment."""
        self.settled: dict[str, int] = {}
        self.learnt: dict[str, int] = {}
        """The last offset learnt from each source; and that of decisions, up to which each is of a payment that is learnt."""
        self.passed: dict[str, int] = {}
        """Per topic, the last offset computed: that of `learnt` and what is in flight since."""
        self.latch = Latch(self.app.settings.dead_letter_share, self.app.settings.dead_letter_window)
        self.read = 0
        """Values read from the database, to be counted."""
        self.settled_record: dict[str, int] = {}
        """Per topic, the time of the record settled last, in milliseconds."""
        self.newest = 0
        """The latest event time learnt here since it was taken over, in milliseconds."""
        self._expected: dict[str, int] = {}
        self._jumps: dict[str, set[int]] = defaultdict(set)
        self._next_change: int = 0
        self._next_decision: int | None = None
        """Where the next decision lands if nobody else writes any; `None` once somebody did."""
        self._swept = PRIVATE
        self._is_told = False
        self._in_hand = 0
        self._progress = asyncio.Event()
        self._computed: asyncio.Queue[Work[V]] = asyncio.Queue()
        self._published: asyncio.Queue[tuple[list[Work[V]], Sendings]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Take over where the last owner stopped. Raises `Stop` where that cannot be told."""
        reader, sources = self.app.reader, self.owners.sources
        store = self.memory.data
        database = store.partition(self.partition)
        if (raw := database.get(LEARNT)) is not None:
            self.learnt = decode_learnt(raw)
            self.passed = dict(self.learnt)
        begins = await reader.beginning_offsets([TopicPartition(topic, self.partition) for topic in sources])
        ends = await reader.end_offsets([TopicPartition(topic, self.partition) for topic in (*sources, self.changelog)])
        for topic in sources:
            end = ends[TopicPartition(topic, self.partition)]
            if self.learnt.get(topic, -1) >= end:
                raise Stop(
                    f"{topic}[{self.partition}] ends at offset {end}, but offset {self.learnt[topic]} is learnt already: the topic was "
                    f"made anew. Restore it; or give this deployment a new AEGIS_APP_ID, and make {' and '.join(EVENTS)} anew, too."
                )
            committed = self.app.consumer.committed(TP(topic, self.partition))
            self._expected[topic] = begins[TopicPartition(topic, self.partition)] if committed is None else committed
            self.settled[topic] = self._expected[topic]
        self._next_change = ends[TopicPartition(self.changelog, self.partition)]
        persisted = store.persisted_offset(TP(self.changelog, self.partition))
        if self._next_change != (0 if persisted is None else persisted + 1):
            raise Stop(f"{self.changelog}[{self.partition}] went on to {self._next_change} after recovery had read to {persisted}")
        await self._restore_superseded(store.superseded(self.partition))
        if self.owners.decisions is not None:
            await self._read_recorded(reader, TopicPartition(self.owners.decisions, self.partition))
        self._tasks = [asyncio.create_task(self._publish_all()), asyncio.create_task(self._settle_all())]

    async def _restore_superseded(self, keys: set[bytes]) -> None:
        """A revived writer put older values last on the changelog: put there again what is newer, or that they are forgotten."""
        database = self.memory.data.partition(self.partition)
        values = {key: database.get(key) for key in keys}
        if values:
            write = rocksdict.WriteBatch(raw_mode=True)
            write.delete(SUPERSEDED)
            await self._write(write, [Outgoing(key, value, [RESTORED]) for key, value in values.items()])

    async def _read_recorded(self, reader: AIOKafkaConsumer, tp: TopicPartition) -> None:
        """Find decisions that are not learnt. They stand in the order of payments, so they begin behind one that is known to be learnt."""
        learnt = self.learnt.get(self.owners.sources[0], -1)
        begin, end = (await reader.beginning_offsets([tp]))[tp], (await reader.end_offsets([tp]))[tp]
        start, known = max(begin, end - TAIL), self.learnt.get(tp.topic, -1)
        self._next_decision = end
        reader.assign([tp])
        reader.seek(tp, start)
        if start < known < end:
            reader.seek(tp, known)
            paid = self._paid(await reader.getone(tp))
            if paid is None or paid > learnt:  # decisions were made anew, or lost
                reader.seek(tp, start)
        found: dict[int, list[bytes]] = defaultdict(list)
        while await reader.position(tp) < end:
            for records in (await reader.getmany(tp, timeout_ms=1000)).values():
                for record in records:
                    paid = self._paid(record)
                    if paid is not None and paid > learnt:
                        found[paid].append(record.value)
        self.recorded = found
        reader.pause(tp)  # else the broker holds a fetch at the end for half a second, and what is asked next waits behind it

    def _paid(self, decision: ConsumerRecord) -> int | None:
        """The offset of the payment that a decision answers; `None` where that is none of this partition."""
        partition, _, offset = (dict(decision.headers).get(SOURCE) or b"").partition(b":")
        is_ours = partition == b"%d" % self.partition and offset.isdigit() and len(offset) < 20 and decision.value is not None
        return int(offset) if is_ours else None

    def recall(self, key: str) -> V | None:
        value = self.overlay.get(key)
        if value is None:
            value = self.cached.get(key)
        if isinstance(value, Forgotten):
            return None
        if value is not None:
            return value
        self.read += 1
        return self.memory.read(self.partition, key)

    def follows(self, topic: str, records: list[ConsumerRecord]) -> int | None:
        """`None` where `records` follow on what came before; else the offset to go back to.

        After a rebalance, records fetched before it can come first, beyond the committed offset. The same jump twice is a
        true gap in the log: markers of transactions, or retention. What else was queued behind it jumps likewise in between.
        """
        first, expected, jumps = records[0].offset, self._expected[topic], self._jumps[topic]
        if first > expected and first not in jumps:
            jumps.add(first)
            return expected
        jumps.clear()
        self._expected[topic] = max(expected, records[-1].offset + 1)
        return None

    def awaited(self) -> dict[TP, int]:
        """The offset that comes next in each topic; empty while something is in hand."""
        return {} if self._in_hand else {TP(topic, self.partition): offset for topic, offset in self._expected.items()}

    async def put(self, work: Work[V]) -> None:
        """Hand over a computed chunk; waits while too many are ahead."""
        self.passed[work.topic] = max(work.last, self.passed.get(work.topic, -1))
        self._in_hand += len(work.records)
        await self._computed.put(work)
        while self._in_hand > IN_HAND:
            self._progress.clear()
            await self._progress.wait()

    async def drained(self) -> None:
        """Wait until every chunk in hand is settled."""
        await self._computed.join()
        await self._published.join()

    async def _publish_all(self) -> None:
        """Send outputs as soon as those before them are on their way: a decision waits for nothing else."""
        try:
            while True:
                works = [await self._computed.get(), *waiting(self._computed)]
                outputs: dict[str, list[Outgoing]] = defaultdict(list)
                for work in works:
                    work.sent_at = time()
                    for topic, records in work.outputs.items():
                        outputs[topic] += records
                sent = [
                    (topic, each)
                    for topic, records in outputs.items()
                    for each in await self.app.outputs.send(topic, self.partition, records)
                ]
                for work in works:
                    for _, (future, _) in sent:
                        future.add_done_callback(work.acknowledge)
                self._published.put_nowait((works, sent))
                for _ in works:
                    self._computed.task_done()
        except Exception as error:
            self.app.die(error)

    async def _settle_all(self) -> None:
        try:
            while True:
                batches = [await self._published.get()]
                await self._gather_more()
                batches += waiting(self._published)
                await self._settle([work for works, _ in batches for work in works], [each for _, sent in batches for each in sent])
                for _ in batches:
                    self._published.task_done()
        except Exception as error:
            self.app.die(error)

    async def _gather_more(self) -> None:
        """Let as much time pass as the table's changes are gathered for; none while partitions change hands
        or no more may be in hand."""
        for _ in range(PAUSES):
            if self.owners.closed or self._in_hand > IN_HAND:
                return
            await asyncio.sleep(self.owners.patience / PAUSES)

    async def _settle(self, works: list[Work[V]], sent: Sendings) -> None:
        """Once Kafka holds what was `sent` of these: what others are told, then changelog, then RocksDB, then the offsets."""
        decided = [landing for topic, each in sent for landing in await landed([each]) if topic == self.owners.decisions]
        changed: dict[str, V | Forgotten] = {}
        told: dict[Place, list[Outgoing]] = defaultdict(list)
        learnt = dict(self.learnt)
        for work in works:
            self.owners.on_published(work)
            changed |= work.changed
            for place, records in work.told.items():
                told[place] += records
            learnt[work.topic] = max(work.last, learnt.get(work.topic, -1))
        self._learn_decided(learnt, decided)
        self.learnt = learnt
        kept = {name: value for name, value in changed.items() if not isinstance(value, Forgotten)}
        gone = [name for name in changed if name not in kept]
        latest = max(map(self.memory.codec.clock, kept.values()), default=0)
        self.newest = max(self.newest, min(latest, int(time() * 1000)))  # a producer's wrong clock must not make others look idle
        idle, unchanged = self._sweep(sum(len(work.records) for work in works))
        values, summaries = await self._encode(kept)
        if self.owners.summaries is not None:
            forgotten = [Outgoing(name.encode(), None) for name in (*idle, *gone)]
            told[self.owners.summaries, self.partition] = [*summaries, *unchanged, *forgotten]
        begun = perf_counter()
        await asyncio.gather(*(self.app.events.publish(*place, records) for place, records in told.items()))
        if told and self.owners.decisions is not None:
            metrics.TELL.observe(perf_counter() - begun)
        await self._remember(values, idle, gone)
        if len(self.cached) > CACHED:
            self.cached.clear()
        self.cached |= kept
        for name in gone:
            self.cached.pop(name, None)
        for name, settled in changed.items():
            if self.overlay.get(name) is settled:
                del self.overlay[name]
        for work in works:
            self.settled[work.topic] = max(work.last + 1, self.settled.get(work.topic, 0))
            self.settled_record[work.topic] = work.records[-1].timestamp
            self._in_hand -= len(work.records)
            self.owners.on_settled(work)
        self._progress.set()

    def _learn_decided(self, learnt: dict[str, int], landings: list[Landed]) -> None:
        """Decisions are learnt up to the last one of `landings`: unless some that were found are not yet, or another wrote in between."""
        if self.owners.decisions is None:
            return
        if self.recorded:
            paid = learnt.get(self.owners.sources[0], -1)
            self.recorded = {offset: values for offset, values in self.recorded.items() if offset > paid}
        for first, number in landings:
            self._next_decision = first + number if first == self._next_decision else None
        if not self.recorded and self._next_decision:
            learnt[self.owners.decisions] = self._next_decision - 1

    async def _encode(self, kept: dict[str, V]) -> tuple[list[Outgoing], list[Outgoing]]:
        """Values for the changelog, and their summaries, if there are any; that there is none is said once."""
        encode, summary = self.memory.codec.encode, self.memory.codec.summary
        values, summaries = [], []
        async with self.app.background as background:
            for name, value in kept.items():
                await background.rest()
                key = name.encode()
                values.append(Outgoing(key, encode(value)))
                if summary is None:
                    continue
                said, before = summary(value), self.cached.get(name)
                if said is not None or before is None or summary(before) is not None:
                    summaries.append(Outgoing(key, said))
        return values, summaries

    async def _remember(self, values: list[Outgoing], idle: list[str], gone: list[str]) -> None:
        write: Any = rocksdict.WriteBatch(raw_mode=True)
        for change in values:
            write.put(change.key, change.value)
        # In one batch, and last: values that go take their offsets with them, so what was learnt must stand on the log as soon as they
        # are gone, and must not stand there while they are not.
        last = [Outgoing(LEARNT, encode_learnt(self.learnt)), *(Outgoing(name.encode(), None) for name in gone)]
        write.put(LEARNT, last[0].value)
        for name in (*idle, *gone):
            write.delete(name.encode())
        changes = [*values, *(Outgoing(name.encode(), None) for name in idle)]
        await self._write(write, *((changes, last) if gone else ([*changes, *last],)))

    async def _write(self, write: Any, *parts: list[Outgoing]) -> None:
        """Publish the changelog, each part once the one before is there; check that nobody else did, then write RocksDB with the offset."""
        begun = perf_counter()
        for changes in parts:
            for offset, number in await self.app.changes.publish(self.changelog, self.partition, changes):
                if offset != self._next_change:
                    self.memory.data.wipe(self.partition)
                    raise Stop(f"another worker writes {self.changelog}[{self.partition}]: offset {offset}, expected {self._next_change}")
                self._next_change = offset + number
        acknowledged = perf_counter()
        write.put(self.memory.data.offset_key, b"%d" % (self._next_change - 1))
        self.memory.data.partition(self.partition).write(write)
        if self.owners.decisions is not None:
            metrics.CHANGELOG.observe(acknowledged - begun)
            metrics.ROCKSDB.observe(perf_counter() - acknowledged)
        metrics.WRITES.labels(self.memory.name).inc(sum(map(len, parts)))
        metrics.READS.labels(self.memory.name).inc(self.read)
        self.read = 0

    def _sweep(self, records: int) -> tuple[list[str], list[Outgoing]]:
        """Look at some of the values; every value's turn comes. Keys of those that idled for too long, to be forgotten.

        And in the first round, summaries of the others: so their topic is whole again after it was lost, once this partition changed hands.
        """
        found, summaries = [], []
        items = self.memory.scan(self.partition, self._swept)
        self._swept = PRIVATE
        for key, raw in islice(items, 1 + records // SWEEP):
            self._swept = key
            name = key.decode()
            if name in self.overlay:
                continue
            if self.memory.codec.expired(raw, self.newest):
                self.cached.pop(name, None)
                found.append(name)
            elif not self._is_told and self.memory.codec.summary is not None:
                summaries.append(Outgoing(key, self.memory.codec.summary(self.memory.codec.decode(raw))))
        self._is_told = self._is_told or self._swept == PRIVATE
        return found, summaries

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Owners(Generic[V]):
    """The partitions of one table that this worker owns. `sources` is what they read; co-partitioned with the table."""

    def __init__(
        self,
        app: "StreamApp",
        memory: Memory[V],
        sources: Sequence[str],
        *,
        decisions: str | None = None,
        summaries: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.app = app
        self.memory = memory
        self.sources = tuple(sources)
        self.decisions = decisions
        """Where outputs of the first source stand that must not be published twice; `None` where there are none."""
        self.summaries = summaries
        """Compacted: the codec's summary of each value that changed goes there, for whoever holds them all."""
        self.patience = patience
        """Seconds before what is computed is settled, where nobody waits for it: a value that changed often meanwhile is written once."""
        self.latched: str | None = None
        """Why no further chunk is taken, for `/ready`; `None` while they are."""
        self.last_settled = monotonic()
        self.closed = True
        """Whether nothing is taken, because partitions change hands."""
        self._owners: dict[int, Owner[V]] = {}
        self._lock = asyncio.Lock()

    def __iter__(self) -> Iterator[Owner[V]]:
        return iter(list(self._owners.values()))

    @property
    def topics(self) -> list[str]:
        """All that owners ask about when they take over."""
        changelog: str = self.memory.changelog_topic.get_topic_name()
        return [*self.sources, changelog, *([] if self.decisions is None else [self.decisions])]

    def settled(self) -> dict[TP, int]:
        """What may be committed."""
        return {TP(topic, owner.partition): offset for owner in self for topic, offset in owner.settled.items()}

    def on_published(self, work: Work[V]) -> None:
        """Kafka holds a chunk's outputs: who waits for a decision can have it. Dead letters among them are timed along."""
        if self.decisions not in work.outputs:
            return
        acknowledged = time() if work.acknowledged_at is None else work.acknowledged_at
        metrics.published([record.timestamp for record in work.records], work.sent_at, acknowledged)

    def on_settled(self, work: Work[V]) -> None:
        """A chunk's outputs, changelog and memory are all in place."""
        self.last_settled = monotonic()
        if self.decisions is not None:
            metrics.CHUNK.observe(len(work.records))

    def holding(self, partition: int) -> Owner[V] | None:
        """The owner of a partition, if a chunk of it came since it was assigned."""
        return self._owners.get(partition)

    async def chunks(self, stream: Any) -> AsyncIterator[Work[V]]:
        """Each chunk once, in order per partition, with its owner. What follows on the loop's body is its settlement."""
        async for event in stream.noack().events():
            message = event.message
            async with self._lock:
                if self.closed or self.latched is not None or message.generation_id != self.app.consumer_generation_id:
                    continue
                owner = self._owners.get(message.partition) or await self._open(message.partition)
                back = owner.follows(message.topic, event.value)
                if back is not None:
                    metrics.JUMPS.inc()
                    place = {"topic": message.topic, "partition": message.partition, "offset": back}
                    log.info("%s[%d] is read again from offset %d on", *place.values(), extra=place)
                    await self.app.consumer.seek_wait({TP(message.topic, message.partition): back})
                    continue
                work = Work(owner, event.value)
                taken, begun = time(), perf_counter()
                yield work
                if self.decisions is not None:
                    metrics.WAIT.observe(max(0.0, taken - work.records[0].timestamp / 1000))
                    metrics.JUDGE.observe(perf_counter() - begun)
                if self.latched is None:
                    await owner.put(work)
                    await asyncio.sleep(0)  # or all chunks that wait are computed before the first decision goes out

    async def _open(self, partition: int) -> Owner[V]:
        owner = Owner(self, partition)
        await owner.open()
        self._owners[partition] = owner
        return owner

    def latch(self, work: Work[V], reason: str) -> None:
        """Take no further chunk, and do not settle `work`, until an operator says so."""
        for key, value in work.changed.items():
            if work.owner.overlay.get(key) is value:
                del work.owner.overlay[key]
        self.latched = reason
        self.app.log.critical("%s", reason)
        self.app.consumer.pause_partitions({tp for tp in self.app.consumer.assignment() if tp.topic in self.sources})

    async def drained(self) -> None:
        """Wait until nothing is in hand. Close before."""
        async with self._lock:
            await asyncio.gather(*(owner.drained() for owner in self))

    async def close(self) -> None:
        """Let go of every partition."""
        for owner in self:
            await owner.close()
        self._owners.clear()


class Holdings:
    """The owners of every table, whose partitions change hands together; and the lease without which none may write."""

    def __init__(self, app: "StreamApp") -> None:
        self.app = app
        self.tables: list[Owners[Any]] = []
        self._missing: dict[TP, int] = {}
        """What was found missing at the last look, by the offset from which."""
        self.heard = -math.inf
        """When the group was last asked something, as far as it then counted this worker in. Set by the consumer's thread, too."""
        self._might_send = False

    def __iter__(self) -> Iterator[Owners[Any]]:
        return iter(self.tables)

    def settled(self) -> dict[TP, int]:
        """What may be committed."""
        return {tp: offset for owners in self for tp, offset in owners.settled().items()}

    @cached_property
    def urgent(self) -> frozenset[str]:
        """The topics on whose records decisions wait."""
        return frozenset(topic for owners in self if owners.decisions is not None for topic in owners.sources)

    @property
    def are_assigned(self) -> bool:
        """Whether the group has said which partitions are held here, if any."""
        return not any(owners.closed for owners in self)

    @property
    def latched(self) -> str | None:
        """Why some topic is not read any more; `None` while all are."""
        return next((owners.latched for owners in self if owners.latched is not None), None)

    def reading(self, topic: str) -> Owners[Any] | None:
        """Whose source `topic` is."""
        return next((owners for owners in self if topic in owners.sources), None)

    async def retrieve(self) -> None:
        """Read again what was fetched and came to no owner; to be called now and then, it acts on what it finds a second time.

        When Faust resumes after a rebalance it forgets what is queued. Sources are not fetched before (`ChunkConsumer._is_wanted`), so
        there should be nothing to find. Where there is all the same, the next chunk would show the jump, but there may be none for long.
        """
        consumer, missing = self.app.consumer, {}
        for owners in self:
            if owners.closed or owners.latched is not None:
                continue
            for tp in consumer.assignment():
                if tp.topic in owners.sources and tp in consumer.sought and not consumer.is_queued(tp):
                    owner = owners.holding(tp.partition)
                    offset = (consumer.committed(tp) or 0) if owner is None else owner.awaited().get(tp)
                    if offset is not None and consumer.fetched(tp) > offset:
                        missing[tp] = offset
        for tp, offset in missing.items():
            if self._missing.get(tp) == offset:
                metrics.JUMPS.inc()
                self.app.log.warning("%s[%d] is read again from offset %d: what was fetched did not arrive", *tp, offset)
                await consumer.seek_wait({tp: offset})
        self._missing = missing

    def tick(self) -> None:
        """To be called at least every second: take back what was not sent in time."""
        may_send = self.may_send()
        if self._might_send and not may_send:
            for outbox in self.app.outboxes:
                outbox.take_back()
        self._might_send = may_send

    def watch(self, loop: Any) -> None:
        """End this process where it stood still for too long, before it does anything that became possible meanwhile: the rest of a request
        would go out of a socket that had taken only a part of it.
        """
        selector, alive = loop._selector, now()
        select = selector.select

        def watched(timeout: float | None = None) -> Any:
            nonlocal alive
            events = select(1.0 if timeout is None else min(timeout, 1.0))  # or to wait would count as to stand still
            still, lease = now() - alive, self.app.lease_seconds
            if still > lease:
                self.app.die(Stop(f"stood still for {still:.0f} s, beyond the session's {lease:.0f} s: others own these partitions"))
            alive = now()
            return events

        selector.select = watched

    def may_send(self) -> bool:
        """Whether nobody else can own these partitions yet: the group counted this worker in, less than a session ago."""
        return now() - self.heard <= self.app.lease_seconds and self.app.consumer.is_member

    async def hand_over(self, *, is_member: bool = True) -> None:
        """Take no more, finish what is in hand, commit it, close. Raises `Stop` where that takes too long or comes too late."""
        for owners in self:
            owners.closed = True
        try:
            async with asyncio.timeout(self.app.drain_seconds if is_member else 0.1):
                await asyncio.gather(*(owners.drained() for owners in self))
        except TimeoutError:
            if not is_member:
                raise Stop("the group went on without this worker while it had work in hand") from None
            raise Stop(f"work in hand was not finished within {self.app.drain_seconds:.0f} s") from None
        if self.settled() and is_member:
            # Faust answers False, and commits nothing more, where a periodic commit is under way.
            for _ in range(3):
                if await self.app.consumer.commit():
                    break
        for owners in self:
            await owners.close()

    def take_over(self, begun: float) -> None:
        """Take what comes, from now on; the group has counted this worker in when that `begun`, and is asked again only after it."""
        self._missing = {}
        self.heard = begun
        for owners in self:
            owners.closed = False
