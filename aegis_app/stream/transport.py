"""Faust's consumer, handing over each partition's fetched records as one event.

Replaces, for every topic of the application: the message at a time of `Consumer.getmany` (four futures each), and acks, gaps
and unacked sets (they commit past messages in flight). Offsets are settled in order by the owner of a partition instead.
Leans on internals of Faust 0.15, which tests/test_faust_internals.py checks.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final

import aiokafka
import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from aegis_app import metrics
from aegis_app.logs import log
from aegis_app.stream.clock import now

if TYPE_CHECKING:
    from aegis_app.stream.app import StreamApp

CHUNK: Final = 512
"""Most records in a chunk. A constant: after a crash, as many decisions are searched as could have been in flight."""


FETCH_WAIT_MS: Final = 20
"""How long Kafka may wait for something to answer a fetch with. While payments are in hand, aiokafka asks for the other topics alone,
which mostly have nothing; and a broker is asked one thing at a time. With Faust's 1,500 ms, payments waited for that."""


GATHER_SECONDS: Final = 0.003
"""Between two looks at what was fetched: a chunk costs as much as several payments, so few chunks of some payments are decided sooner
than many of one."""

ENOUGH: Final = 16
"""So many chunks that wait for an agent, and its topics are not fetched: one delivery serves all, and must never wait for one of them."""
FULL_SECONDS: Final = 0.01
"""Between two looks whether there is room for what is not fetched."""
HELD_SECONDS: Final = 0.02
"""While something that a broker sent waits to be taken, it is asked for nothing else for so long. With aiokafka's 0.1 s, payments waited
for what merchants had no room for, and for changelogs, which nobody takes once they are recovered."""


class ChunkConsumerThread(driver.AIOKafkaConsumerThread):
    """Reads committed records only, and leaves where it is what was asked for before partitions changed hands."""

    consumer: "ChunkConsumer"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fetched: dict[TP, int] = {}
        """Per partition, the offset after the last record that left aiokafka: noted before anybody can ask for the position."""
        self._asked_at = 0
        """How often the flow had been stopped when records were asked for, which is done once at a time."""

    async def on_start(self) -> None:
        await super().on_start()
        assert self._consumer is not None
        self._consumer._fetcher._prefetch_backoff = HELD_SECONDS
        coordinator = self._consumer._coordinator
        beat = coordinator._do_heartbeat

        async def noted() -> bool:
            begun = now()
            counts_us_in: bool = await beat()
            if counts_us_in:
                self.consumer.app.holdings.heard = begun
            return counts_us_in

        coordinator._do_heartbeat = noted

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109  # Faust's signature
        self._asked_at = self.consumer.stops
        records = await super().getmany(active_partitions, timeout)
        # If the flow was stopped since they left aiokafka, whoever starts it again seeks first, and they are read again.
        return records if self.consumer.stops == self._asked_at else {}

    async def _fetch_records(self, consumer: aiokafka.AIOKafkaConsumer, *args: Any, **kwargs: Any) -> Any:
        records = await super()._fetch_records(consumer, *args, **kwargs)
        if self.consumer.stops != self._asked_at:
            # That seek may be done already, and recovery wait for these very records.
            for tp, fetched in records.items():
                consumer.seek(tp, fetched[0].offset)
            return {}
        self.fetched |= {tp: fetched[-1].offset + 1 for tp, fetched in records.items()}
        return records

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # Faust hard-codes read_uncommitted; read at the consumer's start
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer


class ChunkConsumer(driver.Consumer):
    """Yields one message per chunk: the last record's, with all of its records as the value."""

    app: "StreamApp"
    _thread: ChunkConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sought: set[TP] = set()
        """The partitions that are read from where the group had got to, since they were last assigned."""
        self.stops = 0
        """How often the flow was stopped, because partitions change hands."""

    @property
    def is_member(self) -> bool:
        """Whether the group still counts us in, as far as we know."""
        coordinator = getattr(self._thread._consumer, "_coordinator", None)  # neither is there before it is connected
        return coordinator is not None and coordinator.generation != driver.DEFAULT_GENERATION_ID

    def _new_consumer_thread(self) -> ChunkConsumerThread:
        return ChunkConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109  # Faust's signature
        records, _ = await self._wait_next_records(timeout)
        if records is None or self.should_stop:
            return
        stops = self.stops
        by_urgency = sorted(records.items(), key=lambda each: each[0].topic not in self.app.holdings.urgent)
        # In turns, so that one partition's chunks are computed while another's are on their way to Kafka.
        for start in range(0, max(map(len, records.values()), default=0), CHUNK):
            for tp, fetched in by_urgency:
                if self.stops != stops:
                    return
                if chunk := fetched[start : start + CHUNK]:
                    message: Any = self._to_message(tp, chunk[-1])
                    message.value = chunk
                    yield tp, message

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109  # Faust's signature
        # A set of its own: Faust's changes while the fetch goes on, and an empty one stands for all partitions.
        wanted = {tp for tp in active_partitions or () if self._is_wanted(tp) and self.queued(tp) < ENOUGH}
        if not wanted:
            await asyncio.sleep(FULL_SECONDS)
            return {}
        return await super()._getmany(wanted, timeout if wanted == active_partitions else FULL_SECONDS)

    def _is_wanted(self, tp: TP) -> bool:
        """While partitions change hands, changelogs alone: what is fetched of the sources before Faust goes on is forgotten then."""
        return not self.app.rebalancing or self._is_changelog_tp(tp)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Feed the agents. In Faust's own, each message is several tasks, so that what is fetched last came rounds of the event loop
        later; and what is below the offset read last is dropped in silence, though an owner sought back to it.
        """
        # To be cancelled, too: while memory is read back, Faust takes that for a crash.
        stopped: tuple[type[BaseException], ...] = (asyncio.CancelledError, *self.consumer_stopped_errors)
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                async for _, message in self.getmany(timeout=1.0):
                    await self.callback(message)
                await asyncio.sleep(GATHER_SECONDS)
        except stopped:
            if not self.app.should_stop:
                raise

    def queued(self, tp: TP) -> int:
        """Chunks that wait for the agent that reads this partition, of all that it reads."""
        return max((queue.qsize() for queue in self._queues(tp)), default=0)

    def is_queued(self, tp: TP) -> bool:
        """Whether a chunk of this very partition waits for its agent."""
        return any(event.message.tp == tp for queue in self._queues(tp) for event in queue._queue)

    def _queues(self, tp: TP) -> Iterator[Any]:
        """Of the agents that read this partition."""
        conductor: Any = self.app.topics
        return (channel.queue for channel in conductor._tp_index.get(tp, ()))

    async def verify_all_partitions_active(self) -> None:
        """Faust's guess whether a partition is stuck needs acks, of which there are none; `/health` looks at what is settled."""

    def on_buffer_full(self, tp: TP) -> None:
        """What is full is not fetched. Faust would leave the partition out likewise, but sleep a second once all are."""

    def stop_flow(self) -> None:
        self.stops += 1
        super().stop_flow()

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        settled = self.app.holdings.settled()
        return (tp for tp in settled if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self.app.holdings.settled().get(tp)

    async def perform_seek(self) -> None:
        await super().perform_seek()
        self.sought = set(self.assignment())

    def committed(self, tp: TP) -> int | None:
        """The group's offset as it was when the partition was taken over, or as committed since."""
        offset: int | None = self._committed_offset[tp]
        return offset

    def fetched(self, tp: TP) -> int:
        """The offset after the last record that left aiokafka; 0 for none."""
        return self._thread.fetched.get(tp, 0)

    async def has_read(self, tp: TP, end: int, settled: int) -> bool:
        """Whether the log was read up to `end`, and no record of it is beyond `settled`, in whatever queue."""
        return (await self.position(tp) or 0) >= end and self.fetched(tp) <= settled

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit the work in hand before anybody else may own these partitions."""
        self.sought = set()
        try:
            await self.app.holdings.hand_over(is_member=self.is_member)
        except Exception as error:
            self.app.die(error)  # here: aiokafka would log it, and go on
        self._thread.fetched = {}  # that was another ownership's
        if revoked:
            log.info("Handed over %s", _named(revoked))
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        begun = now()
        metrics.REBALANCES.inc()
        self.app.check_assignment(assigned)
        await super().on_partitions_assigned(assigned, generation_id)
        self.app.holdings.take_over(begun)
        log.info("Takes over %s", _named(assigned))


def _named(tps: set[TP]) -> str:
    partitions = sorted({tp.partition for tp in tps})
    return f"partitions {', '.join(map(str, partitions))}" if partitions else "no partitions"


class ChunkTransport(driver.Transport):
    Consumer = ChunkConsumer


class ChunkTopic(faust.Topic):
    """A topic whose events hold a chunk: bytes are decoded by us, so that bad input is our dead letter."""

    def get_topic_name(self) -> str:
        """The first of its topics, for commands that want one name."""
        return str(self.topics[0])

    def _compile_decode(self) -> None:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return self._create_event(message.key, message.value, headers=message.headers, message=message)

        self.decode = decode  # type: ignore[method-assign]  # as Faust's own does
