"""Plans attacks so that frauds keep to their share of payments, and each kind of fraud to its share of frauds."""

from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Final

from msgspec import Struct

from aegis_app.core.payment import Millis
from aegis_app.simulate.frauds import FRAUDS, takes_the_card
from aegis_app.simulate.habits import Act
from aegis_app.simulate.holders import Holder, Population
from aegis_app.simulate.issuer import Issuer
from aegis_app.simulate.market import Market
from aegis_app.simulate.places import DAY_MS, HOUR_MS

NOTICED: Final = 0.5
"""Share of attacks by number alone that the holder notices, and has the card stopped."""
NOTICED_MS: Final = 4 * DAY_MS
"""How long after the last payment of an attack, at most."""
SOON_MS: Final = DAY_MS
"""What is planned so far ahead counts as done; what is planned for later counts when it happens."""


class Strike(Struct, frozen=True, gc=False):
    """A payment of an attack."""

    fraud: str
    victim: Holder
    act: Act
    issue: int
    """Of the card it is paid with."""
    has_card: bool
    """Whether the fraudster has the card itself."""
    is_soon: bool


class Underworld:
    """All that fraudsters plan, and do."""

    def __init__(self, population: Population, issuer: Issuer, fraud_rate: float) -> None:
        self._issuer = issuer
        self._random = Random(f"frauds {population.seed}")
        self._market = Market(population, self._random)
        self._each_payment = fraud_rate / (1 - fraud_rate)
        self._owed = 0.0
        self._planned: Counter[str] = Counter()
        """Payments of each kind of fraud, so far."""
        self._serial = count()
        self._strikes: list[tuple[Millis, int, Strike]] = []

    def watch(self, at: Millis, holder: Holder, act: Act) -> None:
        """Take note of a genuine payment; from time to time an attack starts within the hour after it."""
        if not self._each_payment:
            return
        self._market.watch(at, holder, act)
        self._owed += self._each_payment
        if self._owed > 0:
            self._attack(at)

    def until(self, at: Millis) -> Iterator[tuple[Millis, Holder, Act, str]]:
        """Frauds that happen before `at`, in order of time."""
        while self._strikes and self._strikes[0][0] < at:
            due, _, strike = heappop(self._strikes)
            card = strike.victim.card
            happens = self._issuer.issue(card, due) == strike.issue and (strike.has_card or self._issuer.is_usable(card, due))
            if happens is not strike.is_soon:
                self._owed += -1.0 if happens else 1.0
            if happens:
                yield due, strike.victim, strike.act, strike.fraud

    def _attack(self, at: Millis) -> None:
        """The kind of fraud that lags behind the others most, of those for which there is an opportunity."""
        begin = at + self._random.randint(1, HOUR_MS)
        for fraud in sorted(FRAUDS, key=lambda fraud: (self._planned[fraud.__name__], self._random.random())):
            attack = list(fraud(self._market, begin, self._random))
            if attack:
                break
        self._planned[fraud.__name__] += len(attack)
        by_card: dict[int, list[tuple[Millis, Holder, Act]]] = {}
        for due, victim, act in attack:
            by_card.setdefault(victim.card, []).append((due, victim, act))
        for card, steps in by_card.items():
            issue, has_card = self._issuer.issue(card, at), any(takes_the_card(act) for _, _, act in steps)
            first, last = min(due for due, _, _ in steps), max(due for due, _, _ in steps)
            if has_card:
                self._issuer.stop(card, first)
            elif self._random.random() < NOTICED:
                self._issuer.stop(card, self._random.randint(first + HOUR_MS, last + NOTICED_MS))
            for due, victim, act in steps:
                is_soon = due - at <= SOON_MS
                self._owed -= is_soon
                heappush(self._strikes, (due, next(self._serial), Strike(fraud.__name__, victim, act, issue, has_card, is_soon)))
