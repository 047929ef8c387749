"""Shops, cash machines and online merchants: fixed in place, kind of business and name, whatever the seed."""

from bisect import bisect
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Final

from msgspec import Struct

from aegis_app.simulate.chance import token, uniforms
from aegis_app.simulate.places import CITIES

SITES: Final = 400
"""Sites of a city; at each stands a shop, and a cash machine next to it."""
ONLINE_MERCHANTS: Final = 120
"""Of a country, and of the world."""

_WORLD = 0
"""Merchants are the same for every seed."""


class Category(Struct, frozen=True):
    """A kind of business: how much its payments are of what a cardholder usually spends, and how frequent it is."""

    mcc: str
    factor: float
    weight: int


GROCERIES: Final = Category("5411", 1.0, 30)
ELECTRONICS: Final = Category("5732", 4.0, 2)
CASH: Final = Category("6011", 2.5, 0)
SUBSCRIPTION: Final = Category("4899", 0.5, 6)
SHOPS: Final = (
    GROCERIES,
    ELECTRONICS,
    Category("5812", 1.1, 16),  # restaurants
    Category("5814", 0.4, 14),  # fast food
    Category("5541", 1.8, 10),  # fuel
    Category("5912", 0.7, 8),  # pharmacies
    Category("5651", 2.0, 6),  # clothing
    Category("5311", 1.5, 6),  # department stores
    Category("4111", 0.3, 8),  # local transport
)
ONLINE: Final = (
    ELECTRONICS,
    SUBSCRIPTION,
    Category("5815", 0.4, 10),  # digital goods
    Category("5942", 0.7, 6),  # books
    Category("5651", 1.8, 10),  # clothing
    Category("5999", 1.0, 12),  # whatever else
    Category("4722", 4.0, 1),  # travel
)


class Merchant(Struct, frozen=True):
    """Who is paid, and where; without a position where there is no terminal to stand at."""

    merchant_id: str
    category: Category
    country: str
    latitude: float | None = None
    longitude: float | None = None


def _weighted(categories: Sequence[Category]) -> Callable[[float], Category]:
    ends = list(accumulate(category.weight for category in categories))

    def pick(share: float) -> Category:
        return categories[bisect(ends, share * ends[-1])]

    return pick


_shop_category = _weighted(SHOPS)
_online_category = _weighted(ONLINE)
_COUNTRIES = sorted({city.country for city in CITIES})
_WORLDWIDE_SEATS = ("IE", "IE", "LU", "NL", "US", "US", "GB", "DE")


@cache
def shop(city: int, site: int) -> Merchant:
    """The shop at a site of a city."""
    angle, share, category, *_ = uniforms(b"shop", _WORLD, city, site)
    place = CITIES[city]
    return Merchant(token("m", b"shop id", _WORLD, city, site), _shop_category(category), place.country, *place.position(angle, share))


@cache
def cash_machine(city: int, site: int) -> Merchant:
    """The cash machine next to that shop."""
    beside = shop(city, site)
    return Merchant(token("m", b"cash machine", _WORLD, city, site), CASH, beside.country, beside.latitude, beside.longitude)


@cache
def domestic(country: str, number: int) -> Merchant:
    """An online merchant that sells in one country."""
    key = _COUNTRIES.index(country), number
    return Merchant(token("m", b"domestic id", _WORLD, *key), _online_category(uniforms(b"domestic", _WORLD, *key)[0]), country)


@cache
def worldwide(number: int) -> Merchant:
    """An online merchant that sells everywhere, from its own seat."""
    category, seat, *_ = uniforms(b"worldwide", _WORLD, number)
    country = _WORLDWIDE_SEATS[int(seat * len(_WORLDWIDE_SEATS))]
    return Merchant(token("m", b"worldwide id", _WORLD, number), _online_category(category), country)


@cache
def subscription(number: int) -> Merchant:
    """Who collects a recurring payment: one of the worldwide merchants, for what it charges by the month."""
    merchant = worldwide(number)
    return Merchant(merchant.merchant_id, SUBSCRIPTION, merchant.country)
