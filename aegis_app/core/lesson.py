"""How what a payment taught is taken out of habit again, or put back: as far as its `LESSON` tells, which the ring keeps.

Taken out are the payment itself, its amount, hour, weekday, kind, channel and place, and one use of its merchant, device and country.
What stays: the time between payments, the latest payment, the latest with the card present, category, payee and subscription.
"""

from typing import Final

from msgspec.structs import replace

from aegis_app.core.habit import LESSON, PLACE, PLACED, Habit, of_amount, rows, tally_again, towards
from aegis_app.core.uses import add_uses

NOTHING: Final = bytes(LESSON.size)
"""Of a payment that taught habit nothing. No other has kind 0."""


def amount_of(lesson: bytes) -> int:
    """In minor units of the base currency; 0 for one that is in no sum."""
    return int.from_bytes(lesson[:8], "little")


def take_out(habit: Habit, lesson: bytes, payment: bytes) -> Habit:
    """The habit without what `payment`, a hash of its id, had taught; `largest` is the caller's to find."""
    return _changed(habit, lesson, payment, -1)


def put_back(habit: Habit, lesson: bytes, payment: bytes) -> Habit:
    """The habit as if nothing had been taken out; `largest` is the caller's to find."""
    return _changed(habit, lesson, payment, 1)


def _changed(habit: Habit, lesson: bytes, payment: bytes, by: int) -> Habit:
    amount, merchant, device, country, latitude, longitude, hour, kind, channel = LESSON.unpack(lesson)
    summed = (by, *(by * each for each in of_amount(amount))) if amount else (0, 0, 0)
    pointed = (by, *(by * each for each in towards(latitude, longitude))) if channel & PLACED else (0, 0, 0, 0)
    return replace(
        habit,
        payments=habit.payments + by,
        amounts=habit.amounts + summed[0],
        sum_log=habit.sum_log + summed[1],
        sum_log_squared=habit.sum_log_squared + summed[2],
        tallies=tally_again(habit.tallies, rows(hour, kind, channel & ~PLACED), by),
        places=_marked(habit.places, payment[:4], by < 0) if channel & PLACED else habit.places,
        homes=habit.homes + pointed[0],
        north=habit.north + pointed[1],
        east=habit.east + pointed[2],
        up=habit.up + pointed[3],
        merchants=add_uses(habit.merchants, merchant, by),
        devices=add_uses(habit.devices, device, by),
        countries=add_uses(habit.countries, country + b"\0\0", by),
    )


def _marked(places: bytes, payment: bytes, is_out: bool) -> bytes:
    """The places with that of `payment`, if it is still among them, left out or not."""
    return b"".join(
        PLACE.pack(at, latitude, longitude, of, is_out if of == payment else out)
        for at, latitude, longitude, of, out in PLACE.iter_unpack(places)
    )
