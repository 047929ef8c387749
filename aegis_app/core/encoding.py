"""Names as numbers, for models: 0 is "not known", and a number never changes its meaning.

kind and channel: their place, from 1, in the list of design and schema (append only). Country: by its two letters, AA is 1, AB is 2,
… ZZ is 676. Category: the MCC itself where it is one (four digits); any other name falls into one of 1,000 numbers from 10,000 on.
"""

from functools import lru_cache
from typing import Final

from xxhash import xxh32_intdigest

from aegis_app.core.payment import Channel, Kind

UNKNOWN: Final = 0
KINDS: Final = {kind: place for place, kind in enumerate(Kind, 1)}
CHANNELS: Final = {channel: place for place, channel in enumerate(Channel, 1)}
OTHER_CATEGORIES: Final = 10_000
BINS: Final = 1000


@lru_cache(4096)
def kind_code(kind: Kind) -> int:
    return KINDS[kind]


@lru_cache(4096)
def channel_code(channel: Channel | None) -> int:
    return UNKNOWN if channel is None else CHANNELS[channel]


@lru_cache(4096)
def country_code(country: str | None) -> int:
    return UNKNOWN if country is None else (ord(country[0]) - 65) * 26 + ord(country[1]) - 64


@lru_cache(4096)
def category_code(category: str | None) -> int:
    if category is None:
        return UNKNOWN
    if len(category) == 4 and category.isascii() and category.isdigit():
        return int(category)
    return OTHER_CATEGORIES + xxh32_intdigest(category.encode()) % BINS
