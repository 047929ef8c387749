"""What a genuine holder pays for: through which channel, where and for how much."""

from array import array
from bisect import bisect
from itertools import accumulate
from math import exp
from random import Random
from typing import Final

from msgspec import Struct

from aegis_app.core.payment import Channel, Kind, Millis
from aegis_app.simulate.chance import spread, zipf
from aegis_app.simulate.holders import MOST_PLACES, Holder, Population
from aegis_app.simulate.merchants import (
    CASH,
    COLLECTORS,
    ONE_OFF,
    ONLINE_MERCHANTS,
    Category,
    Merchant,
    cash_machine,
    category_at,
    collecting,
    domestic,
    shop,
    sites_of,
    worldwide,
)
from aegis_app.simulate.places import DAY_MS, HOUR_MS, City
from aegis_app.simulate.rhythm import month_of

ACROSS_TOWN_MS: Final = HOUR_MS // 2
"""Sooner than this nobody pays at another site of a city; at most 14 km apart, so nobody is faster than 28 km/h."""
CONTACTLESS_LIMIT_MINOR: Final = 50_00
"""EUR cents."""
SWIPED: Final = 0.01
"""Share of purchases in shops where the chip is not read and the magnetic stripe is, as a copied card always needs it."""
WITHOUT_DEVICE: Final = 0.08
"""Share of payments online where the device is not recognised."""
USUAL: Final = 0.88
"""Share of payments at home that are at usual places."""
ON_HOLIDAY: Final = 1.3
"""How much more is spent on a trip."""
SETTLING_MS: Final = 21 * DAY_MS
"""For how long after moving house one buys furniture."""
CONTRACT_MONTHS: Final = 18
"""After so long a recurring payment costs a tenth more; after three rises there is a new contract, at the first price."""

_TRANSFERS, _VERIFICATIONS, _BY_PHONE, _ONE_OFFS, _CASH = accumulate((0.015, 0.004, 0.008, 0.0015, 0.04))
_FURNISHING = 0.06
"""Share of payments after moving house that are one-off purchases, too."""


class Act(Struct, frozen=True, gc=False):
    """What is paid for, by whomever; a `Transaction` without card, time and id."""

    worth: float
    """In EUR cents, whatever currency it is paid in."""
    channel: Channel
    merchant: Merchant | None = None
    kind: Kind = Kind.PURCHASE
    payee_id: str | None = None
    device_id: str | None = None
    of_balance: float | None = None
    """The amount is this share of what is on the account then, and `worth` does not matter; `None` where it is `worth`."""


def amount(holder: Holder, category: Category, random: Random) -> float:
    """What the holder spends at a business of that kind, in EUR cents."""
    return max(50.0, holder.typical_minor * category.factor * exp(holder.spread * random.gauss(0.0, 1.0)))


def choose_site(holder: Holder, place: City, random: Random) -> int:
    """Where in `place` the holder shops: what for, by taste; at home mostly where always, elsewhere where most people do."""
    kind = bisect(holder.taste, random.random() * holder.taste[-1])
    if place is holder.home and random.random() < USUAL:
        share = (holder.haunts + spread(kind * MOST_PLACES + int(holder.places * random.random() ** 2))) % 1.0
    else:
        share = random.random()
    sites = sites_of(place.number, kind)
    return sites[zipf(share, len(sites))]


def choose_online(holder: Holder, random: Random) -> Merchant:
    """Which online merchant the holder buys from: mostly one of the usual ones."""
    if random.random() >= 0.85:
        return any_online(holder, 0.2, random)
    number = int(len(holder.shops) * random.random() ** 2)
    return _online(holder, holder.shops[number], abroad=number % 3 == 0)


def any_online(holder: Holder, abroad: float, random: Random) -> Merchant:
    """An online merchant that the holder need not know; worldwide ones in a share `abroad` of cases."""
    return _online(holder, random.random(), abroad=random.random() < abroad)


def _online(holder: Holder, share: float, *, abroad: bool) -> Merchant:
    number = zipf(share, ONLINE_MERCHANTS)
    return worldwide(number) if abroad else domestic(holder.home.country, number)


def new_payee(random: Random) -> str:
    """Somebody whom the holder never paid; looks like any other."""
    return f"a{random.getrandbits(64):016x}"


class Habits:
    """What holders do. Remembers where each was last in person: 10 bytes a card."""

    def __init__(self, population: Population, random: Random) -> None:
        self._population = population
        self._random = random
        self._used_at = array("q", [0]) * population.cards
        self._used_site = array("H", [0]) * population.cards

    def act(self, holder: Holder, at: Millis, place: City | None) -> Act:
        """What `holder`, who is at `place` (`None`: on the way), pays for at a time."""
        if holder.rhythm.collected and (number := holder.rhythm.collection_at(at)) is not None:
            return _collected(holder, number, at)
        random = self._random
        roll = random.random()
        if roll < _ONE_OFFS:
            return self._seldom(holder, at, place, roll)
        if roll > 1 - _FURNISHING and at - holder.since < SETTLING_MS:
            return self._one_off(holder, at, place)
        if place is None or random.random() < holder.online:
            merchant = choose_online(holder, random)
            return Act(amount(holder, merchant.category, random), Channel.ONLINE, merchant, device_id=self._device(holder, at))
        site = self._site(holder, at, place)
        if roll < _CASH:
            return Act(amount(holder, CASH, random), Channel.ATM, cash_machine(place.number, site), Kind.CASH_OUT)
        dearer = 1.0 if place is holder.home else ON_HOLIDAY
        return self._in_person(shop(place.number, site, at), dearer * amount(holder, category_at(place.number, site), random))

    def _seldom(self, holder: Holder, at: Millis, place: City | None, roll: float) -> Act:
        random = self._random
        if roll < _TRANSFERS:
            return self._transfer(holder, at)
        if roll < _VERIFICATIONS:
            return Act(0, Channel.ONLINE, choose_online(holder, random), Kind.VERIFICATION, device_id=self._device(holder, at))
        if roll < _BY_PHONE:
            merchant = shop(holder.home.number, choose_site(holder, holder.home, random), at)
            return Act(amount(holder, merchant.category, random), Channel.PHONE, merchant)
        return self._one_off(holder, at, place)

    def _one_off(self, holder: Holder, at: Millis, place: City | None) -> Act:
        """A large purchase, where the holder need not have been before."""
        random = self._random
        spent = holder.typical_minor * random.uniform(8, 40)
        if place is None or random.random() < 0.4:
            return Act(spent, Channel.ONLINE, any_online(holder, 0.2, random), device_id=self._device(holder, at))
        wanted = random.choice(sites_of(place.number, random.choice(ONE_OFF)))
        return self._in_person(shop(place.number, self._site(holder, at, place, wanted), at), spent)

    def _device(self, holder: Holder, at: Millis) -> str | None:
        return None if self._random.random() < WITHOUT_DEVICE else self._population.device(holder, at, self._random)

    def _site(self, holder: Holder, at: Millis, place: City, wanted: int | None = None) -> int:
        who = holder.customer
        if at - self._used_at[who] >= ACROSS_TOWN_MS:
            self._used_site[who] = choose_site(holder, place, self._random) if wanted is None else wanted
        self._used_at[who] = at
        return self._used_site[who]

    def _in_person(self, merchant: Merchant, spent: float) -> Act:
        how = self._random.random()
        if how < SWIPED:
            return Act(spent, Channel.MAGSTRIPE, merchant)
        return Act(spent, Channel.CONTACTLESS if spent <= CONTACTLESS_LIMIT_MINOR and how < 0.8 else Channel.CHIP, merchant)

    def _transfer(self, holder: Holder, at: Millis) -> Act:
        random = self._random
        payee = self._population.payee(holder, random.randrange(holder.payees)) if random.random() < 0.93 else new_payee(random)
        spent = 3 * holder.typical_minor * exp(0.6 * random.gauss(0.0, 1.0))
        # Some put all that is left aside, and who moves house pays a deposit.
        savings = random.uniform(0.85, 1.0) if random.random() < 0.03 else None
        device = self._device(holder, at)
        return Act(spent, Channel.ONLINE, None, Kind.TRANSFER, payee, device, savings)


def _collected(holder: Holder, number: int, at: Millis) -> Act:
    to, price, since = holder.contracts[3 * number : 3 * number + 3]
    merchant = collecting(holder.home.country, zipf(to, COLLECTORS))
    rises = (month_of(at) + int(since * CONTRACT_MONTHS)) // CONTRACT_MONTHS % 4
    return Act((5_00 + round(price * price * 30_00)) * merchant.category.factor * (1 + 0.1 * rises), Channel.RECURRING, merchant)
