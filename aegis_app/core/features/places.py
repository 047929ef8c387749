"""Where the payment took place, against where the card was and lives."""

from typing import Annotated, Final

from msgspec import Struct

from aegis_app.core import habit
from aegis_app.core.case import Case
from aegis_app.core.earth import kilometres
from aegis_app.core.features.catalogue import of
from aegis_app.core.habit import Habit
from aegis_app.core.payment import MINUTE_MS

NEAREST_MINUTES: Final = 1.0
"""Speeds are taken over at least this long: clocks of terminals differ."""
_PLACE: Final = "card not present, no position, or no earlier one"


class Travel(Struct, frozen=True, gc=False):
    km: Annotated[float | None, of("km", "from the last trusted place, both card-present", _PLACE)] = None
    kmh: Annotated[float | None, of("km/h", "speed that this distance takes", _PLACE)] = None


class Home(Struct, frozen=True, gc=False):
    km_from_home: Annotated[float | None, of("km", "from the middle of the card's trusted places", _PLACE)]
    abroad: Annotated[bool | None, of("yes or no", "not in the home country", "country or home country not given")]


_UNKNOWN: Final = Travel()


def travel(known: Habit, case: Case) -> Travel:
    txn = case.txn
    if txn.latitude is None or txn.longitude is None or not known.places or not txn.is_card_present:
        return _UNKNOWN
    before = habit.place_before(known, case.at)
    if before is None:
        return _UNKNOWN
    there, latitude, longitude = before
    km = kilometres(latitude, longitude, txn.latitude, txn.longitude)
    return Travel(km, km / (max((case.at - there) / MINUTE_MS, NEAREST_MINUTES) / 60))


def home(known: Habit, case: Case) -> Home:
    txn, km = case.txn, None
    if txn.latitude is not None and txn.longitude is not None and known.places and txn.is_card_present:
        km = habit.from_home(known, txn.latitude, txn.longitude)
    return Home(km, None if txn.country is None or txn.home_country is None else txn.country != txn.home_country)
