"""What a genuine holder does next: when, through which channel, where and for how much."""

from array import array
from bisect import bisect
from itertools import accumulate
from math import exp
from random import Random
from typing import Final

from msgspec import Struct

from aegis_app.core.payment import Channel, Kind, Millis
from aegis_app.simulate.chance import uniforms
from aegis_app.simulate.holders import DAY_MS, Holder, Population
from aegis_app.simulate.merchants import (
    CASH,
    ONLINE_MERCHANTS,
    SITES,
    Category,
    Merchant,
    cash_machine,
    domestic,
    shop,
    subscription,
    worldwide,
)
from aegis_app.simulate.places import HOUR_MS, City

ACROSS_TOWN_MS: Final = HOUR_MS // 2
"""Sooner than this nobody pays at another site of a city; at most 14 km apart, so nobody is faster than 28 km/h."""
CONTACTLESS_LIMIT_MINOR: Final = 50_00
NOTE_MINOR: Final = 20_00
SWIPED: Final = 0.01
"""Share of purchases in shops where the chip is not read and the magnetic stripe is, as a copied card always needs it."""

_BY_HOUR = (2, 1, 1, 1, 1, 2, 8, 20, 34, 36, 38, 44, 60, 54, 42, 42, 48, 62, 68, 58, 44, 28, 14, 6)
_HOUR_STARTS = [sum(_BY_HOUR[:hour]) / sum(_BY_HOUR) for hour in range(25)]

_TRANSFERS, _REFUNDS, _VERIFICATIONS, _CASH = accumulate((0.012, 0.01, 0.003, 0.04))


class Act(Struct, frozen=True):
    """What is paid for, by whomever; a `Transaction` without card, time and id."""

    amount_minor: int
    channel: Channel
    merchant: Merchant | None = None
    kind: Kind = Kind.PURCHASE
    payee_id: str | None = None
    device_id: str | None = None


def next_payment(at: Millis, daily: float, ahead_ms: int, random: Random) -> Millis:
    """The time of the payment after `at`: exponential in waking time. `ahead_ms` is what the holder's day is ahead of UTC."""
    day, rest = divmod(at + ahead_ms, DAY_MS)
    hour, minutes = divmod(rest, HOUR_MS)
    awake = _HOUR_STARTS[hour] + minutes / HOUR_MS * (_HOUR_STARTS[hour + 1] - _HOUR_STARTS[hour])
    days, share = divmod(awake + random.expovariate(daily), 1.0)
    hour = bisect(_HOUR_STARTS, share) - 1
    into = (share - _HOUR_STARTS[hour]) / (_HOUR_STARTS[hour + 1] - _HOUR_STARTS[hour])
    return (day + int(days)) * DAY_MS + int((hour + into) * HOUR_MS) - ahead_ms


def ahead_of_utc(holder: Holder, place: City | None) -> int:
    """Milliseconds that the holder's day is ahead of UTC at a place; on the way, that of home."""
    return round(((holder.home if place is None else place).utc_hours - holder.late_hours) * HOUR_MS)


def amount(holder: Holder, category: Category, random: Random) -> int:
    """What the holder spends at a business of that kind, in EUR cents."""
    return max(50, round(holder.typical_minor * category.factor * exp(holder.spread * random.gauss(0.0, 1.0))))


def choose_site(holder: Holder, place: City, random: Random) -> int:
    """Where in `place` the holder shops: at home mostly where always, elsewhere where most people do."""
    if place is holder.home and random.random() < 0.88:
        return holder.sites[int(len(holder.sites) * random.random() ** 2)]
    return int(SITES * random.random() ** 2)


def choose_online(holder: Holder, random: Random) -> Merchant:
    """Which online merchant the holder buys from: mostly one of the usual ones."""
    if random.random() < 0.85:
        return holder.online_merchants[int(len(holder.online_merchants) * random.random() ** 2)]
    number = int(ONLINE_MERCHANTS * random.random() ** 2)
    return worldwide(number) if random.random() < 0.2 else domestic(holder.home.country, number)


def new_payee(random: Random) -> str:
    """Somebody whom the holder never paid; looks like any other."""
    return f"a{random.getrandbits(64):016x}"


class Habits:
    """What holders do. Remembers of each card where it was last used in person: 10 bytes a card."""

    def __init__(self, population: Population, random: Random) -> None:
        self._population = population
        self._random = random
        self._used_at = array("q", [0]) * population.cards
        self._used_site = array("H", [0]) * population.cards

    def act(self, holder: Holder, at: Millis) -> Act:
        """What `holder` pays for at a time."""
        place = self._population.whereabouts(holder, at)
        roll = self._random.random()
        if roll < _TRANSFERS:
            return self._transfer(holder, at)
        if roll < _REFUNDS:
            merchant = choose_online(holder, self._random)
            return Act(amount(holder, merchant.category, self._random), Channel.ONLINE, merchant, Kind.REFUND)
        if roll < _VERIFICATIONS:
            return Act(0, Channel.ONLINE, choose_online(holder, self._random), Kind.VERIFICATION, device_id=self._device(holder, at))
        if roll > 1 - holder.recurring and holder.subscriptions:
            return self._collected(holder)
        if place is None or self._random.random() < holder.online:
            merchant = choose_online(holder, self._random)
            spent = amount(holder, merchant.category, self._random)
            return Act(spent, Channel.ONLINE, merchant, device_id=self._device(holder, at))
        site = self._site(holder, at, place)
        return self._cash(holder, place, site) if roll < _CASH else self._purchase(holder, place, site)

    def _device(self, holder: Holder, at: Millis) -> str:
        return self._population.device(holder, at)

    def _site(self, holder: Holder, at: Millis, place: City) -> int:
        card = holder.card
        if at - self._used_at[card] >= ACROSS_TOWN_MS:
            self._used_site[card] = choose_site(holder, place, self._random)
        self._used_at[card] = at
        return self._used_site[card]

    def _purchase(self, holder: Holder, place: City, site: int) -> Act:
        merchant = shop(place.number, site)
        spent = amount(holder, merchant.category, self._random)
        how = self._random.random()
        if how < SWIPED:
            return Act(spent, Channel.MAGSTRIPE, merchant)
        return Act(spent, Channel.CONTACTLESS if spent <= CONTACTLESS_LIMIT_MINOR and how < 0.8 else Channel.CHIP, merchant)

    def _cash(self, holder: Holder, place: City, site: int) -> Act:
        notes = max(1, round(amount(holder, CASH, self._random) / NOTE_MINOR))
        return Act(notes * NOTE_MINOR, Channel.ATM, cash_machine(place.number, site), Kind.CASH_OUT)

    def _transfer(self, holder: Holder, at: Millis) -> Act:
        payee = self._random.choice(holder.payees) if self._random.random() < 0.93 else new_payee(self._random)
        spent = round(3 * holder.typical_minor * exp(0.6 * self._random.gauss(0.0, 1.0)))
        return Act(spent, Channel.ONLINE, None, Kind.TRANSFER, payee, self._device(holder, at))

    def _collected(self, holder: Holder) -> Act:
        number = self._random.choice(holder.subscriptions)
        price, *_ = uniforms(b"price", self._population.seed, holder.card, number)
        return Act(299 + round(price * price * 40_00), Channel.RECURRING, subscription(number))
