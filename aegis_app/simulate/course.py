"""The course of events: everybody's payments in order of time, frauds among them, made as they are asked for."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from random import Random
from typing import Final

from msgspec import Struct

from aegis_app.core.payment import CARD_PRESENT, Millis, Transaction
from aegis_app.simulate.frauds import FRAUDS, Fraud, takes_the_card
from aegis_app.simulate.habits import Act, Habits, ahead_of_utc, next_payment
from aegis_app.simulate.holders import DAY_MS, Holder, Population, pace
from aegis_app.simulate.places import HOUR_MS

PAYMENTS_A_DAY: Final = 1.5
WITHOUT_POSITION: Final = 0.1
"""Share of card-present payments whose terminal does not say where it stands."""
REPLACEMENT_MS: Final = 3 * DAY_MS
"""For how long a holder whose card was taken pays nothing."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Labelled(Struct, frozen=True, gc=False):
    """A payment and what it is: the name of its fraud, `None` for a genuine one."""

    transaction: Transaction
    fraud: str | None


def simulate(
    cards: int, days: float, seed: int, start: datetime, fraud_rate: float = 0.001, rate: float = PAYMENTS_A_DAY
) -> Iterator[Labelled]:
    """Payments of `cards` cards over `days` days from `start`, in order of event time; the same for the same arguments.

    `rate` is payments per card and day, `fraud_rate` the share of payments that are fraud (the last attack may still be under way
    at the end). Genuine payments do not depend on `fraud_rate`, ids and the silence of holders without their card aside. Amounts
    are billed in EUR. Memory grows with `cards` (some 50 bytes each), not with payments.
    """
    if cards < 1 or not days > 0 or not rate > 0:
        raise ValueError("cards, days and rate are above 0")
    if not 0 <= fraud_rate < 1:
        raise ValueError("fraud_rate is a share: at least 0 and below 1")
    if start.tzinfo is None:
        raise ValueError("start needs a time zone")
    begin = (start - _EPOCH) // _MILLISECOND
    return _course(Population(seed, cards, rate), begin, begin + round(days * DAY_MS), fraud_rate)


def _course(population: Population, begin: Millis, end: Millis, fraud_rate: float) -> Iterator[Labelled]:
    register = Register(population.seed)
    underworld = Underworld(population, fraud_rate)
    for at, holder, act in genuine(population, begin, end):
        for due, victim, fraud, crime in underworld.until(at):
            yield Labelled(register.enter(due, victim, crime), fraud)
        if underworld.has_card_of(holder, at):
            continue
        yield Labelled(register.enter(at, holder, act), None)
        underworld.watch(at)
    for due, victim, fraud, crime in underworld.until(end):
        yield Labelled(register.enter(due, victim, crime), fraud)


def genuine(population: Population, begin: Millis, end: Millis) -> Iterator[tuple[Millis, Holder, Act]]:
    """What holders do from `begin` to before `end`, in order of time."""
    seed, cards = population.seed, population.cards
    random = Random(f"genuine {seed}")
    habits = Habits(population, random)
    # A turn is one number, time since the beginning and card: a million tuples would take five times the memory.
    turns = [
        (at - begin) * cards + card
        for card in range(cards)
        if (at := next_payment(begin, pace(seed, card, population.daily), HOUR_MS, random)) < end
    ]
    heapify(turns)
    while turns:
        since, card = divmod(turns[0], cards)
        at, holder = begin + since, population.holder(card)
        yield at, holder, habits.act(holder, at)
        following = next_payment(at, holder.daily, ahead_of_utc(holder, population.whereabouts(holder, at)), random)
        if following < end:
            heapreplace(turns, (max(following, at + 1) - begin) * cards + card)
        else:
            heappop(turns)


class Underworld:
    """Plans attacks so that frauds keep to their share of payments, each kind of fraud in its turn."""

    def __init__(self, population: Population, fraud_rate: float) -> None:
        self._population = population
        self._random = Random(f"frauds {population.seed}")
        self._each_payment = fraud_rate / (1 - fraud_rate)
        self._owed = 0.0
        self._deck: list[Fraud] = []
        self._planned: list[tuple[Millis, int, Holder, str, Act]] = []
        self._serial = count()
        self._replaced_at: dict[int, Millis] = {}

    def watch(self, at: Millis) -> None:
        """Take note of a genuine payment; from time to time an attack starts within the hour after it."""
        self._owed += self._each_payment
        if self._owed > 0:
            self._attack(at + self._random.randint(1, HOUR_MS))

    def until(self, at: Millis) -> Iterator[tuple[Millis, Holder, str, Act]]:
        """Frauds that are due before `at`, in order of time."""
        while self._planned and self._planned[0][0] < at:
            due, _, victim, fraud, act = heappop(self._planned)
            if takes_the_card(act):
                self._replaced_at[victim.card] = due + REPLACEMENT_MS
            yield due, victim, fraud, act

    def has_card_of(self, holder: Holder, at: Millis) -> bool:
        """Whether the holder's card was taken and not replaced yet."""
        replaced_at = self._replaced_at.get(holder.card)
        if replaced_at is not None and replaced_at <= at:
            del self._replaced_at[holder.card]
        return replaced_at is not None and at < replaced_at

    def _attack(self, at: Millis) -> None:
        if not self._deck:
            self._deck = self._random.sample(FRAUDS, len(FRAUDS))
        fraud = self._deck.pop()
        victim = self._population.holder(self._random.randrange(self._population.cards))
        for due, act in fraud(victim, at, self._random):
            heappush(self._planned, (due, next(self._serial), victim, fraud.__name__, act))
            self._owed -= 1.0


class Register:
    """Writes payments down, as the bank sees them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = Random(f"register {seed}")
        self._number = count()

    def enter(self, at: Millis, holder: Holder, act: Act) -> Transaction:
        """The payment that `act` is. Ids differ between runs that start at different times, so that they can follow one another."""
        merchant = act.merchant
        placed = act.channel in CARD_PRESENT and self._random.random() >= WITHOUT_POSITION
        return Transaction(
            transaction_id=f"t{self._seed:x}-{at:x}-{next(self._number):x}",
            card_id=holder.card_id,
            amount_minor=act.amount_minor,
            currency="EUR",
            timestamp=_EPOCH + timedelta(milliseconds=at),
            kind=act.kind,
            channel=act.channel,
            merchant_id=None if merchant is None else merchant.merchant_id,
            merchant_category=None if merchant is None else merchant.category.mcc,
            payee_id=act.payee_id,
            customer_id=holder.customer_id,
            device_id=act.device_id,
            country=holder.home.country if merchant is None else merchant.country,
            home_country=holder.home.country,
            latitude=merchant.latitude if placed and merchant is not None else None,
            longitude=merchant.longitude if placed and merchant is not None else None,
        )
