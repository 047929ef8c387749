"""Shops, cash machines and online merchants: fixed in place and kind of business, whatever the seed.

The lower its number, the more people go to a shop or online merchant: popularity falls as Zipf has it.
"""

from functools import cache
from typing import Final

from msgspec import Struct

from aegis_app.core.payment import Millis
from aegis_app.simulate.chance import spread, token, uniforms, weighted
from aegis_app.simulate.currencies import currency_of
from aegis_app.simulate.places import CITIES, DAY_MS

SITES: Final = 400
"""Sites of a city; at each stands a shop, and a cash machine next to it."""
ONLINE_MERCHANTS: Final = 240
"""Of a country, and of the world."""
COLLECTORS: Final = 60
"""Of a country: who is paid by the month."""
TENANCY_MS: Final = 1600 * DAY_MS
"""After so long a shop closes and a new one of the same kind takes its place: in each city one every fourth day."""
_OPENS_EVERY_MS: Final = TENANCY_MS // SITES

_WORLD = 0
"""Merchants are the same for every seed."""


class Category(Struct, frozen=True):
    """A kind of business: how much its payments are of what a cardholder usually spends, and how frequent it is."""

    mcc: str
    factor: float
    weight: float


ELECTRONICS: Final = Category("5732", 4.0, 1.5)
FURNITURE: Final = Category("5712", 6.0, 0.7)
JEWELLERY: Final = Category("5944", 7.0, 0.4)
TRAVEL: Final = Category("4722", 6.0, 1)
CASH: Final = Category("6011", 2.5, 0)
SHOPS: Final = (
    Category("5411", 1.0, 30),  # groceries
    Category("5812", 1.3, 15),  # restaurants
    Category("5814", 0.4, 13),  # fast food
    Category("5541", 1.8, 9),  # fuel
    Category("5912", 0.7, 7),  # pharmacies
    Category("4111", 0.3, 8),  # local transport
    Category("5813", 0.9, 4),  # bars
    Category("5651", 2.0, 5),  # clothing
    Category("5311", 1.5, 5),  # department stores
    Category("7011", 5.0, 1),  # hotels
    ELECTRONICS,
    FURNITURE,
    JEWELLERY,
)
ONLINE: Final = (
    ELECTRONICS,
    TRAVEL,
    Category("5815", 0.4, 10),  # digital goods
    Category("5942", 0.7, 6),  # books
    Category("5651", 1.8, 10),  # clothing
    Category("5999", 1.0, 12),  # whatever else
)
COLLECTING: Final = (
    Category("4899", 0.5, 6),  # films and music
    Category("4814", 1.2, 3),  # telephone
    Category("4900", 3.0, 2),  # electricity, gas and water
    Category("6300", 2.0, 2),  # insurance
    Category("7997", 1.5, 1),  # sports clubs
)
"""Who is paid by the month, the same amount each time."""
ONE_OFF: Final = tuple(SHOPS.index(category) for category in (ELECTRONICS, FURNITURE, JEWELLERY))
"""Where large things are bought: places in `SHOPS`."""


class Merchant(Struct, frozen=True):
    """Who is paid, and where; without a position where there is no terminal to stand at."""

    merchant_id: str
    category: Category
    country: str
    currency: str | None
    """What it charges in; `None`: each customer's own."""
    latitude: float | None = None
    longitude: float | None = None


_shop_category = weighted(SHOPS, [category.weight for category in SHOPS])
_online_category = weighted(ONLINE, [category.weight for category in ONLINE])
_collecting_category = weighted(COLLECTING, [category.weight for category in COLLECTING])
_COUNTRIES = sorted({city.country for city in CITIES})
_WORLDWIDE_SEATS = ("IE", "IE", "LU", "NL", "US", "US", "GB", "DE")


@cache
def category_at(city: int, site: int) -> Category:
    """What is sold at a site. Every city has a shop of each kind."""
    return SHOPS[site] if site < len(SHOPS) else _shop_category(uniforms(b"shop", _WORLD, city, site)[2])


@cache
def sites_of(city: int, kind: int) -> tuple[int, ...]:
    """Where there are shops of a kind (a place in `SHOPS`) in a city, from most to least popular."""
    return tuple(site for site in range(SITES) if category_at(city, site) is SHOPS[kind])


def shop(city: int, site: int, at: Millis) -> Merchant:
    """The shop that is at a site of a city then."""
    return _shop(city, site, _since_first_opening(city, site, at) // TENANCY_MS)


def newest_shop(city: int, at: Millis) -> Merchant:
    """The one of a city's shops that opened last."""
    return shop(city, min(range(SITES), key=lambda site: _since_first_opening(city, site, at) % TENANCY_MS), at)


def _since_first_opening(city: int, site: int, at: Millis) -> Millis:
    return at + int(spread(site) * SITES) * _OPENS_EVERY_MS + city * _OPENS_EVERY_MS // len(CITIES)


@cache
def _shop(city: int, site: int, tenant: int) -> Merchant:
    angle, share, *_ = uniforms(b"shop", _WORLD, city, site)
    place = CITIES[city]
    merchant_id = token("m", b"shop id", _WORLD, city, site, tenant)
    return Merchant(merchant_id, category_at(city, site), place.country, place.currency, *place.position(angle, share))


@cache
def cash_machine(city: int, site: int) -> Merchant:
    """The cash machine next to the shop at that site."""
    angle, share, *_ = uniforms(b"shop", _WORLD, city, site)
    place = CITIES[city]
    merchant_id = token("m", b"cash machine", _WORLD, city, site)
    return Merchant(merchant_id, CASH, place.country, place.currency, *place.position(angle, share))


@cache
def domestic(country: str, number: int) -> Merchant:
    """An online merchant that sells in one country."""
    key = _COUNTRIES.index(country), number
    category = _online_category(uniforms(b"domestic", _WORLD, *key)[0])
    return Merchant(token("m", b"domestic id", _WORLD, *key), category, country, currency_of(country))


@cache
def worldwide(number: int) -> Merchant:
    """An online merchant that sells everywhere, from its own seat."""
    category, seat, *_ = uniforms(b"worldwide", _WORLD, number)
    country = _WORLDWIDE_SEATS[int(seat * len(_WORLDWIDE_SEATS))]
    return Merchant(token("m", b"worldwide id", _WORLD, number), _online_category(category), country, None)


@cache
def collecting(country: str, number: int) -> Merchant:
    """Who collects recurring payments in a country."""
    key = _COUNTRIES.index(country), number
    category = _collecting_category(uniforms(b"collecting", _WORLD, *key)[0])
    return Merchant(token("m", b"collecting id", _WORLD, *key), category, country, currency_of(country))
