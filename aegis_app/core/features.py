"""A payment described by what was known before it."""

from array import array
from bisect import bisect_left, bisect_right
from math import asin, cos, exp, log, radians, sin, sqrt
from typing import Annotated, Final

from msgspec import Meta, Struct

from aegis_app.core.attempts import HOUR_MS, MINUTE_MS, count_small, counts, timeline
from aegis_app.core.card import DAY_MS, LOG_UNIT, PLACE, Card, find, fingerprint
from aegis_app.core.payment import Millis, Transaction

EARTH_KM: Final = 6371.0088
"""Mean radius (IUGG)."""
WINDOWS: Final = (MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, DAY_MS)
NEAREST_MINUTES: Final = 1.0
"""Speeds are taken over at least this long: clocks of terminals differ."""


class Features(Struct, frozen=True, gc=False):
    """All from the past alone; `None` is "cannot tell". Counts leave the present payment out."""

    attempts_1m: Annotated[int | None, Meta(description="attempts in the minute before")]
    attempts_10m: Annotated[int | None, Meta(description="attempts in the 10 minutes before")]
    attempts_1h: Annotated[int | None, Meta(description="attempts in the hour before")]
    attempts_24h: Annotated[int | None, Meta(description="attempts in the 24 hours before")]
    small_1h: Annotated[int | None, Meta(description="verifications and tiny amounts in the hour before")]
    saturated: Annotated[bool, Meta(description="a count above may exceed the truth")]
    per_active_day: Annotated[float | None, Meta(description="attempts on days with any, over the 30 days before today")]
    seconds_since_last: Annotated[float | None, Meta(description="since the last attempt before this payment")]
    habit: Annotated[int, Meta(description="allowed payments that habit was learnt from")]
    typical_amount: Annotated[float | None, Meta(description="geometric mean of the card's amounts, minor units, same currency")]
    amount_ratio: Annotated[float | None, Meta(description="amount over typical amount")]
    amount_z: Annotated[float | None, Meta(description="standard deviations of the logarithm above the card's mean")]
    amount_to_largest: Annotated[float | None, Meta(description="amount over the largest before")]
    km: Annotated[float | None, Meta(description="from the last trusted place, both card-present")]
    kmh: Annotated[float | None, Meta(description="speed that this distance takes")]
    new_merchant: Annotated[bool | None, Meta(description="not among the merchants used before")]
    new_country: Annotated[bool | None, Meta(description="not among the countries used before, nor home")]
    new_device: Annotated[bool | None, Meta(description="not among the devices used before")]


def describe(card: Card, txn: Transaction) -> Features:
    """Describe `txn` using only what `card` held before it."""
    at = txn.at
    times = timeline(card.times)
    (minute, ten_minutes, hour, day), saturated = counts(times, card.buckets, card.clock, at, WINDOWS)
    before = bisect_right(times, at)
    typical, ratio, z, to_largest = _amounts(card, txn)
    km, kmh = _travel(card, txn, at)
    return Features(
        minute,
        ten_minutes,
        hour,
        day,
        count_small(times, card.marks, card.buckets, at, HOUR_MS) if hour else hour,
        saturated,
        _per_active_day(card, at),
        (at - times[before - 1]) / 1000 if before else None,
        card.habit,
        typical,
        ratio,
        z,
        to_largest,
        km,
        kmh,
        None if txn.merchant_id is None or not card.merchants else find(card.merchants, fingerprint(txn.merchant_id)) < 0,
        None
        if txn.country is None or not card.countries
        else txn.country != txn.home_country and find(card.countries, txn.country.encode()) < 0,
        None if txn.device_id is None or not card.devices else find(card.devices, fingerprint(txn.device_id)) < 0,
    )


def _amounts(card: Card, txn: Transaction) -> tuple[float | None, float | None, float | None, float | None]:
    """Typical amount, ratio to it, z-score of the logarithm, ratio to the largest."""
    if card.amounts == 0 or txn.currency != card.currency:
        return None, None, None, None
    mean = card.sum_log / LOG_UNIT / card.amounts
    typical = exp(mean)
    z = None
    if card.amounts >= 2 and txn.amount_minor > 0:
        variance = (card.sum_log_squared / LOG_UNIT - card.amounts * mean * mean) / (card.amounts - 1)
        if variance > 1e-4:
            z = (log(txn.amount_minor) - mean) / sqrt(variance)
    return typical, txn.amount_minor / typical, z, txn.amount_minor / card.largest


def geometric_mean(card: Card) -> float | None:
    """The card's typical amount in minor units of its currency."""
    return exp(card.sum_log / LOG_UNIT / card.amounts) if card.amounts else None


def _travel(card: Card, txn: Transaction, at: Millis) -> tuple[float | None, float | None]:
    if txn.latitude is None or txn.longitude is None or not card.places or not txn.is_card_present:
        return None, None
    there = PLACE.unpack_from(card.places, len(card.places) - PLACE.size)
    if there[0] > at:
        earlier = [place for place in PLACE.iter_unpack(card.places) if place[0] <= at]
        if not earlier:
            return None, None
        there = earlier[-1]
    km = kilometres(there[1] / 1e6, there[2] / 1e6, txn.latitude, txn.longitude)
    return km, km / (max((at - there[0]) / MINUTE_MS, NEAREST_MINUTES) / 60)


def kilometres(latitude: float, longitude: float, to_latitude: float, to_longitude: float) -> float:
    """Great-circle distance between two places in degrees (haversine)."""
    north, south = radians(latitude), radians(to_latitude)
    half = sin((south - north) / 2) ** 2 + cos(north) * cos(south) * sin(radians(to_longitude - longitude) / 2) ** 2
    return 2 * EARTH_KM * asin(min(1.0, sqrt(half)))


def _per_active_day(card: Card, at: Millis) -> float | None:
    days = array("H", card.days)
    today = at // DAY_MS
    first, upto = bisect_left(days, max(0, today - 30)), bisect_left(days, today)
    return sum(array("I", card.day_counts)[first:upto]) / (upto - first) if upto > first else None
