"""What allowed payments teach about a card: amounts, rhythm, hours, places, and what it is used with.

Sums are whole numbers in fixed point, so that a payment can be taken out again exactly.
"""

from array import array
from math import asin, exp, log, log1p, sqrt
from operator import itemgetter
from struct import Struct as Packed
from typing import Final

from msgspec import Struct

from aegis_app.core.case import Case
from aegis_app.core.earth import EARTH_KM, direction
from aegis_app.core.encoding import CHANNELS, channel_code, kind_code
from aegis_app.core.payment import DAY_MS, HOUR_MS, Channel, Kind, Millis
from aegis_app.core.uses import find, fingerprint, use

UNIT: Final = 1 << 28
"""Fixed point of sums of logarithms, and of directions."""

MOST_PLACES: Final = 4
MOST_MERCHANTS: Final = 48
MOST_PAYEES: Final = 16
MOST_CATEGORIES: Final = 16
MOST_COUNTRIES: Final = 12
MOST_DEVICES: Final = 8
MOST_SUBSCRIPTIONS: Final = 12

SETTLED: Final = 0.2
"""Length of the mean direction, 1 for a single place, from which a card counts as living somewhere."""
PLACE: Final = Packed("<qii")
"""Time in milliseconds, latitude and longitude in millionths of a degree."""
SUBSCRIPTION: Final = Packed("<4sQ")
"""Fingerprint of who collects, and the last amount in minor units of the base currency."""


class Habit(Struct, frozen=True, array_like=True, gc=False):
    """Of allowed payments alone; refunds and reversals are none."""

    payments: int = 0
    last: Millis = 0
    """The latest one; 0 for none."""
    amounts: int = 0
    """Payments whose amount, above zero, is in `sum_log`: the logarithm of minor units of the base currency."""
    sum_log: int = 0
    sum_log_squared: int = 0
    largest: int = 0
    gaps: int = 0
    """Times from one payment to the next that are in `sum_gap`: the logarithm of one plus their seconds."""
    sum_gap: int = 0
    sum_gap_squared: int = 0
    tallies: bytes = b""
    """Uint16: payments by hour of the day (24), by weekday from Monday (7), in UTC, by kind (7), by channel (7, and one for unknown),
    and all of them. All are halved when one is full, which leaves shares as they are."""
    present_at: Millis = 0
    """The latest with the card present; 0 for none."""
    places: bytes = b""
    """The last four places with the card present."""
    homes: int = 0
    """Places that are in `north`, `east` and `up`: directions from the centre of the Earth, whose mean points to where the card lives."""
    north: int = 0
    east: int = 0
    up: int = 0
    merchants: bytes = b""
    payees: bytes = b""
    categories: bytes = b""
    countries: bytes = b""
    devices: bytes = b""
    subscriptions: bytes = b""


NONE: Final = Habit()


def learn(habit: Habit, case: Case, clock: Millis) -> Habit:
    """The habit after an allowed payment; one ahead of the card's clock counts as of now."""
    txn, at = case.txn, min(case.at, clock)
    amounts, sum_log, sum_log_squared, largest = habit.amounts, habit.sum_log, habit.sum_log_squared, habit.largest
    if case.amount is not None and case.amount > 0:
        step = log(case.amount)
        amounts += 1
        sum_log += round(step * UNIT)
        sum_log_squared += round(step * step * UNIT)
        largest = max(largest, case.amount)
    gaps, sum_gap, sum_gap_squared = habit.gaps, habit.sum_gap, habit.sum_gap_squared
    if 0 < habit.last <= at:
        step = log1p((at - habit.last) / 1000)
        gaps += 1
        sum_gap += round(step * UNIT)
        sum_gap_squared += round(step * step * UNIT)
    places, present_at = habit.places, habit.present_at
    homes, north, east, up = habit.homes, habit.north, habit.east, habit.up
    if txn.is_card_present:
        present_at = max(present_at, at)
        if txn.latitude is not None and txn.longitude is not None:
            places = _add_place(places, at, txn.latitude, txn.longitude)
            one, other, third = direction(txn.latitude, txn.longitude)
            homes, north, east, up = homes + 1, north + round(one * UNIT), east + round(other * UNIT), up + round(third * UNIT)
    return Habit(
        habit.payments + 1,
        max(habit.last, at),
        amounts,
        sum_log,
        sum_log_squared,
        largest,
        gaps,
        sum_gap,
        sum_gap_squared,
        _tally(habit.tallies, case),
        present_at,
        places,
        homes,
        north,
        east,
        up,
        habit.merchants if txn.merchant_id is None else use(habit.merchants, fingerprint(txn.merchant_id), MOST_MERCHANTS),
        habit.payees if txn.payee_id is None else use(habit.payees, fingerprint(txn.payee_id), MOST_PAYEES),
        habit.categories if txn.merchant_category is None else use(habit.categories, fingerprint(txn.merchant_category), MOST_CATEGORIES),
        habit.countries if txn.country is None else use(habit.countries, fingerprint(txn.country), MOST_COUNTRIES),
        habit.devices if txn.device_id is None else use(habit.devices, fingerprint(txn.device_id), MOST_DEVICES),
        _subscribe(habit.subscriptions, case) if txn.channel is Channel.RECURRING else habit.subscriptions,
    )


def typical_amount(habit: Habit) -> float | None:
    """Geometric mean of the card's amounts, minor units of the base currency."""
    return exp(habit.sum_log / UNIT / habit.amounts) if habit.amounts else None


def deviation(count: int, total: int, squared: int, value: float) -> float | None:
    """Standard deviations of `value` above the mean of what was summed in fixed point; `None` while they hardly differ."""
    if count < 2:
        return None
    mean = total / UNIT / count
    variance = (squared / UNIT - count * mean * mean) / (count - 1)
    return (value - mean) / sqrt(variance) if variance > 1e-4 else None


_WEEKDAYS: Final = 24
_KINDS: Final = _WEEKDAYS + 7
_CHANNELS: Final = _KINDS + len(Kind)
_ALL: Final = _CHANNELS + len(Channel) + 1
_TALLIES: Final = _ALL + 1
_ONLINE: Final = _CHANNELS + CHANNELS[Channel.ONLINE]
_PHONE: Final = _CHANNELS + CHANNELS[Channel.PHONE]


def weekday(at: Millis) -> int:
    """0 for a Monday, in UTC."""
    return (at // DAY_MS + 3) % 7


def _tally(tallies: bytes, case: Case) -> bytes:
    counted = bytearray(tallies or bytes(2 * _TALLIES))
    txn, at = case.txn, case.at
    for place in (
        at // HOUR_MS % 24,
        _WEEKDAYS + weekday(at),
        _KINDS + kind_code(txn.kind) - 1,
        _CHANNELS + channel_code(txn.channel),
        _ALL,
    ):
        low = 2 * place
        if counted[low] < 255:
            counted[low] += 1
        elif counted[low + 1] < 255:
            counted[low], counted[low + 1] = 0, counted[low + 1] + 1
        else:
            halves = array("H", [count // 2 for count in array("H", counted)])
            return _tally(halves.tobytes(), case)
    return bytes(counted)


def hour_share(habit: Habit, at: Millis) -> float | None:
    """Share of the card's payments in the hour of `at`, the one before and the one after; `None` while there are none."""
    if not (tallies := habit.tallies):
        return None
    hour = at // HOUR_MS % 24
    around = _tallied(tallies, (hour or 24) - 1) + _tallied(tallies, hour) + _tallied(tallies, (hour + 1) % 24)
    return around / _tallied(tallies, _ALL)


def weekday_share(habit: Habit, at: Millis) -> float | None:
    return _tallied(habit.tallies, _WEEKDAYS + weekday(at)) / _tallied(habit.tallies, _ALL) if habit.tallies else None


def kind_share(habit: Habit, kind: Kind) -> float | None:
    return _tallied(habit.tallies, _KINDS + kind_code(kind) - 1) / _tallied(habit.tallies, _ALL) if habit.tallies else None


def online_share(habit: Habit) -> float | None:
    """Share of the card's payments online or by phone."""
    if not (tallies := habit.tallies):
        return None
    return (_tallied(tallies, _ONLINE) + _tallied(tallies, _PHONE)) / _tallied(tallies, _ALL)


def _tallied(tallies: bytes, place: int) -> int:
    return tallies[2 * place] | tallies[2 * place + 1] << 8


def last_collected(habit: Habit, merchant_id: str) -> int | None:
    """What a recurring payment to this merchant was last, minor units of the base currency."""
    at = find(habit.subscriptions, fingerprint(merchant_id), SUBSCRIPTION.size)
    return None if at < 0 else SUBSCRIPTION.unpack_from(habit.subscriptions, at)[1]


def _subscribe(subscriptions: bytes, case: Case) -> bytes:
    if case.txn.merchant_id is None or case.amount is None:
        return subscriptions
    collector = fingerprint(case.txn.merchant_id)
    at = find(subscriptions, collector, SUBSCRIPTION.size)
    if at >= 0:
        subscriptions = subscriptions[:at] + subscriptions[at + SUBSCRIPTION.size :]
    return (subscriptions + SUBSCRIPTION.pack(collector, case.amount))[-MOST_SUBSCRIPTIONS * SUBSCRIPTION.size :]


def _add_place(places: bytes, at: Millis, latitude: float, longitude: float) -> bytes:
    place = PLACE.pack(at, round(latitude * 1e6), round(longitude * 1e6))
    if not places or PLACE.unpack_from(places, len(places) - PLACE.size)[0] <= at:
        return (places + place)[-MOST_PLACES * PLACE.size :]
    kept = sorted([*PLACE.iter_unpack(places), PLACE.unpack(place)], key=itemgetter(0))
    return b"".join(PLACE.pack(*each) for each in kept[-MOST_PLACES:])


def place_before(habit: Habit, at: Millis) -> tuple[Millis, float, float] | None:
    """When and where the card was last present up to `at`: latitude and longitude in degrees."""
    for start in range(len(habit.places) - PLACE.size, -1, -PLACE.size):
        when, latitude, longitude = PLACE.unpack_from(habit.places, start)
        if when <= at:
            return when, latitude / 1e6, longitude / 1e6
    return None


def from_home(habit: Habit, latitude: float, longitude: float) -> float | None:
    """Kilometres from the middle of the card's places; `None` while it has none, or they lie all around the globe."""
    length = sqrt(habit.north * habit.north + habit.east * habit.east + habit.up * habit.up)
    if length <= SETTLED * habit.homes * UNIT:
        return None
    one, other, third = direction(latitude, longitude)
    chord = sqrt((one - habit.north / length) ** 2 + (other - habit.east / length) ** 2 + (third - habit.up / length) ** 2)
    return 2 * EARTH_KM * asin(min(1.0, chord / 2))
