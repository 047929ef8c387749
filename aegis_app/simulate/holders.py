"""Genuine cardholders: who they are, by a hash of the seed and their number, and where they are at a time."""

from functools import lru_cache
from math import exp
from statistics import NormalDist
from typing import Final

from msgspec import Struct

from aegis_app.core.payment import Millis
from aegis_app.simulate.chance import token, uniforms
from aegis_app.simulate.merchants import ONLINE_MERCHANTS, SITES, Merchant, domestic, worldwide
from aegis_app.simulate.places import HOUR_MS, City, home_city, travel_ms, visited_city

DAY_MS: Final = 24 * HOUR_MS
SEASON_MS: Final = 60 * DAY_MS
"""A holder travels at most once in it; a trip with both ways fits in."""
DEVICE_MS: Final = 600 * DAY_MS
"""For how long a device is kept."""

TYPICAL_MINOR: Final = 22_00
"""The median over holders of what one usually spends in a shop, in EUR cents."""
MOST_REMEMBERED: Final = 32_768
"""Holders kept at hand; whoever else pays is made again from the hash (some 10 microseconds)."""

_normal = NormalDist().inv_cdf


class Trip(Struct, frozen=True):
    """Away from home: on the way from `leaves` to `arrives`, and again from `returns` to `back`."""

    city: City
    leaves: Millis
    arrives: Millis
    returns: Millis
    back: Millis


class Holder(Struct, frozen=True):
    """One cardholder with one card. Shares are of the holder's payments; places in `sites` are of the home city."""

    card: int
    card_id: str
    customer_id: str
    home: City
    daily: float
    """Payments a day, on average."""
    typical_minor: float
    """Median amount in a shop of ordinary kind, in EUR cents."""
    spread: float
    """Standard deviation of the logarithm of an amount."""
    late_hours: float
    """How much later than others this holder's day is."""
    online: float
    recurring: float
    wanderlust: float
    """Chance of a trip in a season."""
    sites: tuple[int, ...]
    """Where the holder shops, from most to least often."""
    online_merchants: tuple[Merchant, ...]
    subscriptions: tuple[int, ...]
    payees: tuple[str, ...]


def pace(seed: int, card: int, daily: float) -> float:
    """Payments a day of a card, from the mean over cards: few pay several times as often as the others."""
    return daily * min(4.0, exp(0.5 * _normal(uniforms(b"pace", seed, card)[0]) - 0.125))


class Population:
    """All cardholders of a seed. Costs memory for those who paid lately only."""

    def __init__(self, seed: int, cards: int, daily: float) -> None:
        self.seed = seed
        self.cards = cards
        self.daily = daily
        self.holder = lru_cache(MOST_REMEMBERED)(self._holder)
        self._trip = lru_cache(MOST_REMEMBERED)(self._trip_of)

    def _holder(self, card: int) -> Holder:
        seed = self.seed
        city, typical, spread, late, online, recurring, wanderlust, *numbers = uniforms(b"holder", seed, card)
        sites, shops, subscriptions, payees, *_ = numbers
        favourites = uniforms(b"favourites", seed, card)
        home = home_city(city)
        merchants = [
            worldwide(int(share * share * ONLINE_MERCHANTS))
            if number % 3 == 0
            else domestic(home.country, int(share * share * ONLINE_MERCHANTS))
            for number, share in enumerate(favourites[8 : 11 + int(3 * shops)])
        ]
        return Holder(
            card=card,
            card_id=token("c", b"card", seed, card),
            customer_id=token("p", b"customer", seed, card),
            home=home,
            daily=pace(seed, card, self.daily),
            typical_minor=TYPICAL_MINOR * max(0.4, exp(0.45 * _normal(typical))),
            spread=0.3 + 0.25 * spread,
            late_hours=3 * late - 1,
            online=0.05 + 0.45 * online * online,
            recurring=0.08 * recurring,
            wanderlust=0.35 * wanderlust,
            sites=tuple(int(share * SITES) for share in favourites[: 3 + int(6 * sites)]),
            online_merchants=tuple(merchants),
            subscriptions=tuple(int(share * ONLINE_MERCHANTS) for share in favourites[14 : 14 + int(3 * subscriptions)]),
            payees=tuple(token("a", b"payee", seed, card, number) for number in range(1 + int(3 * payees))),
        )

    def device(self, holder: Holder, at: Millis) -> str:
        """The device that the holder has at a time; a new one every `DEVICE_MS`."""
        return token("d", b"device", self.seed, holder.card, (at + holder.card * DAY_MS) // DEVICE_MS)

    def whereabouts(self, holder: Holder, at: Millis) -> City | None:
        """The city that the holder is in; `None` on the way from one to another."""
        trip = self._trip(holder.card, at // SEASON_MS)
        if trip is None or not trip.leaves <= at < trip.back:
            return holder.home
        return trip.city if trip.arrives <= at < trip.returns else None

    def _trip_of(self, card: int, season: int) -> Trip | None:
        holder = self.holder(card)
        whether, city, start, length, *_ = uniforms(b"trip", self.seed, card, season)
        destination = visited_city(city)
        if whether >= holder.wanderlust or destination is holder.home:
            return None
        way = travel_ms(holder.home, destination)
        stay = round((2 + 10 * length) * DAY_MS)
        leaves = season * SEASON_MS + int(start * (SEASON_MS - stay - 2 * way))
        return Trip(destination, leaves, leaves + way, leaves + way + stay, leaves + way + stay + way)
