"""Payments on their way into a topic: in order, each card in its own partition, at a chosen pace, acknowledged by all replicas."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from time import monotonic
from typing import Final, Generic, Self, TypeVar

from aegis_app.access import connect
from aegis_app.core.payment import Millis, Transaction, encode_transaction
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import home

T = TypeVar("T")

MOST_AHEAD: Final = 4096
"""Payments read before those ahead of them are sent."""
VISIBLE_SECONDS: Final = 1.0
"""A topic that was only just made may take so long to be seen by every broker."""

Pace = Callable[[int, Transaction], float]
"""When the n-th payment is due, in seconds after the start."""


class MissingTopicError(RuntimeError):
    """There is no such topic; the message says how to make it."""


def at_once(number: int, txn: Transaction) -> float:
    """As fast as Kafka takes them."""
    return 0.0


def at_rate(per_second: float) -> Pace:
    """Evenly, so many a second."""
    return lambda number, txn: number / per_second


def at_speed(times: float) -> Pace:
    """With the gaps between the payments' own times, so many times faster."""
    first: Millis | None = None

    def due(number: int, txn: Transaction) -> float:
        nonlocal first
        if first is None:
            first = txn.at
        return (txn.at - first) / 1000 / times

    return due


async def send(
    settings: Settings,
    topic: str,
    payments: Iterable[Transaction],
    *,
    encode: Callable[[Transaction], bytes] = encode_transaction,
    pace: Pace = at_once,
    sent: Callable[[int], object] = lambda number: None,
) -> int:
    """Send `payments` to `topic`, its full name, and return how many. `sent` hears the number of each chunk that Kafka holds.

    `payments` are read in a thread of their own; what they raise is raised here, after those before it were sent.
    """
    partitions = await partition_count(settings, topic)
    outbox = Outbox(settings.connection())
    total = 0
    try:
        await outbox.start()
        async for chunk in _paced(payments, pace):
            records: dict[int, list[Outgoing]] = defaultdict(list)
            for txn in chunk:
                key = txn.card_id.encode()
                records[home(key, partitions)].append(Outgoing(key, encode(txn)))
            await asyncio.gather(*(outbox.publish(topic, partition, batch) for partition, batch in records.items()))
            total += len(chunk)
            sent(len(chunk))
    finally:
        await outbox.stop()
    return total


async def partition_count(settings: Settings, topic: str) -> int:
    """Partitions of `topic`. Raises `MissingTopicError`."""
    deadline = monotonic() + VISIBLE_SECONDS
    async with connect(settings) as client:
        while True:
            (described,) = await client.describe_topics([topic])
            if described["partitions"]:
                return len(described["partitions"])
            if monotonic() > deadline:
                raise MissingTopicError(f"there is no topic {topic} on {settings.broker}; make it with `aegis topics create`")
            await asyncio.sleep(0.05)


async def _paced(payments: Iterable[Transaction], pace: Pace) -> AsyncIterator[list[Transaction]]:
    """What is due by now, as soon as it is."""
    number, begin = 0, monotonic()
    with Ahead(payments) as ahead:
        async for read in ahead:
            chunk: list[Transaction] = []
            for txn in read:
                due = begin + pace(number, txn)
                if chunk and due > monotonic():
                    yield chunk
                    chunk = []
                if (wait := due - monotonic()) > 0:  # asked again, because sending took its time
                    await asyncio.sleep(wait)
                chunk.append(txn)
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
