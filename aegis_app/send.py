"""Payments or labels on their way into a topic: in order, each card in its own partition, paced, acknowledged by all replicas."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from time import monotonic
from typing import Final, Generic, NamedTuple, Protocol, Self, TypeVar

from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.structs import TopicPartition

from aegis_app.access import connect
from aegis_app.admin import partition_count
from aegis_app.core.intake import Erase, encode_history, read_history
from aegis_app.core.payment import Millis
from aegis_app.deployment import check_base_currency
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name, home

T = TypeVar("T")

MOST_AHEAD: Final = 4096
"""Records read before those ahead of them are sent."""
LOOK_SECONDS: Final = 0.5
"""Between two looks at what workers have settled."""


class Keyed(Protocol):
    """What is sent by card: a payment, or a label."""

    @property
    def card_id(self) -> str: ...

    @property
    def at(self) -> Millis:
        """The payment's time."""


class Delivered(NamedTuple):
    """What Kafka holds."""

    number: int
    ends: dict[int, int]
    """By partition, the offset after the last record."""


K = TypeVar("K", bound=Keyed)
Pace = Callable[[int, Keyed], float]
"""When the n-th record is due, in seconds after the start."""


def at_once(number: int, record: Keyed) -> float:
    """As fast as Kafka takes them."""
    return 0.0


def at_rate(per_second: float) -> Pace:
    """Evenly, so many a second."""
    return lambda number, record: number / per_second


def at_speed(times: float) -> Pace:
    """With the gaps between the payments' own times, so many times faster."""
    first: Millis | None = None

    def due(number: int, record: Keyed) -> float:
        nonlocal first
        if first is None:
            first = record.at
        return (record.at - first) / 1000 / times

    return due


async def send(
    settings: Settings,
    topic: str,
    records: Iterable[K],
    *,
    encode: Callable[[K], bytes],
    pace: Pace = at_once,
    sent: Callable[[int], object] = lambda number: None,
) -> Delivered:
    """Send `records` to `topic`, its full name. `sent` hears the number of each chunk that Kafka holds.

    `records` are read in a thread of their own; what they raise is raised here, after those before it were sent.
    Raises `SettingsError` where the deployment compares amounts in another base currency.
    """
    partitions = await partition_count(settings, topic)
    await check_base_currency(settings)  # in which files that name no currency were read
    total, ends = 0, dict[int, int]()
    async with Outbox(settings.connection()) as outbox:
        async for chunk in _paced(records, pace):
            batches: dict[int, list[Outgoing]] = defaultdict(list)
            for record in chunk:
                key = record.card_id.encode()
                batches[home(key, partitions)].append(Outgoing(key, encode(record)))
            landings = await asyncio.gather(*(outbox.publish(topic, partition, batch) for partition, batch in batches.items()))
            for partition, landed in zip(batches, landings, strict=True):
                first, number = landed[-1]
                ends[partition] = first + number
            total += len(chunk)
            sent(len(chunk))
    return Delivered(total, ends)


async def settled(settings: Settings, topic: str, ends: Mapping[int, int], done: Callable[[int], object]) -> None:
    """Return once the workers have settled each partition of `topic` up to its end. `done` hears the number of each step on the way."""
    tps = {TopicPartition(topic, partition): end for partition, end in ends.items()}
    before: int | None = None
    async with connect(settings) as client:
        while True:
            try:
                committed = await client.list_consumer_group_offsets(settings.app_id, partitions=list(tps))
            except GroupCoordinatorNotAvailableError:  # of a Kafka that has just started; no worker is there either
                committed = {}
            at = sum(max(0, min(tps[tp], found.offset)) for tp, found in committed.items())
            if before is not None and at > before:
                done(at - before)
            if at == sum(tps.values()):
                return
            before = at
            await asyncio.sleep(LOOK_SECONDS)


async def erase(settings: Settings, card_id: str) -> None:
    """Ask the owner of a card to forget it. Raises `Refused` where this is no card_id."""
    key, value = card_id.encode(), encode_history(Erase(card_id))
    read_history(value, key, 0, token=settings.card_id_is_token)
    topic = full_name(Name.HISTORY, settings)
    partitions = await partition_count(settings, topic)
    async with Outbox(settings.connection()) as outbox:
        await outbox.publish(topic, home(key, partitions), [Outgoing(key, value)])


async def _paced(records: Iterable[K], pace: Pace) -> AsyncIterator[list[K]]:
    """What is due by now, as soon as it is."""
    number, begin = 0, monotonic()
    with Ahead(records) as ahead:
        async for read in ahead:
            chunk: list[K] = []
            for record in read:
                due = begin + pace(number, record)
                if chunk and due > monotonic():
                    yield chunk
                    chunk = []
                if (wait := due - monotonic()) > 0:  # asked again, because sending took its time
                    await asyncio.sleep(wait)
                chunk.append(record)
                number += 1
            yield chunk


class Ahead(Generic[T]):
    """Items read ahead in a thread: a slow pipe holds up neither the event loop nor what came before.

    The thread is a daemon, because nothing ends a read from a terminal.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._read: list[T] = []
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._turn = threading.Condition()
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name="read ahead", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._turn:
            self._closed = True
            self._turn.notify()

    async def __aiter__(self) -> AsyncIterator[list[T]]:
        """All that was read since the last time."""
        ended = False
        while not ended:
            await self._news.wait()
            with self._turn:
                self._news.clear()
                read, self._read = self._read, []
                ended = self._ended
                self._turn.notify()
            if read:
                yield read
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:
            self._error = error
        with self._turn:
            if not self._closed:
                self._ended = True
                self._loop.call_soon_threadsafe(self._news.set)

    def _put(self, item: T) -> bool:
        with self._turn:
            while len(self._read) >= MOST_AHEAD and not self._closed:
                self._turn.wait()
            if self._closed:
                return False
            if not self._read:
                self._loop.call_soon_threadsafe(self._news.set)
            self._read.append(item)
            return True
