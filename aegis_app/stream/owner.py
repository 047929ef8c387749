"""One owner per partition: everything about its cards goes through here, in order, outputs first.

A chunk is computed on memory plus an overlay of what is in flight, and its outputs are sent. Then, in order: its outputs are
acknowledged, the changelog is published and acknowledged, RocksDB is written with the changelog's offset in the same batch,
the chunk is settled, and the next commit commits that. So memory that contains a payment implies that everything about it was published.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import rocksdict
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition
from faust.types import TP

from aegis_app import metrics
from aegis_app.stream.letters import Latch
from aegis_app.stream.memory import LEARNT, PRIVATE, RESTORED, Memory, decode_learnt, encode_learnt
from aegis_app.stream.outbox import Headers, Outgoing, Sent, landed
from aegis_app.stream.transport import CHUNK

if TYPE_CHECKING:
    from aegis_app.stream.app import StreamApp

V = TypeVar("V")

TOGETHER: Final = 4
"""Most chunks that are settled as one, where they are computed faster than Kafka answers; and most in each queue before that."""
TAIL: Final = 4 * TOGETHER * CHUNK
"""Decisions to search after a crash: over half can have been published without being learnt; the rest is for a revived writer's."""
CACHED: Final = 8192
"""Values kept at hand per partition, at one or two kilobytes each; all are dropped when there are more."""
SWEEP: Final = 8
"""One in so many payments lets one more card be looked at, to forget those that idled too long."""
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
        self.changed: dict[str, V | Forgotten] = {}
        self.sent: list[Sent] = []

    def recall(self, key: str) -> V | None:
        """Memory as of the last payment before; `None` for none."""
        return self.owner.recall(key)

    def learn(self, key: str, value: V | None) -> None:
        """Remember `value` from now on; `None` forgets."""
        self.changed[key] = self.owner.overlay[key] = Forgotten() if value is None else value

    def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        self.outputs[topic].append(Outgoing(key, value, headers))


class Owner(Generic[V]):
    """The one writer of a partition's memory."""

    def __init__(self, app: "StreamApp", memory: Memory[V], partition: int) -> None:
        self.app = app
        self.memory = memory
        self.partition = partition
        self.changelog = memory.changelog_topic.get_topic_name()
        self.overlay: dict[str, V | Forgotten] = {}
        """What is in flight, newer than the database."""
        self.cached: dict[str, V] = {}
        """What the database holds of late, as values."""
        self.recorded: dict[int, list[bytes]] = {}
        """Decisions that stand on the log and may not be learnt yet, by the offset of their payment."""
        self.settled: dict[str, int] = {}
        self.learnt: dict[str, int] = {}
        self.passed: dict[str, int] = {}
        """Per topic, the last offset computed: that of `learnt` and what is in flight since."""
        self.latch = Latch(app.settings.dead_letter_share, app.settings.dead_letter_window)
        self.newest = 0
        """The latest event time learnt here since it was taken over, in milliseconds."""
        self._expected: dict[str, int] = {}
        self._jumps: dict[str, int] = {}
        self._next_change: int = 0
        self._swept = PRIVATE
        self._computed: asyncio.Queue[Work[V]] = asyncio.Queue(TOGETHER)
        self._published: asyncio.Queue[Work[V]] = asyncio.Queue(TOGETHER)
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, reader: AIOKafkaConsumer, sources: Sequence[str], decisions: str) -> None:
        """Take over where the last owner stopped. Raises `Stop` where that cannot be told."""
        store = self.memory.data
        database = store.partition(self.partition)
        if (raw := database.get(LEARNT)) is not None:
            self.learnt = decode_learnt(raw)
            self.passed = dict(self.learnt)
        begins = await reader.beginning_offsets([TopicPartition(topic, self.partition) for topic in sources])
        ends = await reader.end_offsets([TopicPartition(topic, self.partition) for topic in (*sources, decisions, self.changelog)])
        for topic in sources:
            end = ends[TopicPartition(topic, self.partition)]
            if self.learnt.get(topic, -1) >= end:
                raise Stop(
                    f"{topic}[{self.partition}] ends at offset {end}, but offset {self.learnt[topic]} is learnt already: the topic was "
                    f"made anew. Give this deployment a new AEGIS_APP_ID, or restore the topic."
                )
            committed = self.app.consumer.committed(TP(topic, self.partition))
            self._expected[topic] = begins[TopicPartition(topic, self.partition)] if committed is None else committed
            self.settled[topic] = self._expected[topic]
        self._next_change = ends[TopicPartition(self.changelog, self.partition)]
        persisted = store.persisted_offset(TP(self.changelog, self.partition))
        if self._next_change != (0 if persisted is None else persisted + 1):
            raise Stop(f"{self.changelog}[{self.partition}] went on to {self._next_change} after recovery had read to {persisted}")
        await self._restore_superseded(store.superseded.pop(self.partition, set()))
        await self._read_recorded(reader, TopicPartition(decisions, self.partition), ends)
        self._tasks = [asyncio.create_task(self._publish_all()), asyncio.create_task(self._settle_all())]

    async def _restore_superseded(self, keys: set[bytes]) -> None:
        """A revived writer put older values last on the changelog: put there again what is newer, or that they are forgotten."""
        database = self.memory.data.partition(self.partition)
        values = {key: database.get(key) for key in keys}
        if values:
            write = rocksdict.WriteBatch(raw_mode=True)
            await self._write(write, [Outgoing(key, value, [RESTORED]) for key, value in values.items()])

    async def _read_recorded(self, reader: AIOKafkaConsumer, tp: TopicPartition, ends: Mapping[TopicPartition, int]) -> None:
        reader.assign([tp])
        start = max(ends[tp] - TAIL, (await reader.beginning_offsets([tp]))[tp])
        reader.seek(tp, start)
        while await reader.position(tp) < ends[tp]:
            for records in (await reader.getmany(tp, timeout_ms=1000)).values():
                for record in records:
                    partition, _, offset = (dict(record.headers).get(SOURCE) or b"").partition(b":")
                    if partition == b"%d" % self.partition and offset.isdigit():
                        self.recorded.setdefault(int(offset), []).append(record.value)

    def recall(self, key: str) -> V | None:
        value = self.overlay.get(key)
        if value is None:
            value = self.cached.get(key)
        if isinstance(value, Forgotten):
            return None
        return self.memory.read(self.partition, key) if value is None else value

    def follows(self, topic: str, records: list[ConsumerRecord]) -> int | None:
        """`None` where `records` follow on what came before; else the offset to go back to.

        After a rebalance, records fetched before it can come first, beyond the committed offset. The same jump twice is a
        true gap in the log: aborted transactions, or retention.
        """
        first, expected = records[0].offset, self._expected[topic]
        if first > expected and self._jumps.get(topic) != first:
            self._jumps[topic] = first
            return expected
        self._jumps.pop(topic, None)
        self._expected[topic] = max(expected, records[-1].offset + 1)
        return None

    async def put(self, work: Work[V]) -> None:
        """Hand over a computed chunk; waits while too many are ahead."""
        self.passed[work.topic] = max(work.last, self.passed.get(work.topic, -1))
        await self._computed.put(work)

    async def drained(self) -> None:
        """Wait until every chunk in hand is settled."""
        await self._computed.join()
        await self._published.join()

    async def _publish_all(self) -> None:
        """Send each chunk's outputs as soon as those before it are on their way: a decision waits for nothing else."""
        try:
            while True:
                work = await self._computed.get()
                self.app.owners.check_lease()
                for topic, records in work.outputs.items():
                    work.sent += await self.app.outputs.send(topic, self.partition, records)
                await self._published.put(work)
                self._computed.task_done()
        except Exception as error:
            self.app.die(error)

    async def _settle_all(self) -> None:
        try:
            while True:
                works = [await self._published.get()]
                while len(works) < TOGETHER and not self._published.empty():
                    works.append(self._published.get_nowait())
                await self._settle(works)
                for _ in works:
                    self._published.task_done()
        except Exception as error:
            self.app.die(error)

    async def _settle(self, works: list[Work[V]]) -> None:
        """Once Kafka holds the outputs: changelog, then RocksDB, then the offsets."""
        changed: dict[str, V | Forgotten] = {}
        learnt = dict(self.learnt)
        for work in works:
            await landed(work.sent)
            changed |= work.changed
            learnt[work.topic] = max(work.last, learnt.get(work.topic, -1))
        self.learnt = learnt
        kept = {name: value for name, value in changed.items() if not isinstance(value, Forgotten)}
        gone = [name for name in changed if name not in kept]
        latest = max(map(self.memory.codec.clock, kept.values()), default=0)
        self.newest = max(self.newest, min(latest, int(time() * 1000)))  # a producer's wrong clock must not make others look idle
        write = rocksdict.WriteBatch(raw_mode=True)
        changes = self._sweep(write, sum(len(work.records) for work in works))
        encode = self.memory.codec.encode
        for name, value in kept.items():
            key, raw = name.encode(), encode(value)
            write.put(key, raw)
            changes.append(Outgoing(key, raw))
        # In one batch, and last: values that go take their offsets with them, so what was learnt must stand on the log as soon as they
        # are gone, and must not stand there while they are not.
        last = [Outgoing(LEARNT, encode_learnt(learnt)), *(Outgoing(name.encode(), None) for name in gone)]
        write.put(LEARNT, last[0].value)
        for name in gone:
            write.delete(name.encode())
        self.app.owners.check_lease()
        await self._write(write, *((changes, last) if gone else ([*changes, *last],)))
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
            self.app.owners.on_settled(work)

    async def _write(self, write: Any, *parts: list[Outgoing]) -> None:
        """Publish the changelog, each part once the one before is there; check that nobody else did, then write RocksDB with the offset."""
        for changes in parts:
            for offset, number in await self.app.changes.publish(self.changelog, self.partition, changes):
                if offset != self._next_change:
                    self.memory.data.wipe(self.partition)
                    raise Stop(f"another worker writes {self.changelog}[{self.partition}]: offset {offset}, expected {self._next_change}")
                self._next_change = offset + number
        write.put(self.memory.data.offset_key, b"%d" % (self._next_change - 1))
        self.memory.data.partition(self.partition).write(write)

    def _sweep(self, write: Any, payments: int) -> list[Outgoing]:
        """Forget some of the values that idled for too long; every value's turn comes."""
        tombstones = []
        items = self.memory.scan(self.partition, self._swept)
        self._swept = PRIVATE
        for key, raw in islice(items, 1 + payments // SWEEP):
            self._swept = key
            name = key.decode()
            if self.memory.codec.expired(raw, self.newest) and name not in self.overlay:
                write.delete(key)
                self.cached.pop(name, None)
                tombstones.append(Outgoing(key, None))
        return tombstones

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Owners(Generic[V]):
    """The partitions that this worker owns, and how they change hands."""

    def __init__(self, app: "StreamApp", memory: Memory[V], sources: Sequence[str], decisions: str) -> None:
        self.app = app
        self.memory = memory
        self.sources = tuple(sources)
        self.decisions = decisions
        self.latched: str | None = None
        """Why no further chunk is taken, for `/ready`; `None` while they are."""
        self.last_settled = monotonic()
        self._owners: dict[int, Owner[V]] = {}
        self._closed = True
        self._lock = asyncio.Lock()
        self._alive = monotonic()

    def __iter__(self) -> Any:
        return iter(list(self._owners.values()))

    def settled(self) -> dict[TP, int]:
        """What may be committed."""
        return {TP(topic, owner.partition): offset for owner in self for topic, offset in owner.settled.items()}

    def on_settled(self, work: Work[V]) -> None:
        """A chunk's outputs, changelog and memory are all in place."""
        self.last_settled = monotonic()
        metrics.CHUNK.observe(len(work.records))
        metrics.LATENCY.observe(max(0.0, time() - work.records[0].timestamp / 1000))

    def tick(self) -> None:
        """Say that this process runs, at least every second. Raises `Stop` where it did not for too long."""
        self.check_lease()
        self._alive = monotonic()

    def revive(self) -> None:
        """Begin to count: the process has only just started."""
        self._alive = monotonic()

    def holding(self, partition: int) -> Owner[V] | None:
        """The owner of a partition, if a chunk of it came since it was assigned."""
        return self._owners.get(partition)

    def check_lease(self) -> None:
        """Raise `Stop` where the process stood still for so long that others may own its partitions by now."""
        still = monotonic() - self._alive
        if still > self.app.lease_seconds:
            raise Stop(f"stood still for {still:.0f} s, beyond the session's {self.app.lease_seconds:.0f} s: others own these partitions")

    async def chunks(self, stream: Any) -> AsyncIterator[Work[V]]:
        """Each chunk once, in order per partition, with its owner. What follows on the loop's body is its settlement."""
        async for event in stream.noack().events():
            message = event.message
            async with self._lock:
                if self._closed or self.latched is not None or message.generation_id != self.app.consumer_generation_id:
                    continue
                owner = self._owners.get(message.partition) or await self._open(message.partition)
                back = owner.follows(message.topic, event.value)
                if back is not None:
                    metrics.JUMPS.inc()
                    await self.app.consumer.seek_wait({TP(message.topic, message.partition): back})
                    continue
                work = Work(owner, event.value)
                yield work
                if self.latched is None:
                    await owner.put(work)

    async def _open(self, partition: int) -> Owner[V]:
        owner = Owner(self.app, self.memory, partition)
        await owner.open(self.app.reader, self.sources, self.decisions)
        self._owners[partition] = owner
        return owner

    def latch(self, work: Work[V], reason: str) -> None:
        """Take no further chunk, and do not settle `work`, until an operator says so."""
        for key, value in work.changed.items():
            if work.owner.overlay.get(key) is value:
                del work.owner.overlay[key]
        self.latched = reason
        self.app.log.critical("%s", reason)
        self.app.consumer.pause_partitions(self.app.consumer.assignment())

    async def hand_over(self, *, is_member: bool = True) -> None:
        """Take no more, finish what is in hand, commit it, close. Raises `Stop` where that takes too long or comes too late."""
        self._closed = True
        try:
            async with asyncio.timeout(self.app.drain_seconds if is_member else 0.1), self._lock:
                await asyncio.gather(*(owner.drained() for owner in self))
        except TimeoutError:
            if not is_member:
                raise Stop("the group went on without this worker while it had work in hand") from None
            raise Stop(f"work in hand was not finished within {self.app.drain_seconds:.0f} s") from None
        if self._owners and is_member:
            # Faust answers False, and commits nothing more, where a periodic commit is under way.
            for _ in range(3):
                if await self.app.consumer.commit():
                    break
        for owner in self:
            await owner.close()
        self._owners.clear()

    def take_over(self) -> None:
        self._closed = False
