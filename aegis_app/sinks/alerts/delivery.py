"""From what waits to what was told: each destination on its own, so that one that is away holds up no other.

What a message tells of stays on `alerts` until the message is taken; then it is taken off, and after a day in vain it goes to
`alerts-failed`. At least once: after a crash in between, the same message is sent again, by the same id.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic, time
from typing import Any, Final

import stamina
from aiokafka.errors import KafkaError
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import CLOSED, OPENED, OpenedState

from aegis_app import metrics
from aegis_app.core.payment import Millis
from aegis_app.settings import Settings
from aegis_app.sinks.alerts import failed
from aegis_app.sinks.alerts.message import Message, message
from aegis_app.sinks.alerts.routes import Routes
from aegis_app.sinks.alerts.sending import RefusedError, Sender, UnreachedError
from aegis_app.sinks.alerts.waiting import Group, Waiting, Waits
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
"""Longest time between two looks at what is due."""
PAUSES: Final = 4.0
"""The shortest, in terms of how long the look took: where much waits, most of the time is left for other things."""
ATTEMPTS: Final = 3
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Between attempts that follow on one another."""
REST_SECONDS: Final = 60.0
LONGEST_REST_SECONDS: Final = 1800.0
"""Until a message in vain is tried again; doubled each time."""
FAILURES: Final = 5
"""Attempts in vain, one after another, after which a destination is given a rest."""
SHUT_SECONDS: Final = 30.0
"""For how long; then one message tries."""
LONGEST: Final = timedelta(days=1)
"""After which nobody is told any more."""
MOST_WAITING: Final = 10_000
"""Decisions that wait for one destination; the oldest beyond go to `alerts-failed`."""
KAFKA_SECONDS: Final = 300.0
"""For how long Kafka may not take what was done; then the process ends, and what it did not write down is done again."""


class Delivery:
    """`ours` names the partitions of `alerts` whose groups we deliver."""

    def __init__(
        self,
        settings: Settings,
        routes: Routes,
        senders: dict[str, Sender],
        waiting: Callable[[], Waiting],
        outbox: Outbox,
        ours: Callable[[], Collection[int]],
    ) -> None:
        self._topic = full_name(Name.ALERTS, settings)
        self._failed = full_name(Name.ALERTS_FAILED, settings)
        self._destinations = routes.destinations
        self._senders = senders
        self._waiting = waiting
        self._outbox = outbox
        self._ours = ours
        self._breakers = AsyncCircuitBreakerFactory(FAILURES, SHUT_SECONDS, exclude=[RefusedError])
        self._breakers.add_listener(_say)
        self._shut: dict[str, float] = {}
        """Destinations that are given a rest, or have to show that they are back; and when (`monotonic`) the next message may try."""
        self._tasks: dict[Group, asyncio.Task[None]] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._done: dict[bytes, Waits] = {}
        """What is off our hands, and may still be seen to wait until what we wrote about it comes round."""
        self._rests: dict[Group, tuple[float, int]] = {}
        """Groups that were tried in vain: when (`monotonic`) they are tried again, and how often they were."""
        self.news = asyncio.Event()
        """To be set when more waits."""
        self._seconds = settings.drain_seconds
        for name in routes.destinations:
            _begin(name)

    async def run(self) -> None:
        """Deliver until cancelled. What cannot be delivered soon then stays on `alerts`. Raises `KafkaError`."""
        try:
            while True:
                begun = monotonic()
                self._collect()
                self._look()
                took = monotonic() - begun
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self.news.wait()
                self.news.clear()
                await asyncio.sleep(PAUSES * took)
        finally:
            tasks = [*self._tasks.values(), *self._chores]
            if tasks:
                await asyncio.wait(tasks, timeout=self._seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _collect(self) -> None:
        """Forget what is finished; raise what one of them raised."""
        for task in [*self._tasks.values(), *self._chores]:
            if task.done():
                task.result()
        self._tasks = {group: task for group, task in self._tasks.items() if not task.done()}
        self._chores = {task for task in self._chores if not task.done()}

    def _look(self) -> None:
        """Start what is due, as far as each destination takes it; give up what is hopeless."""
        waiting, ours = self._waiting(), self._ours()
        self._done = {key: waits for key, waits in self._done.items() if waiting.holds(waits)}
        self._rests = {group: rest for group, rest in self._rests.items() if group in waiting.groups}
        found: dict[str, list[tuple[Group, list[Waits]]]] = {name: [] for name in self._destinations}
        for group, each in waiting.groups.items():
            waits = [one for key, one in each.items() if one.partition in ours and key not in self._done]
            if waits:
                found.setdefault(group.destination, []).append((group, sorted(waits, key=_written)))
        for destination, groups in found.items():
            self._measure(destination, [waits for _, waits in groups])
            for why, hopeless in self._hopeless(destination, groups):
                self._done |= {each.key: each for each in hopeless}
                self._chores.add(self._go(self._give_up(destination, hopeless, why)))
            if destination in self._destinations:
                self._start(destination, sorted(groups, key=lambda each: _written(each[1][0])))

    def _start(self, destination: str, groups: Iterable[tuple[Group, list[Waits]]]) -> None:
        free = self._free(destination) - sum(group.destination == destination for group in self._tasks)
        now, due = monotonic(), time() - self._destinations[destination].group_seconds
        for group, waits in groups:
            if free <= 0 or _written(waits[0]) / 1000 > due:
                return
            still = [each for each in waits if each.key not in self._done]
            if still and group not in self._tasks and self._rests.get(group, (0.0, 0))[0] <= now:
                self._tasks[group] = self._go(self._deliver(group, still))
                free -= 1

    def _free(self, destination: str) -> int:
        """Messages that may be on their way at once: one while the destination has to show that it is back."""
        if destination in self._shut:
            return int(self._shut[destination] <= monotonic())
        return self._senders[destination].concurrent

    def _hopeless(self, destination: str, groups: Sequence[tuple[Group, list[Waits]]]) -> Iterator[tuple[str, list[Waits]]]:
        """What waits in vain, and why."""
        waits = sorted((each for group, some in groups if group not in self._tasks for each in some), key=_written)
        if destination not in self._destinations:
            yield "the routes file has no such destination any more", waits
            return
        yesterday = datetime.now(UTC) - LONGEST
        if late := [each for each in waits if each.raised.since < yesterday]:
            yield "it could not be delivered within a day", late
        elif len(waits) > MOST_WAITING:
            yield f"more than {MOST_WAITING} decisions waited for this destination", waits[: len(waits) - MOST_WAITING]

    def _measure(self, destination: str, groups: Sequence[list[Waits]]) -> None:
        oldest = min((_written(waits[0]) / 1000 for waits in groups), default=time())
        metrics.ALERTS_WAITING.labels(destination).set(sum(map(len, groups)))
        metrics.ALERTS_OLDEST.labels(destination).set(max(0.0, time() - oldest))

    def _go(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self.news.set())
        return task

    async def _deliver(self, group: Group, waits: Sequence[Waits]) -> None:
        alert = message([each.raised for each in waits])
        try:
            await self._attempt(group.destination, alert)
        except OpenedState:
            return
        except (UnreachedError, RefusedError) as error:
            self._rest(group, alert, error)
            return
        metrics.ALERTS_DELIVERED.labels(group.destination).inc()
        metrics.ALERTS_TOLD.labels(group.destination).inc(len(waits))
        metrics.ALERTS_SECONDS.labels(group.destination).observe(max(0.0, time() - min(each.raised.since for each in waits).timestamp()))
        await self._off(waits)

    async def _attempt(self, destination: str, alert: Message) -> None:
        breaker = await self._breakers.get_breaker(destination)

        def is_worth_another(error: Exception) -> bool:
            return isinstance(error, UnreachedError) and breaker.context.state == CLOSED

        async for attempt in stamina.retry_context(
            on=is_worth_another, attempts=ATTEMPTS, timeout=None, wait_initial=FIRST_PAUSE_SECONDS, wait_max=LONGEST_PAUSE_SECONDS
        ):
            with attempt:
                try:
                    async with breaker:
                        await self._senders[destination].send(alert)
                except (UnreachedError, RefusedError) as error:
                    reason = "refused" if isinstance(error, RefusedError) else "unreached"
                    metrics.ALERTS_ATTEMPTS_FAILED.labels(destination, reason).inc()
                    raise
                finally:
                    self._note(destination, breaker.context.opened_at, is_shut=breaker.context.state != CLOSED)

    def _note(self, destination: str, opened_at: float | None, *, is_shut: bool) -> None:
        metrics.ALERTS_SHUT.labels(destination).set(is_shut)
        if not is_shut:
            self._shut.pop(destination, None)
        elif opened_at is not None:
            self._shut[destination] = monotonic() + SHUT_SECONDS - (time() - opened_at)

    def _rest(self, group: Group, alert: Message, error: Exception) -> None:
        tries = self._rests.get(group, (0.0, 0))[1] + 1
        pause = min(REST_SECONDS * 2 ** min(tries - 1, 10), LONGEST_REST_SECONDS) * random.uniform(0.9, 1.1)
        self._rests[group] = monotonic() + pause, tries
        log.warning("%s did not get alert %s, which is tried again in %.0f s: %s", group.destination, alert.id, pause, error)

    async def _give_up(self, destination: str, waits: Sequence[Waits], why: str) -> None:
        log.error("%s is not told of %d decisions, which go to %s: %s", destination, len(waits), self._failed, why)
        at = datetime.now(UTC)
        await self._write(self._failed, {0: [failed.record(each.key, each.raised, why, at) for each in waits]})
        metrics.ALERTS_FAILED.labels(destination).inc(len(waits))
        await self._off(waits)

    async def _off(self, waits: Iterable[Waits]) -> None:
        """Take what is off our hands off the topic."""
        tombstones: dict[int, list[Outgoing]] = {}
        for each in waits:
            self._done[each.key] = each
            tombstones.setdefault(each.partition, []).append(Outgoing(each.key, None))
        await self._write(self._topic, tombstones)

    async def _write(self, topic: str, records: dict[int, list[Outgoing]]) -> None:
        async for attempt in stamina.retry_context(on=_passes, attempts=None, timeout=KAFKA_SECONDS):
            with attempt:
                await asyncio.gather(*(self._outbox.publish(topic, partition, each) for partition, each in records.items()))


def _written(waits: Waits) -> Millis:
    return waits.written


def _passes(error: Exception) -> bool:
    return isinstance(error, KafkaError) and bool(error.retriable)


def _say(destination: str, kind: str, event: object) -> None:
    state = getattr(event, "state", None)
    if kind == "state_changed" and state == OPENED:
        log.warning("%s is given a rest of %.0f s: attempt after attempt failed", destination, SHUT_SECONDS)
    elif kind == "state_changed" and state == CLOSED:
        log.warning("%s takes messages again", destination)


def _begin(destination: str) -> None:
    """Export 0 of what has not happened yet."""
    for each in (metrics.ALERTS_DELIVERED, metrics.ALERTS_TOLD, metrics.ALERTS_SECONDS, metrics.ALERTS_FAILED, metrics.ALERTS_SHUT):
        each.labels(destination)
    for reason in ("refused", "unreached"):
        metrics.ALERTS_ATTEMPTS_FAILED.labels(destination, reason)
