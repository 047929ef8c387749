"""Payments out, decisions back: each is known by where its payment lies, as its header `source` says."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition
from msgspec import Struct

from aegis_app.admin import partition_count
from aegis_app.core.payment import Outcome
from aegis_app.gateway import metrics
from aegis_app.gateway.lanes import Lane, Mail
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.stream.owner import SOURCE
from aegis_app.topics import Name, full_name, home

log = logging.getLogger(__name__)

MOST_WAITING: Final = 10_000
"""Payments and labels in hand; further ones are refused."""
MOST_LATE: Final = 100_000
"""Payments answered by fallback, of which the decision is still looked for; the oldest go first."""
MOST_EARLY: Final = 4096
"""Decisions of one partition kept while it is not known yet where our own payments lie."""
POLL_MS: Final = 500
FLUSH_SECONDS: Final = 10.0


class _Decided(Struct):
    outcome: Outcome


_decode: Final = msgspec.json.Decoder(_Decided).decode


class BusyError(RuntimeError):
    """As much is in hand as may be."""


class Ticket:
    """One payment on its way, and who waits for it."""

    __slots__ = ("answered", "begun", "decision", "future", "partition", "source", "transaction_id")

    def __init__(self, transaction_id: str, partition: int, future: "asyncio.Future[None]") -> None:
        self.transaction_id = transaction_id
        self.partition = partition
        self.future = future
        """Done with the decision, or at the deadline."""
        self.begun = monotonic()
        self.source: str | None = None
        """Where the payment lies, as `partition:offset`; `None` while Kafka has not acknowledged it."""
        self.decision: bytes | None = None
        self.answered: Outcome | None = None
        """By fallback."""

    def done(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Exchange:
    """Sends payments and labels, and reads all decisions, from the end, without a group."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mails: list[Mail] = []
        self._lanes: list[Lane] = []
        self._labels: list[Lane] = []
        self._fallbacks: list[Lane] = []
        self._pending: dict[tuple[int, int], Ticket] = {}
        self._late: dict[tuple[int, int], Ticket] = {}
        self._early: list[dict[int, bytes]] = []
        self._consumer: AIOKafkaConsumer
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting = 0

    async def start(self) -> None:
        """Raises `MissingTopicError`, and what aiokafka raises."""
        self._lanes, self._labels, self._fallbacks = [
            await self._lanes_into(name) for name in (Name.TRANSACTIONS, Name.LABELS, Name.FALLBACKS)
        ]
        self._early = [{} for _ in self._lanes]
        await self._read_from_the_end(range(len(self._lanes)))
        jobs = [lane.run() for lane in self._all]
        self._tasks = [asyncio.create_task(job) for job in (*jobs, self._read())]

    async def stop(self) -> None:
        """Send what is in hand, then end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await asyncio.gather(*(lane.drained() for lane in self._all))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._consumer.stop()
        for mail in self._mails:
            await mail.stop()

    async def _lanes_into(self, name: Name) -> list[Lane]:
        """Those of a topic, with a producer of their own: what is slow there, or refused, holds up no payment."""
        topic = full_name(name, self._settings)
        partitions = range(await partition_count(self._settings, topic))
        mail = Mail(lambda: Outbox(self._settings.connection()))
        await mail.start()
        self._mails.append(mail)
        return [Lane(mail, topic, partition) for partition in partitions]

    def check(self) -> None:
        """Raise what ended a task that should never end."""
        for task in self._tasks:
            if task.done():
                task.result()

    @property
    def _all(self) -> list[Lane]:
        return [*self._lanes, *self._labels, *self._fallbacks]

    @property
    def in_hand(self) -> int:
        return self._waiting + sum(map(len, self._all))

    async def decide(self, payments: Sequence[tuple[str, Outgoing]], deadline: float) -> list[Ticket]:
        """Send payments, each with its transaction_id, and wait for their decisions until `deadline`, in the loop's time.

        Raises `BusyError` before any was sent.
        """
        self._check_room(len(payments))
        loop = asyncio.get_running_loop()
        tickets = [self._send(loop, transaction_id, record) for transaction_id, record in payments]
        self._waiting += len(tickets)
        timer = loop.call_at(deadline, _expire, tickets)
        try:
            for ticket in tickets:
                await ticket.future
        finally:
            timer.cancel()
            self._waiting -= len(tickets)
        return tickets

    async def label(self, records: Sequence[Outgoing], seconds: float) -> bool:
        """Send labels; whether Kafka holds all of them within `seconds`. Raises `BusyError`."""
        self._check_room(len(records))
        loop = asyncio.get_running_loop()
        futures = []
        for record in records:
            future: asyncio.Future[bool] = loop.create_future()
            self._labels[home(record.key or b"", len(self._labels))].put(record, partial(_acknowledge, future))
            futures.append(future)
        done, waiting = await asyncio.wait(futures, timeout=seconds)
        return not waiting and all(future.result() for future in done)

    def fell_back(self, ticket: Ticket, outcome: Outcome, record: Outgoing) -> None:
        """`ticket` is answered with `outcome`, without a decision: that is looked for on, and `record` says so on `fallbacks`."""
        ticket.answered = outcome
        self._fallbacks[home(record.key or b"", len(self._fallbacks))].put(record, lambda offset: None)
        place = None if ticket.source is None else _place(ticket.source)
        if place is not None and self._pending.pop(place, None) is not None:
            self._remember_late(place, ticket)

    def _check_room(self, number: int) -> None:
        if self.in_hand + number > MOST_WAITING:
            raise BusyError

    def _send(self, loop: asyncio.AbstractEventLoop, transaction_id: str, record: Outgoing) -> Ticket:
        partition = home(record.key or b"", len(self._lanes))
        ticket = Ticket(transaction_id, partition, loop.create_future())
        self._lanes[partition].put(record, partial(self._landed, ticket))
        return ticket

    def _landed(self, ticket: Ticket, offset: int | None) -> None:
        """Kafka holds the payment at `offset`, or did not say so."""
        if offset is None:
            return
        place = ticket.partition, offset
        ticket.source = f"{ticket.partition}:{offset}"
        early = self._early[ticket.partition].pop(offset, None)
        if early is not None:
            self._decided(ticket, early)
        elif ticket.answered is None:
            self._pending[place] = ticket
        else:
            self._remember_late(place, ticket)

    def _remember_late(self, place: tuple[int, int], ticket: Ticket) -> None:
        self._late[place] = ticket
        if len(self._late) > MOST_LATE:
            del self._late[next(iter(self._late))]
            metrics.UNDECIDED.inc()

    def _decided(self, ticket: Ticket, decision: bytes) -> None:
        taken = monotonic() - ticket.begun
        metrics.DECISION_SECONDS.observe(taken)
        if ticket.answered is None:
            ticket.decision = decision
            ticket.done()
            return
        outcome = _decode(decision).outcome
        metrics.LATE.labels(outcome, str(outcome is ticket.answered).lower()).inc()
        log.info(
            "the payment at %s fell back to %s, and was decided after %.0f ms: %s", ticket.source, ticket.answered, taken * 1000, outcome
        )

    async def _read_from_the_end(self, partitions: range) -> None:
        topic = full_name(Name.DECISIONS, self._settings)
        places = [TopicPartition(topic, partition) for partition in partitions]
        self._consumer = AIOKafkaConsumer(
            **self._settings.connection(), enable_auto_commit=False, auto_offset_reset="latest", isolation_level="read_committed"
        )
        try:
            await self._consumer.start()
            self._consumer.assign(places)
            for place, end in (await self._consumer.end_offsets(places)).items():
                self._consumer.seek(place, end)  # now: where a payment is sent, its decision must lie behind
        except BaseException:
            await self._consumer.stop()
            raise

    async def _read(self) -> None:
        """Hand each decision to who waits for it. While Kafka is away, nobody's comes."""
        while True:
            try:
                fetched = await self._consumer.getmany(timeout_ms=POLL_MS)
            except KafkaError as error:
                log.error("decisions cannot be read: %s", type(error).__name__)
                await asyncio.sleep(POLL_MS / 1000)
                continue
            for records in fetched.values():
                self._match(records)

    def _match(self, records: list[ConsumerRecord]) -> None:
        for record in records:
            place = _source(record)
            if place is None:
                continue
            ticket = self._pending.pop(place, None) or self._late.pop(place, None)
            if ticket is not None:
                self._decided(ticket, record.value)
            elif place[0] < len(self._lanes):
                self._keep_early(*place, record.value)

    def _keep_early(self, partition: int, offset: int, decision: bytes) -> None:
        """It may be about a payment of ours, if of any we do not know yet where it lies."""
        early = self._early[partition]
        if not self._lanes[partition].in_hand:
            early.clear()
            return
        early[offset] = decision
        if len(early) > MOST_EARLY:
            del early[next(iter(early))]


def _acknowledge(future: "asyncio.Future[bool]", offset: int | None) -> None:
    if not future.done():
        future.set_result(offset is not None)


def _expire(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        ticket.done()


def _source(record: ConsumerRecord) -> tuple[int, int] | None:
    for name, value in record.headers:
        if name == SOURCE:
            return _place(value.decode(errors="replace"))
    return None


def _place(source: str) -> tuple[int, int] | None:
    partition, _, offset = source.partition(":")
    return (int(partition), int(offset)) if partition.isdecimal() and offset.isdecimal() else None
