"""What was tried of late: attempts and their money in windows that end with the payment, and leave it out."""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Struct

from aegis_app.core import days
from aegis_app.core.attempts import BUCKET, REACH_MS, REFUSED, SMALL, Attempts
from aegis_app.core.days import Days
from aegis_app.core.features.catalogue import of
from aegis_app.core.payment import DAY_MS, HOUR_MS, MINUTE_MS, Millis

_EARLY: Final = "the window begins before memory does (late payments)"
_RATE: Final = "as for the attempts, or a payment in the window has a currency without a rate"


class Counts(Struct, frozen=True, gc=False):
    attempts_1m: Annotated[int | None, of("payments", "attempts in the minute before", _EARLY)]
    attempts_10m: Annotated[int | None, of("payments", "attempts in the 10 minutes before", _EARLY)]
    attempts_1h: Annotated[int | None, of("payments", "attempts in the hour before", _EARLY)]
    attempts_24h: Annotated[int | None, of("payments", "attempts in the 24 hours before", _EARLY)]
    small_1h: Annotated[int | None, of("payments", "verifications and tiny amounts in the hour before", _EARLY)]
    small_24h: Annotated[int | None, of("payments", "verifications and tiny amounts in the 24 hours before", _EARLY)]
    merchants_10m: Annotated[int | None, of("merchants", "different ones tried in the 10 minutes before", _EARLY)]
    merchants_1h: Annotated[int | None, of("merchants", "different ones tried in the hour before", _EARLY)]
    refused_1h: Annotated[int | None, of("payments", "attempts in the hour before that policy would block", _EARLY)]
    refused_24h: Annotated[int | None, of("payments", "the same in the 24 hours before", _EARLY)]
    saturated: Annotated[bool, of("yes or no", "a count above may exceed the truth: too many to keep each exactly")]


class Money(Struct, frozen=True, gc=False):
    money_1m: Annotated[float | None, of("base minor units", "amounts tried in the minute before", _RATE)]
    money_10m: Annotated[float | None, of("base minor units", "amounts tried in the 10 minutes before", _RATE)]
    money_1h: Annotated[float | None, of("base minor units", "amounts tried in the hour before", _RATE)]
    money_24h: Annotated[float | None, of("base minor units", "amounts tried in the 24 hours before", _RATE)]
    smallest_1h: Annotated[float | None, of("base minor units", "smallest amount tried in the hour before", f"none, or {_RATE}")]


class Month(Struct, frozen=True, gc=False):
    attempts_7d: Annotated[int | None, of("payments", "attempts on this UTC day so far and the 6 days before", _EARLY)]
    attempts_30d: Annotated[int | None, of("payments", "attempts on this UTC day so far and the 29 days before", _EARLY)]
    money_7d: Annotated[float | None, of("base minor units", "amounts tried on this UTC day so far and the 6 days before", _RATE)]
    money_30d: Annotated[float | None, of("base minor units", "amounts tried on this UTC day so far and the 29 days before", _RATE)]
    per_active_day: Annotated[
        float | None, of("payments", "attempts on days with any, over the 29 days before today", "no attempt on those days")
    ]


class Span(Struct, frozen=True, gc=False):
    """Which attempts lie in each window: from that place in their columns up to `upto`."""

    at: Millis
    upto: int
    minute: int
    ten_minutes: int
    hour: int
    day: int
    today: int
    """UTC."""
    horizon: Millis
    """Memory reaches back to here: a window that begins before is not known."""


def span(attempts: Attempts, clock: Millis, at: Millis) -> Span:
    """Find the windows that end at `at`."""
    last, horizon = attempts.last, clock - REACH_MS
    if last <= at - HOUR_MS:  # so for most payments
        upto = len(attempts.marks)
        if last <= at - DAY_MS:
            return Span(at, upto, upto, upto, upto, upto, upto, horizon)
        times = array("q", attempts.times)
        day = bisect_right(times, at - DAY_MS)
        return Span(at, upto, upto, upto, upto, day, bisect_right(times, at // DAY_MS * DAY_MS - 1, day), horizon)
    times = array("q", attempts.times)
    upto = bisect_right(times, at)
    minute, ten_minutes, hour, day, today = (bisect_right(times, begin, 0, upto) for begin in _begins(at))
    return Span(at, upto, minute, ten_minutes, hour, day, today, horizon)


def _begins(at: Millis) -> tuple[Millis, Millis, Millis, Millis, Millis]:
    return at - MINUTE_MS, at - 10 * MINUTE_MS, at - HOUR_MS, at - DAY_MS, at // DAY_MS * DAY_MS - 1


def counts(attempts: Attempts, span: Span) -> Counts:
    upto, hour, day = span.upto, span.hour, span.day
    marks = attempts.marks[day:upto]
    small_24h = refused_24h = 0
    if marks.strip(b"\0"):
        small_24h, refused_24h = _marked(marks, SMALL), _marked(marks, REFUSED)
    if hour == upto and not attempts.buckets and span.at - DAY_MS >= span.horizon:
        return Counts(0, 0, 0, upto - day, 0, small_24h, 0, 0, 0, refused_24h, False)
    more = _bucketed(attempts.buckets, span)
    in_minute, in_ten, in_hour, in_day = more[0][0], more[1][0], more[2][0], more[3][0]
    merchants, marks = array("I", attempts.merchants), attempts.marks[hour:upto]
    # Those in buckets may all have been small, or refused, and each at a merchant of its own.
    minute_known, ten_known, hour_known, day_known, _ = (begin >= span.horizon for begin in _begins(span.at))
    return Counts(
        upto - span.minute + in_minute if minute_known else None,
        upto - span.ten_minutes + in_ten if ten_known else None,
        upto - hour + in_hour if hour_known else None,
        upto - day + in_day if day_known else None,
        _marked(marks, SMALL) + in_hour if hour_known else None,
        small_24h + in_day if day_known else None,
        _distinct(merchants[span.ten_minutes : upto]) + in_ten if ten_known else None,
        _distinct(merchants[hour:upto]) + in_hour if hour_known else None,
        _marked(marks, REFUSED) + in_hour if hour_known else None,
        refused_24h + in_day if day_known else None,
        any(number for number, _ in more),
    )


_NO_MONEY: Final = Money(0.0, 0.0, 0.0, 0.0, None)


def money(attempts: Attempts, span: Span) -> Money:
    upto = span.upto
    if span.hour == upto and not attempts.buckets and span.at - DAY_MS >= span.horizon:
        if span.day == upto:
            return _NO_MONEY
        return Money(0.0, 0.0, 0.0, _sum(array("f", attempts.money[4 * span.day : 4 * upto])), None)
    amounts = array("f", attempts.money[4 * span.day : 4 * upto])
    found = [_sum(amounts[first - span.day :]) for first in (span.minute, span.ten_minutes, span.hour, span.day)]
    if attempts.buckets:
        found = [_plus(amount, more) for amount, (_, more) in zip(found, _bucketed(attempts.buckets, span), strict=False)]
    if span.at - DAY_MS < span.horizon:
        found = [amount if begin >= span.horizon else None for amount, begin in zip(found, _begins(span.at), strict=False)]
    smallest = min(amounts[span.hour - span.day :]) if found[2] is not None and span.hour < upto else None
    in_minute, in_ten_minutes, in_hour, in_day = found
    return Money(in_minute, in_ten_minutes, in_hour, in_day, smallest)


def month(attempts: Attempts, span: Span, column: Days) -> Month:
    before = days.before(column, span.at // DAY_MS)
    per_active_day = before.month / before.active if before.active else None
    if span.at // DAY_MS * DAY_MS - 1 < span.horizon:
        return Month(None, None, None, None, per_active_day)
    number = span.upto - span.today
    amount = _sum(array("f", attempts.money[4 * span.today : 4 * span.upto])) if number else 0.0
    if attempts.buckets:
        more, more_money = _bucketed(attempts.buckets, span)[4]
        number, amount = number + more, _plus(amount, more_money)
    return Month(
        number + before.week, number + before.month, _plus(amount, before.money_week), _plus(amount, before.money_month), per_active_day
    )


def _bucketed(buckets: bytes, span: Span) -> list[tuple[int, float]]:
    """Attempts and money of the buckets that each window touches."""
    return [_touched(buckets, begin, span.at) for begin in _begins(span.at)]


def _touched(buckets: bytes, since: Millis, at: Millis) -> tuple[int, float]:
    number, amount = 0, 0.0
    for start, width, attempts, more in BUCKET.iter_unpack(buckets):
        if start * 1000 <= at and (start + width) * 1000 > since:
            number += attempts
            amount += more
    return number, amount


def _sum(amounts: Sequence[float]) -> float | None:
    """`None` where one of them is not known."""
    total = sum(amounts)
    return total if total == total else None


def _plus(amount: float | None, more: float) -> float | None:
    return None if amount is None or more != more else amount + more


_NOBODY: Final = {0}


def _distinct(merchants: Sequence[int]) -> int:
    return len(set(merchants) - _NOBODY) if merchants else 0


_ONES: Final = {mark: bytes((marks & mark) // mark for marks in range(256)) for mark in (SMALL, REFUSED)}


def _marked(marks: bytes, mark: int) -> int:
    return marks.translate(_ONES[mark]).count(1) if marks else 0
