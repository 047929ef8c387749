"""What all holders do, in order of time: each in its own rhythm, and what merchants give back of it."""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from random import Random
from typing import Final

from msgspec.structs import replace

from aegis_app.core.payment import Channel, Kind, Millis
from aegis_app.simulate.habits import Act, Habits
from aegis_app.simulate.holders import Holder, Population
from aegis_app.simulate.places import DAY_MS, HOUR_MS

REVERSED: Final = 0.006
"""Share of purchases that are taken back within minutes."""
REFUNDED: Final = 0.014
"""Share of purchases that are refunded later, a part of the amount in a quarter of cases."""

Deed = tuple[Millis, Holder, Act]


def genuine(population: Population, begin: Millis, end: Millis, can_pay: Callable[[int, Millis], bool]) -> Iterator[Deed]:
    """What holders do from `begin` to before `end`, in order of time; nothing where the card cannot pay then.

    What is given back of earlier payments comes all the same.
    """
    returns = _Returns(Random(f"returns {population.seed}"))
    for deed in _payments(population, begin, end):
        yield from returns.until(deed[0])
        paid = can_pay(deed[1].card, deed[0])
        if paid:
            yield deed
        returns.watch(*deed, paid)
    yield from returns.until(end)


def _payments(population: Population, begin: Millis, end: Millis) -> Iterator[Deed]:
    cards = population.cards
    random = Random(f"genuine {population.seed}")
    habits = Habits(population, random)
    # A turn is one number, time since the beginning and card: a million tuples would take five times the memory.
    turns = []
    for card in range(cards):
        rhythm = population.rhythm(card, begin)
        at = rhythm.following(begin, rhythm.ahead_ms, random)
        if at < end:
            turns.append((at - begin) * cards + card)
    heapify(turns)
    while turns:
        since, card = divmod(turns[0], cards)
        at = begin + since
        holder = population.holder(card, at)
        rhythm, place = holder.rhythm, population.whereabouts(holder, at)
        yield at, holder, habits.act(holder, at, place)
        ahead_ms = rhythm.ahead_ms if place is None else place.utc_hours * HOUR_MS - rhythm.late_ms
        following = rhythm.following(at, ahead_ms, random)
        if following < end:
            heapreplace(turns, (following - begin) * cards + card)
        else:
            heappop(turns)


class _Returns:
    """Refunds and reversals to come."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._serial = count()
        self._due: list[tuple[Millis, int, Holder, Act]] = []

    def watch(self, at: Millis, holder: Holder, act: Act, paid: bool) -> None:
        """Take note of a payment; some purchases are given back. Chance does not depend on what could not be paid."""
        random = self._random
        roll = random.random()
        if roll >= REVERSED + REFUNDED or act.kind is not Kind.PURCHASE or act.channel is Channel.RECURRING:
            return
        if roll < REVERSED:
            back, after = replace(act, kind=Kind.REVERSAL), random.uniform(5_000, HOUR_MS / 4)
        else:
            part = random.uniform(0.1, 0.9) if random.random() < 0.25 else 1.0
            back, after = replace(act, kind=Kind.REFUND, worth=part * act.worth, device_id=None), random.uniform(DAY_MS, 30 * DAY_MS)
        if paid:
            heappush(self._due, (at + round(after), next(self._serial), holder, back))

    def until(self, at: Millis) -> Iterator[Deed]:
        """What is given back before `at`, in order of time."""
        while self._due and self._due[0][0] < at:
            due, _, holder, back = heappop(self._due)
            yield due, holder, back
