"""The Faust app around the owners: starts what they need, hands partitions over, and stops the process when in doubt."""

import asyncio
import fcntl
import gc
import logging
import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import IO, Any, Final, NoReturn, Protocol

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from faust.exceptions import ConsistencyError
from faust.types import TP

from aegis_app import admin, logs
from aegis_app.access import AccessError, learn_patience
from aegis_app.broadcast import Broadcast
from aegis_app.deployment import check_base_currency
from aegis_app.logs import log
from aegis_app.settings import Settings, SettingsError, is_loopback
from aegis_app.stream.background import Background
from aegis_app.stream.memory import Budget, Codec, Memory
from aegis_app.stream.outbox import Outbox
from aegis_app.stream.owner import Holdings, Owners, Stop
from aegis_app.stream.transport import CHUNK, ChunkTopic, ChunkTransport
from aegis_app.version import VERSION

SOFTWARE_ERROR: Final = 70
"""Exit status (sysexits.h) when the process stops because going on could break a guarantee, or cannot start."""
CHANGES_LINGER_MS: Final = 10
"""Least time between two requests with changes of memory: decisions, which somebody waits for, go in between."""
LOOK_SECONDS: Final = 5.0
"""Between two looks for what was fetched and did not arrive."""
NO_KAFKA: Final = "start one with `aegis kafka`, or set AEGIS_BROKER"
"""What helps, where there is none."""
KAFKA_SECONDS: Final = 60.0
"""How long a start waits for the broker."""
STOP_SECONDS: Final = 15.0
"""From SIGTERM to the end, whatever Faust and Kafka are doing; the work in hand is settled long before."""


class Follower(Protocol):
    """Keeps something up to date beside the stream."""

    async def load(self) -> None:
        """Be ready for the first payment."""

    async def follow(self) -> None:
        """Keep up, until cancelled."""


class StreamWorker(faust.Worker):
    """Faust's worker without its spinner, for which the root logger would have to be at DEBUG."""

    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        super().on_setup_root_logger(logger, level)
        logs.speak(logger, level)

    def _setup_spinner_handler(self, logger: logging.Logger, level: int) -> None:
        """No spinner."""


class StreamApp(faust.App):
    """A Faust app whose partitions each have one owner."""

    consumer: Any

    def __init__(
        self, settings: Settings, broadcasts: Sequence[Broadcast[Any]] = (), followers: Sequence[Follower] = (), **options: Any
    ) -> None:
        self.settings = settings
        self.broadcasts = broadcasts
        """Loaded before the first payment is read, and followed from then on."""
        self.followers = followers
        """The same of what depends on them."""
        self.partitions = settings.partitions
        """Of the sources, as Kafka has them once this has started."""
        self.lease_seconds = settings.session_timeout_seconds * 0.8
        self.drain_seconds = settings.drain_seconds
        self.outputs: Outbox
        """What somebody waits for has a producer of its own."""
        self.events: Outbox
        self.changes: Outbox
        self.outboxes: list[Outbox] = []
        """Those three, once this has started."""
        self.reader: AIOKafkaConsumer
        self.holdings = Holdings(self)
        self.background = Background()
        self._budget = Budget(settings.cache_mebibytes << 20)
        self._clients: list[Any] = []
        """What was started and is to be stopped."""
        self._datadir_lock: IO[str] | None = None
        self._stopping = False
        host = settings.web_host
        # The group waits for a handover, and heartbeats renew the lease meanwhile: until one more is due after the longest.
        rebalance = max(60.0, settings.drain_seconds + settings.session_timeout_seconds / 8 + 10)
        super().__init__(
            settings.app_id,
            broker=[f"kafka://{server}" for server in settings.brokers],
            broker_credentials=_credentials(settings),
            broker_session_timeout=settings.session_timeout_seconds,
            broker_heartbeat_interval=settings.session_timeout_seconds / 8,
            broker_rebalance_timeout=rebalance,
            broker_request_timeout=max(90.0, settings.session_timeout_seconds, rebalance + 10),
            broker_commit_interval=1.0,
            broker_max_poll_records=64 * CHUNK,  # whatever has been fetched of all partitions
            consumer_auto_offset_reset="earliest",
            store="rocksdb://",
            datadir=str(settings.datadir),
            table_standby_replicas=0,
            topic_partitions=settings.partitions,
            topic_replication_factor=settings.replication,
            topic_disable_leader=True,
            stream_buffer_maxsize=0,  # the consumer fetches no more than there is room for
            stream_wait_empty=False,
            stream_recovery_delay=0.0,
            web_tables_enabled=False,
            web_router_enabled=False,
            Topic=ChunkTopic,
            Worker=StreamWorker,
            logging_config=logs.config(settings.log),
            web_host=settings.web_host,
            web_bind=settings.web_host,  # Faust listens here, and on every interface if not told
            web_port=settings.web_port,
            canonical_url=settings.canonical_url or (f"http://{host}:{settings.web_port}" if is_loopback(host) else None),
            **options,
        )

    def memory(self, name: str, codec: Codec[Any]) -> Memory[Any]:
        """Declare a table that owners write."""
        table = Memory(self, name, codec, budget=self._budget, partitions=self.settings.partitions)
        self.tables.add(table)
        return table

    def own(self, table: Memory[Any], sources: Sequence[str], **options: Any) -> Owners[Any]:
        """Declare who writes `table`: its `Owners`, which read `sources`."""
        owners = Owners(self, table, sources, **options)
        self.holdings.tables.append(owners)
        return owners

    def _new_transport(self) -> Any:
        return ChunkTransport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        logs.quieten()
        learn_patience()
        self._claim_port()
        self._claim_datadir(Path(self.conf.datadir))
        await super().on_first_start()
        log.info("Aegis %s starts, as %s at %s, views on port %d", VERSION, self.conf.id, self.settings.broker, self.settings.web_port)
        await self._await_kafka()
        try:
            await check_base_currency(self.settings, founds=True)  # before this worker is given a partition
        except SettingsError as error:
            self._refuse(str(error))
        connection = self.settings.connection()
        may_send = self.holdings.may_send
        self.outputs, self.events = Outbox(connection, may_send=may_send), Outbox(connection, may_send=may_send)
        self.changes = Outbox(connection, CHANGES_LINGER_MS, may_send)
        self.outboxes += (self.outputs, self.events, self.changes)
        self.reader = AIOKafkaConsumer(
            **connection, enable_auto_commit=False, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        for client in (*self.outboxes, self.reader):
            await client.start()
            self._clients.append(client)
        # The first question about a topic takes 0.1 s, in which aiokafka looks for its leader: now, and not with the first payment.
        await self.reader.end_offsets([TopicPartition(topic, 0) for owners in self.holdings for topic in owners.topics])
        await asyncio.gather(*(broadcast.load() for broadcast in self.broadcasts))
        self._clients += self.broadcasts
        for follower in self.followers:
            await follower.load()
        # What is there now stays; what comes is short-lived and free of cycles: look for garbage rarely.
        gc.freeze()
        gc.set_threshold(100_000, 20, 50)
        # Faust's consumer has a thread of its own, and a payment that changes threads waits for the other to let go, at each system call of
        # a fetch: up to Python's 5 ms. Few threads want to go on, so that asking often costs nothing.
        sys.setswitchinterval(0.00005)
        self.add_future(self._tick())
        self.add_future(self._retrieve())
        for each in (*self.broadcasts, *self.followers):
            self.add_future(each.follow())

    async def _await_kafka(self) -> None:
        """Wait for the broker, make the topics that are missing, and say what does not fit."""
        deadline = monotonic() + KAFKA_SECONDS
        while True:
            try:
                topics = await admin.prepare(self.settings)
                break
            except AccessError as error:
                self._refuse(str(error))
            except KafkaError as error:
                if monotonic() > deadline:
                    self._refuse(f"no Kafka at {self.settings.broker}: {error or type(error).__name__}; {NO_KAFKA}")
                self.log.warning("No Kafka at %s yet (%s), trying again; %s", self.settings.broker, type(error).__name__, NO_KAFKA)
                await asyncio.sleep(2)
        self.partitions = topics.partitions
        if topics.made:
            log.info("Made the topics %s", ", ".join(topics.made))
        for problem in topics.problems:
            self.log.warning("%s", problem)
        if any("partitions" in problem for problem in topics.problems):
            self._refuse("; ".join(topics.problems))

    async def _tick(self) -> None:
        self.holdings.watch(asyncio.get_running_loop())
        while True:  # until the work in hand is settled, too
            self.holdings.tick()
            await asyncio.sleep(0.25)

    async def _retrieve(self) -> None:
        while not self.should_stop:
            await asyncio.sleep(LOOK_SECONDS)
            if not (self.rebalancing or self.in_recovery):
                await self.holdings.retrieve()

    def _claim_port(self) -> None:
        host, port = self.settings.web_host, self.settings.web_port
        try:
            with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
                pass
        except OSError as error:
            self._refuse(
                f"the views cannot listen on {host}, port {port} ({os.strerror(error.errno or 0)}): set AEGIS_WEB_PORT to a free one"
            )

    def _claim_datadir(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._datadir_lock = (directory / "in-use").open("w")
        except OSError as error:
            self._refuse(f"AEGIS_DATADIR is {directory}: nothing can be kept there ({error.strerror}); name a directory of this user's own")
        try:
            fcntl.flock(self._datadir_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._refuse(f"{directory} is used by another worker; give each its own AEGIS_DATADIR")

    def check_assignment(self, assigned: set[TP]) -> None:
        """Stop where a partition of one of a table's sources comes without those of the others and of the changelog."""
        for owners in self.holdings:
            wanted = [*owners.sources, owners.memory.changelog_topic.get_topic_name()]
            held = {topic: {tp.partition for tp in assigned if tp.topic == topic} for topic in wanted}
            if len({frozenset(partitions) for partitions in held.values()}) > 1:
                if self._stopping:  # before its tables were known to the group: nothing is in hand, and nothing is wrong
                    self._exit(0)
                uneven = ", ".join(f"{topic} {sorted(partitions)}" for topic, partitions in held.items())
                self.die(Stop(f"partitions must come together, but came as {uneven}; see `aegis topics check`"))

    async def lag(self) -> dict[TP, int]:
        """Records not settled yet, per source partition held here, by asking Kafka for the ends of its logs."""
        read = {topic for owners in self.holdings for topic in owners.sources}
        held = [TopicPartition(tp.topic, tp.partition) for tp in self.consumer.assignment() if tp.topic in read]
        ends = await self.reader.end_offsets(held) if held else {}
        begins = await self.reader.beginning_offsets(held) if held else {}
        lag = {}
        for held_tp, end in ends.items():
            tp = TP(*held_tp)
            owners = self.holdings.reading(tp.topic)
            owner = None if owners is None else owners.holding(tp.partition)
            at = self.consumer.committed(tp) if owner is None else owner.settled.get(tp.topic)
            settled = max(at or 0, begins[held_tp])
            # A log can end in markers of transactions, which are nobody's work.
            lag[tp] = 0 if settled >= end or await self.consumer.has_read(tp, end, settled) else end - settled
        return lag

    async def start(self) -> None:
        """Start; what goes wrong ends the process here, because mode stops everything first, and that would end as if all were well."""
        try:
            await super().start()
        except Exception as error:
            if self._stopping:
                raise
            self.die(error)

    async def on_stop(self) -> None:
        """Settle and commit the work in hand before Faust takes anything down."""
        log.info("Stops: finishes what is in hand")
        self._stopping = True
        timer = threading.Timer(STOP_SECONDS, self._exit, [0])
        timer.daemon = True
        timer.start()
        if not self.consumer.is_member:
            # Nothing is in hand that may be sent. If the start went on beside the stop, this would join the group with some of its topics
            # alone, and partitions would not come together at anybody's.
            self._exit(0)
        try:
            await self.holdings.hand_over()
        except Stop as error:
            self.die(error)
        await super().on_stop()
        for client in self._clients:
            await client.stop()

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        self.die(exc)

    def _crash(self, reason: BaseException) -> None:
        if not self._stopping:
            self.die(reason)
        super()._crash(reason)

    def die(self, reason: BaseException) -> NoReturn:
        """End the process now: what is not settled is read again, by whoever comes next."""
        if isinstance(reason, Stop):
            self.log.critical("Stopped: %s", reason)
        else:
            self.log.critical("Stopped by an unexpected error", exc_info=reason)
        if isinstance(reason, ConsistencyError):
            for owners in self.holdings:
                owners.memory.data.wipe_all()
        self._exit(SOFTWARE_ERROR)

    def _refuse(self, why: str) -> NoReturn:
        """End a start that cannot go well, in one line."""
        os.write(2, f"aegis: {why}\n".encode())  # past Faust, which turns what is printed into log records
        self._exit(1)

    def _exit(self, status: int) -> NoReturn:
        try:
            for outbox in self.outboxes:
                outbox.forget()  # or the system goes on sending it, for minutes where nobody answers
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _credentials(settings: Settings) -> Any:
    if settings.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password,
            mechanism=settings.sasl_mechanism,
            ssl_context=settings.ssl_context(),
        )
    context = settings.ssl_context()
    return None if context is None else faust.SSLCredentials(context=context)
