"""Genuine cardholders: who they are, by a hash of the seed and their number, and where they are at a time."""

from array import array
from functools import lru_cache
from itertools import accumulate
from math import exp
from operator import mul
from random import Random
from typing import Final

from msgspec import Struct

from aegis_app.core.payment import Millis
from aegis_app.simulate.chance import normal, spread, token, uniforms
from aegis_app.simulate.merchants import SHOPS
from aegis_app.simulate.places import DAY_MS, HOUR_MS, City, home_city, residences, travel_ms, visited_city
from aegis_app.simulate.rhythm import WEEK_OF_A_COMPANY, Rhythm, week_of_a_person

SEASON_MS: Final = 60 * DAY_MS
"""A holder travels at most once in it; a trip with both ways fits in."""
DEVICE_MS: Final = 800 * DAY_MS
"""For how long a device is kept."""
ADDRESS_MS: Final = 3300 * DAY_MS
"""For how long one lives somewhere."""
REMOVAL_MS: Final = DAY_MS
"""How long moving takes."""

FURTHER: Final = 0.25
"""Share of cards whose holder has the card before, too."""
COMPANIES: Final = 0.04
"""Share of holders."""
TYPICAL_MINOR: Final = 22_00
"""The median over holders of what one usually spends in a shop, in EUR cents."""
INCOME: Final = 110
"""The median over holders of a month's income, in payments of what one usually spends."""
MOVES_CITY: Final = 0.3
TELL_BALANCE: Final = 0.6
"""Share of holders."""
MOST_PLACES: Final = 5
"""Of one kind, where a company's users usually go."""
MOST_CONTRACTS: Final = 3
"""Of recurring payments, a card."""
MOST_REMEMBERED: Final = 65_536
"""Holders kept at hand; whoever else pays is made again from the hash (some 30 microseconds)."""

_WEIGHTS = [category.weight for category in SHOPS]


class Trip(Struct, frozen=True, gc=False):
    """Away from home: on the way from `leaves` to `arrives`, and again from `returns` to `back`."""

    city: City
    leaves: Millis
    arrives: Millis
    returns: Millis
    back: Millis


class Holder(Struct, frozen=True, gc=False):
    """Who has a card, while living at one address: the holder of two cards is two of these, alike in all but card and habit."""

    card: int
    customer: int
    """The first card's number."""
    since: Millis
    """When they moved to where they live."""
    card_id: str
    customer_id: str
    home: City
    users: int
    """1 for a person; employees who share a company's card."""
    rhythm: Rhythm
    typical_minor: float
    """Median amount in a shop of ordinary kind, in EUR cents."""
    spread: float
    """Standard deviation of the logarithm of an amount."""
    income_minor: float
    """Of a month, in EUR cents."""
    online: float
    """Share of the holder's payments."""
    wanderlust: float
    """Chance of a trip in a season."""
    tells_balance: bool
    """Whether the bank says what was on the account before a transfer or a withdrawal."""
    payees: int
    """How many people the holder sends money to."""
    taste: tuple[float, ...]
    """The running total, over `SHOPS`, of how often the holder goes there."""
    haunts: float
    """A number in [0, 1) that says, with the kind of shop, where the holder usually goes."""
    places: int
    """How many shops of a kind the holder usually goes to, at most."""
    shops: tuple[float, ...]
    """A number in [0, 1) for each online merchant that the holder usually buys from."""
    contracts: tuple[float, ...]
    """Three numbers in [0, 1) for each recurring payment: to whom, how much and since when."""


class Population:
    """All cardholders of a seed. Costs some 8 bytes a card, and more for those who paid lately."""

    def __init__(self, seed: int, cards: int, daily: float) -> None:
        self.seed = seed
        self.cards = cards
        self._daily = daily
        self._customers = array("q", range(cards))
        for card in range(1, cards):
            if uniforms(b"card", seed, card)[0] < FURTHER:
                self._customers[card] = self._customers[card - 1]
        self._living = lru_cache(MOST_REMEMBERED)(self._holder)
        self._trip = lru_cache(MOST_REMEMBERED)(self._trip_of)
        self._device = lru_cache(MOST_REMEMBERED)(self._device_of)

    def holder(self, card: int, at: Millis) -> Holder:
        """Who has a card at a time."""
        return self._living(card, self._address(self._customers[card], at))

    def rhythm(self, card: int, at: Millis) -> Rhythm:
        """When a card is used; costs less than its holder."""
        customer = self._customers[card]
        nature = uniforms(b"customer", self.seed, customer)
        return self._rhythm(uniforms(b"card", self.seed, card), nature[0] < COMPANIES, _home(nature, self._address(customer, at)))

    def payee(self, holder: Holder, number: int) -> str:
        """One of those that the holder sends money to."""
        return token("a", b"payee", self.seed, holder.customer, number)

    def device(self, holder: Holder, at: Millis, random: Random) -> str:
        """One of the devices that the holder pays with: mostly the phone, sometimes the computer; of a company, any user's."""
        number = int(holder.users * random.random()) if holder.users > 1 else int(random.random() < 0.2)
        return self._device(holder.customer, number, (at + self._stagger(holder.customer + 7 * number, DEVICE_MS)) // DEVICE_MS)

    def whereabouts(self, holder: Holder, at: Millis) -> City | None:
        """The city that the holder is in; `None` on the way from one to another."""
        if at - holder.since < REMOVAL_MS:
            return None
        trip = self._trip(holder.customer, holder.since, at // SEASON_MS)
        if trip is None or not trip.leaves <= at < trip.back:
            return holder.home
        return trip.city if trip.arrives <= at < trip.returns else None

    def _stagger(self, number: int, every_ms: int) -> Millis:
        return int(spread(number + self.seed % 1000) * every_ms)

    def _address(self, customer: int, at: Millis) -> int:
        return (at + self._stagger(customer, ADDRESS_MS)) // ADDRESS_MS

    def _rhythm(self, numbers: list[float], is_company: bool, home: City) -> Rhythm:
        _, pace, week, late, collections, *days = numbers
        # Few pay several times as often as the others.
        daily = self._daily * min(4.0, exp(0.5 * normal(pace) - 0.125))
        # At most a quarter of a card's payments are collected, however seldom it pays.
        number = min(int((MOST_CONTRACTS + 1) * collections), int(daily * 30 / 4))
        late_ms = round((3 * late - 1) * HOUR_MS)
        return Rhythm(
            daily=daily - number / 30.4,
            week=WEEK_OF_A_COMPANY if is_company else week_of_a_person(week),
            ahead_ms=home.utc_hours * HOUR_MS - late_ms,
            late_ms=late_ms,
            collected=tuple(
                int(28 * day) * DAY_MS + int((2 + 6 * hour) * HOUR_MS)
                for day, hour in zip(days[:number], days[MOST_CONTRACTS:], strict=False)
            ),
        )

    def _holder(self, card: int, address: int) -> Holder:
        seed, customer = self.seed, self._customers[card]
        nature, numbers = uniforms(b"customer", seed, customer), uniforms(b"card", seed, card)
        company, users, typical, income, wanderlust, tells, payees, *_ = nature
        *_, haunts, online, width, shops = numbers
        choices = tuple(uniforms(b"choices", seed, card))
        home, is_company = _home(nature, address), company < COMPANIES
        typical_minor = TYPICAL_MINOR * max(0.4, exp(0.45 * normal(typical))) * (3 if is_company else 1)
        liking = [exp(0.8 * normal(share)) for share in uniforms(b"taste", seed, card)]
        return Holder(
            card=card,
            customer=customer,
            since=address * ADDRESS_MS - self._stagger(customer, ADDRESS_MS),
            card_id=token("c", b"card id", seed, card),
            customer_id=token("p", b"customer id", seed, customer),
            home=home,
            users=2 + int(6 * users) if is_company else 1,
            rhythm=self._rhythm(numbers, is_company, home),
            typical_minor=typical_minor,
            spread=0.3 + 0.25 * width,
            income_minor=INCOME * typical_minor * exp(0.25 * normal(income)),
            online=0.05 + 0.45 * online * online + (0.2 if is_company else 0.0),
            wanderlust=0.35 * wanderlust + (0.3 if is_company else 0.0),
            tells_balance=tells < TELL_BALANCE,
            payees=1 + int(3 * payees),
            taste=tuple(accumulate(map(mul, _WEIGHTS, liking))),
            haunts=haunts + spread(address),
            places=MOST_PLACES if is_company else 2,
            shops=choices[: 3 + int(4 * shops)],
            contracts=choices[16 - 3 * MOST_CONTRACTS :],
        )

    def _device_of(self, customer: int, number: int, generation: int) -> str:
        return token("d", b"device", self.seed, customer, number, generation)

    def _trip_of(self, customer: int, since: Millis, season: int) -> Trip | None:
        holder = self.holder(customer, since)
        whether, city, start, length, *_ = uniforms(b"trip", self.seed, customer, season)
        destination = visited_city(city)
        if whether >= holder.wanderlust or destination is holder.home:
            return None
        way = travel_ms(holder.home, destination)
        stay = round((2 + 10 * length) * DAY_MS)
        leaves = season * SEASON_MS + int(start * (SEASON_MS - stay - 2 * way))
        return Trip(destination, leaves, leaves + way, leaves + way + stay, leaves + way + stay + way)


def _home(nature: list[float], address: int) -> City:
    """Where somebody lives at one address after another: mostly in one city, else in another of its country."""
    city, *addresses = nature[7:]
    first, (moves, elsewhere) = home_city(city), addresses[address % 4 * 2 :][:2]
    if moves >= MOVES_CITY:
        return first
    cities = residences(first.country)
    return cities[int(elsewhere * len(cities))]
