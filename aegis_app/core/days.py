"""A card's last 31 UTC days: attempts, and their money."""

from array import array
from bisect import bisect_left
from struct import Struct as Packed
from typing import Final

from msgspec import Struct

MOST_DAYS: Final = 31


class Days(Struct, frozen=True, array_like=True, gc=False):
    """Packed columns, a row for each day with attempts, in order. A day is counted in days since the epoch."""

    days: bytes = b""
    """Uint16."""
    attempts: bytes = b""
    """Uint32."""
    money: bytes = b""
    """Float64, whole minor units of the base currency; NaN where a rate was missing."""


class Before(Struct, frozen=True, gc=False):
    """What was tried before a day."""

    week: int
    """Attempts on the 6 days before it."""
    month: int
    """On the 29 days before it."""
    active: int
    """How many of those 29 had attempts."""
    money_week: float
    """Minor units of the base currency; NaN where a rate was missing."""
    money_month: float


_NOTHING: Final = Before(0, 0, 0, 0.0, 0.0)


def before(days: Days, day: int) -> Before:
    """Sum up the days before `day`."""
    column = array("H", days.days)
    end = bisect_left(column, day)
    month = bisect_left(column, max(0, day - 29))
    if month == end:
        return _NOTHING
    week = bisect_left(column, max(0, day - 6))
    attempts, money = array("I", days.attempts)[month:end], array("d", days.money)[month:end]
    return Before(sum(attempts[week - month :]), sum(attempts), end - month, sum(money[week - month :]), sum(money))


_COUNT: Final = Packed("<I")
_MONEY: Final = Packed("<d")


def add(days: Days, today: int, day: int, amount: int | None) -> Days:
    """Count an attempt on `day`; `today` is the day of the card's clock."""
    if day <= today - MOST_DAYS:
        return days
    column, attempts, money = days.days, days.attempts, days.money
    known = float("nan") if amount is None else amount
    if not column or int.from_bytes(column[-2:], "little") < day:
        column, attempts, money = column + day.to_bytes(2, "little"), attempts + _COUNT.pack(1), money + _MONEY.pack(known)
    else:
        place = bisect_left(array("H", column), day)
        if int.from_bytes(column[2 * place : 2 * place + 2], "little") == day:
            count, sum_before = _COUNT.unpack_from(attempts, 4 * place)[0], _MONEY.unpack_from(money, 8 * place)[0]
            attempts = attempts[: 4 * place] + _COUNT.pack(count + 1) + attempts[4 * place + 4 :]
            money = money[: 8 * place] + _MONEY.pack(sum_before + known) + money[8 * place + 8 :]
        else:
            column = column[: 2 * place] + day.to_bytes(2, "little") + column[2 * place :]
            attempts = attempts[: 4 * place] + _COUNT.pack(1) + attempts[4 * place :]
            money = money[: 8 * place] + _MONEY.pack(known) + money[8 * place :]
    gone = 0
    while int.from_bytes(column[2 * gone : 2 * gone + 2], "little") <= today - MOST_DAYS or len(column) // 2 - gone > MOST_DAYS:
        gone += 1
    return Days(column[2 * gone :], attempts[4 * gone :], money[8 * gone :])
