"""Payments in the order in which the bank gets them: some terminals are off the line, and send what they took later."""

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Final

from msgspec import Struct

from aegis_app.core.payment import CARD_PRESENT, Millis, Transaction
from aegis_app.simulate.places import DAY_MS

LATE: Final = 0.015
"""Share of card-present payments."""
SOONEST_MS: Final = 60_000
LATEST_MS: Final = 2 * DAY_MS


class Labelled(Struct, frozen=True, gc=False):
    """A payment and what it is."""

    transaction: Transaction
    fraud: str | None
    """The name of its fraud, `None` for a genuine one."""
    arrived: Millis
    """When the bank gets it: for nearly all payments, their own time."""


def in_order_of_arrival(payments: Iterable[tuple[Millis, Transaction, str | None]], seed: int) -> Iterator[Labelled]:
    """`payments`, given in order of their time; those under way at the end come last."""
    random = Random(f"lateness {seed}")
    serial = count()
    under_way: list[tuple[Millis, int, Labelled]] = []
    for at, txn, fraud in payments:
        while under_way and under_way[0][0] <= at:
            yield heappop(under_way)[2]
        if random.random() < LATE and txn.channel in CARD_PRESENT:
            arrived = at + round(SOONEST_MS * (LATEST_MS / SOONEST_MS) ** random.random())
            heappush(under_way, (arrived, next(serial), Labelled(txn, fraud, arrived)))
        else:
            yield Labelled(txn, fraud, at)
    while under_way:
        yield heappop(under_way)[2]
