"""What allowed payments teach about a card: amounts, rhythm, hours, places, and what it is used with.

Sums are whole numbers in fixed point, so that a payment can be taken out again exactly.
"""

from array import array
from collections.abc import Iterable
from functools import lru_cache
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
MOST_COUNTRIES: Final = 32
MOST_DEVICES: Final = 32
"""Of merchants, countries and devices no fewer than the ring has payments: what one of those used must still be there to be taken out."""
MOST_SUBSCRIPTIONS: Final = 12

SETTLED: Final = 0.2
"""Length of the mean direction, 1 for a single place, from which a card counts as living somewhere."""
PLACE: Final = Packed("<qii4s?")
"""Time in milliseconds, latitude and longitude in millionths of a degree, of which payment (the head of its hash), taken out again."""
LESSON: Final = Packed("<Q4s4s2siiBBB")
"""What a payment taught: amount in minor units of the base currency (0: not in the sums), fingerprints of merchant and device, country,
latitude and longitude in millionths of a degree, hour of the week, kind, and channel, marked where it has a place."""
PLACED: Final = 0x80
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
    """Of those that were not taken out again."""
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
    """The last four places with the card present, in the order of time."""
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
    largest_before: int = 0
    """The largest amount of the payments that the ring no longer holds."""


NONE: Final = Habit()


def learn(habit: Habit, case: Case, at: Millis, payment: bytes) -> tuple[Habit, bytes]:
    """The habit after an allowed payment, learnt as of `at`, whose id has the hash `payment`; and its `LESSON`."""
    txn = case.txn
    amounts, sum_log, sum_log_squared, largest = habit.amounts, habit.sum_log, habit.sum_log_squared, habit.largest
    amount = 0 if case.amount is None else case.amount
    if amount > 0:
        once, squared = of_amount(amount)
        amounts, sum_log, sum_log_squared = amounts + 1, sum_log + once, sum_log_squared + squared
        if amount > largest:
            largest = amount
    gaps, sum_gap, sum_gap_squared = habit.gaps, habit.sum_gap, habit.sum_gap_squared
    if 0 < habit.last <= at:
        step = log1p((at - habit.last) / 1000)
        gaps += 1
        sum_gap += round(step * UNIT)
        sum_gap_squared += round(step * step * UNIT)
    places, present_at = habit.places, habit.present_at
    homes, north, east, up = habit.homes, habit.north, habit.east, habit.up
    hour, kind, channel = hour_of_week(at), kind_code(txn.kind), channel_code(txn.channel)
    latitude = longitude = placed = 0
    if txn.is_card_present:
        present_at = max(present_at, at)
        if txn.latitude is not None and txn.longitude is not None:
            latitude, longitude, placed = round(txn.latitude * 1e6), round(txn.longitude * 1e6), PLACED
            places = _add_place(places, at, latitude, longitude, payment)
            one, other, third = towards(latitude, longitude)
            homes, north, east, up = homes + 1, north + one, east + other, up + third
    merchants, devices, countries = habit.merchants, habit.devices, habit.countries
    merchant = device = country = b""
    if txn.merchant_id is not None:
        merchant = fingerprint(txn.merchant_id)
        merchants = use(merchants, merchant, MOST_MERCHANTS)
    if txn.device_id is not None:
        device = fingerprint(txn.device_id)
        devices = use(devices, device, MOST_DEVICES)
    if txn.country is not None:
        country = fingerprint(txn.country)
        countries = use(countries, country, MOST_COUNTRIES)
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
        _tally(habit.tallies, rows(hour, kind, channel)),
        present_at,
        places,
        homes,
        north,
        east,
        up,
        merchants,
        habit.payees if txn.payee_id is None else use(habit.payees, fingerprint(txn.payee_id), MOST_PAYEES),
        habit.categories if txn.merchant_category is None else use(habit.categories, fingerprint(txn.merchant_category), MOST_CATEGORIES),
        countries,
        devices,
        _subscribe(habit.subscriptions, case) if txn.channel is Channel.RECURRING else habit.subscriptions,
        habit.largest_before,
    ), LESSON.pack(amount, merchant, device, country, latitude, longitude, hour, kind, channel | placed)


@lru_cache(1 << 14)
def of_amount(amount: int) -> tuple[int, int]:
    """The logarithm of an amount above zero, and its square, in fixed point."""
    step = log(amount)
    return round(step * UNIT), round(step * step * UNIT)


@lru_cache(1 << 14)
def towards(latitude: int, longitude: int) -> tuple[int, int, int]:
    """The direction of a place, given in millionths of a degree, in fixed point."""
    one, other, third = direction(latitude / 1e6, longitude / 1e6)
    return round(one * UNIT), round(other * UNIT), round(third * UNIT)


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


def hour_of_week(at: Millis) -> int:
    """0 to 167, from a Thursday's midnight, UTC: that of the epoch."""
    return at // HOUR_MS % 168


def rows(hour: int, kind: int, channel: int) -> tuple[int, int, int, int, int]:
    """Where a payment is tallied, by its hour of the week and its codes."""
    return hour % 24, _WEEKDAYS + (hour // 24 + 3) % 7, _KINDS + kind - 1, _CHANNELS + channel, _ALL


def _tally(tallies: bytes, rows: Iterable[int]) -> bytes:
    counted = bytearray(tallies or bytes(2 * _TALLIES))
    for row in rows:
        low = 2 * row
        if counted[low] < 255:
            counted[low] += 1
        elif counted[low + 1] < 255:
            counted[low], counted[low + 1] = 0, counted[low + 1] + 1
        else:
            halves = array("H", [count // 2 for count in array("H", counted)])
            return _tally(halves.tobytes(), rows)
    return bytes(counted)


def tally_again(tallies: bytes, rows: Iterable[int], by: int) -> bytes:
    """Take a payment out of the tallies, or put it back. Not to the payment where they were halved since."""
    counted = array("H", tallies)
    for row in rows:
        counted[row] = min(max(counted[row] + by, 0), 65_535)
    return counted.tobytes()


def hour_share(habit: Habit, at: Millis) -> float | None:
    """Share of the card's payments in the hour of `at`, the one before and the one after; `None` while there are none."""
    hour = at // HOUR_MS % 24
    return _share(habit.tallies, (hour or 24) - 1, hour, (hour + 1) % 24)


def weekday_share(habit: Habit, at: Millis) -> float | None:
    return _share(habit.tallies, _WEEKDAYS + weekday(at))


def kind_share(habit: Habit, kind: Kind) -> float | None:
    return _share(habit.tallies, _KINDS + kind_code(kind) - 1)


def online_share(habit: Habit) -> float | None:
    """Share of the card's payments online or by phone."""
    return _share(habit.tallies, _ONLINE, _PHONE)


def _share(tallies: bytes, *rows: int) -> float | None:
    """`None` too where all payments were taken out again."""
    total = _tallied(tallies, _ALL) if tallies else 0
    return sum([_tallied(tallies, row) for row in rows]) / total if total else None


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


def _add_place(places: bytes, at: Millis, latitude: int, longitude: int, payment: bytes) -> bytes:
    place = PLACE.pack(at, latitude, longitude, payment, False)
    if not places or int.from_bytes(places[-PLACE.size : 8 - PLACE.size], "little", signed=True) <= at:
        return (places + place)[-MOST_PLACES * PLACE.size :]
    kept = sorted([*PLACE.iter_unpack(places), PLACE.unpack(place)], key=itemgetter(0))
    return b"".join(PLACE.pack(*each) for each in kept[-MOST_PLACES:])


def place_before(habit: Habit, at: Millis) -> tuple[Millis, float, float] | None:
    """When and where the card was last present up to `at`: latitude and longitude in degrees."""
    for start in range(len(habit.places) - PLACE.size, -1, -PLACE.size):
        when, latitude, longitude, _, is_out = PLACE.unpack_from(habit.places, start)
        if when <= at and not is_out:
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
