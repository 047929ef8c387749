"""When a card is used: by the hours and weekdays of its holder, and on fixed days of the month."""

from bisect import bisect
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Final

from msgspec import Struct

from aegis_app.core.payment import Millis
from aegis_app.simulate.chance import weighted
from aegis_app.simulate.places import DAY_MS, HOUR_MS

WEEK_MS: Final = 7 * DAY_MS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# Payments in each hour of a day, relative to the other hours.
_WORKERS = (2, 1, 1, 1, 1, 2, 8, 20, 34, 36, 38, 44, 60, 54, 42, 42, 48, 62, 68, 58, 44, 28, 14, 6)
_AT_HOME = (1, 1, 1, 1, 1, 2, 6, 20, 50, 70, 75, 70, 55, 40, 45, 50, 50, 45, 35, 25, 15, 8, 4, 2)
_EVENING = (16, 8, 4, 2, 1, 1, 2, 4, 8, 14, 20, 28, 40, 40, 38, 36, 40, 50, 64, 72, 74, 64, 48, 30)
_AT_NIGHT = (50, 46, 40, 36, 34, 36, 30, 20, 10, 4, 3, 3, 4, 10, 22, 34, 40, 44, 40, 34, 34, 40, 48, 52)
_OFFICE = (0.5, 0.2, 0.2, 0.2, 0.2, 1, 6, 24, 50, 60, 60, 60, 64, 60, 56, 54, 50, 44, 40, 40, 30, 14, 5, 1)

# And in each day of a week; the first of January 1970 was a Thursday.
_EVENLY = (1.0, 1.2, 1.3, 0.8, 0.9, 0.9, 0.95)
_SATURDAYS = (0.7, 1.2, 2.2, 1.2, 0.6, 0.6, 0.6)
_MONDAY_TO_FRIDAY = (1.2, 1.2, 0.6, 0.4, 1.2, 1.2, 1.2)
_OFFICE_DAYS = (1.0, 0.9, 0.06, 0.04, 1.0, 1.0, 1.0)

Week = tuple[float, ...]
"""The share of a week's payments that lies before each of its 169 full hours."""


def _week(hours: tuple[float, ...], days: tuple[float, ...]) -> Week:
    ends = list(accumulate((day * hour for day in days for hour in hours), initial=0.0))
    return tuple(end / ends[-1] for end in ends)


week_of_a_person: Final = weighted(
    [_week(hours, days) for hours in (_WORKERS, _AT_HOME, _EVENING, _AT_NIGHT) for days in (_EVENLY, _SATURDAYS, _MONDAY_TO_FRIDAY)],
    [hours * days for hours in (0.55, 0.2, 0.2, 0.05) for days in (0.4, 0.3, 0.3)],
)
"""The week that a number in [0, 1) stands for."""
WEEK_OF_A_COMPANY: Final = _week(_OFFICE, _OFFICE_DAYS)

_MONTHS: Final = [(datetime(year, month, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND for year in range(1999, 2102) for month in range(1, 13)]
"""When each month begins."""


class Rhythm(Struct, frozen=True, gc=False):
    """When one card is used."""

    daily: float
    """Payments a day, on average, those collected by the month aside."""
    week: Week
    ahead_ms: int
    """How much the holder's day is ahead of UTC, at home."""
    late_ms: int
    """How much later than others the holder's day is."""
    collected: tuple[Millis, ...]
    """When each recurring payment is collected, from the beginning of a month; never after its 28th day."""

    def following(self, at: Millis, ahead_ms: int, random: Random) -> Millis:
        """The time of the payment after `at`, where the holder's day is `ahead_ms` ahead of UTC.

        Waiting in waking time is exponential, so it has no memory: a collection in between changes nothing.
        """
        week, rest = divmod(at + ahead_ms, WEEK_MS)
        hour, into = divmod(rest, HOUR_MS)
        table = self.week
        begin = table[hour]
        weeks, share = divmod(begin + into / HOUR_MS * (table[hour + 1] - begin) + random.expovariate(7 * self.daily), 1.0)
        hour = bisect(table, share) - 1
        begin = table[hour]
        ours = (week + int(weeks)) * WEEK_MS + int((hour + (share - begin) / (table[hour + 1] - begin)) * HOUR_MS) - ahead_ms
        due = self._collection_after(at) if self.collected else ours
        return max(min(ours, due), at + 1)

    def collection_at(self, at: Millis) -> int | None:
        """Which of the recurring payments is collected at that very time."""
        into = at - _MONTHS[month_of(at)]
        return self.collected.index(into) if into in self.collected else None

    def _collection_after(self, at: Millis) -> Millis:
        month = month_of(at)
        begin, following = _MONTHS[month], _MONTHS[month + 1]
        return min((begin if begin + into > at else following) + into for into in self.collected)


def month_of(at: Millis) -> int:
    """The number of a month; the next one's is 1 more."""
    return bisect(_MONTHS, at) - 1
