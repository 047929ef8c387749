"""How often a card was tried of late, and for how much: exact times first, buckets where there are too many.

`Attempts` reaches 25 hours back from the card's clock, so that a 24-hour window is whole for payments up to an hour late.
The newest `MOST_EXACT` are kept to the millisecond; older ones fall into buckets of five minutes, which become buckets of an hour
once they are two hours old. A window that touches a bucket counts all of it: never below the truth, and marked as saturated.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from struct import Struct as Packed
from typing import Any, Final

from msgspec import Struct

from aegis_app.core.case import Case
from aegis_app.core.payment import DAY_MS, HOUR_MS, MINUTE_MS, Millis, is_small
from aegis_app.core.uses import fingerprint

REACH_MS: Final = 25 * HOUR_MS
MOST_EXACT: Final = 160

SMALL: Final = 1
"""Mark of an attempt that tests a card: a verification, or an amount of at most two whole units."""
REFUSED: Final = 2
"""Mark of an attempt whose verdict was `block`. Not of reviewed ones: a rule that counts them and asks for review would never end."""
_MARKS: Final = tuple(bytes((mark,)) for mark in range(4))
_ONES: Final = {mark: bytes((marks & mark) // mark for marks in range(256)) for mark in (SMALL, REFUSED)}

_BUCKET: Final = Packed("<IHId")
"""Start in seconds since the epoch, width in seconds, attempts, money."""
_FINE: Final = 300
_COARSE: Final = 3600
"""Widths of a bucket, in seconds."""

_NOWHERE: Final = b"\0\0\0\0"
_NOBODY: Final = {0}
_UNKNOWN: Final = float("nan")
"""Money in a currency without a rate; whatever it is added to is not known either."""
_ROUNDED_UP: Final = 1 + 2**-23


class Attempts(Struct, frozen=True, array_like=True, gc=False):
    """Packed columns, in the order of time; refunds and reversals are no attempts."""

    times: bytes = b""
    """Int64 milliseconds."""
    marks: bytes = b""
    money: bytes = b""
    """Float32 minor units of the base currency: exact to 167,772.16 EUR, above it at most 0.00003 % too much; NaN for no rate."""
    merchants: bytes = b""
    """Fingerprints of four bytes; zeros for none."""
    buckets: bytes = b""
    last: Millis = 0
    """The latest attempt, however long ago; 0 for none."""


class Recent(Struct, frozen=True, gc=False):
    """What was tried up to a moment. `None`: the window begins before memory does, or there is nothing to tell."""

    attempts_1m: int | None
    attempts_10m: int | None
    attempts_1h: int | None
    attempts_24h: int | None
    money_1m: float | None
    """Minor units of the base currency; `None` too where a rate was missing."""
    money_10m: float | None
    money_1h: float | None
    money_24h: float | None
    small_1h: int | None
    small_24h: int | None
    refused_1h: int | None
    refused_24h: int | None
    merchants_10m: int | None
    merchants_1h: int | None
    smallest_1h: float | None
    since_midnight: int | None
    """Attempts; UTC."""
    money_since_midnight: float | None
    last: Millis | None
    """The latest attempt, however long ago."""
    saturated: bool


def recent(attempts: Attempts, clock: Millis, at: Millis) -> Recent:
    """Describe what was tried up to `at`."""
    is_whole = at - DAY_MS >= clock - REACH_MS
    if attempts.last <= at - HOUR_MS and is_whole and not attempts.buckets:
        return _not_in_the_hour(attempts, at)
    times = array("q", attempts.times)
    upto = bisect_right(times, at)
    last = times[upto - 1] if upto else attempts.last if 0 < attempts.last <= at else None
    begins = (at - MINUTE_MS, at - 10 * MINUTE_MS, at - HOUR_MS, at - DAY_MS, at // DAY_MS * DAY_MS - 1)
    firsts = [bisect_right(times, begin, 0, upto) for begin in begins]
    _, ten_minutes, hour, day, _ = firsts
    amounts, merchants = array("f", attempts.money), array("I", attempts.merchants)
    counts: list[Any] = [upto - first for first in firsts]
    money: list[Any] = [sum(amounts[first:upto]) for first in firsts]
    lowest = min(amounts[hour:upto]) if hour < upto else None
    used = [_distinct(merchants[ten_minutes:upto]), _distinct(merchants[hour:upto])]
    small = [_marked(attempts.marks[hour:upto], SMALL), _marked(attempts.marks[day:upto], SMALL)]
    refused = [_marked(attempts.marks[hour:upto], REFUSED), _marked(attempts.marks[day:upto], REFUSED)]
    saturated = False
    if attempts.buckets:
        bucketed = [_bucketed(attempts.buckets, begin, at) for begin in begins]
        saturated = any(number for number, _ in bucketed)
        counts = [count + number for count, (number, _) in zip(counts, bucketed, strict=True)]
        money = [amount + more for amount, (_, more) in zip(money, bucketed, strict=True)]
        # Those in buckets may all have been small, or refused, and each at a merchant of its own.
        _, (in_ten_minutes, _), (in_hour, _), (in_day, _), _ = bucketed
        used = [used[0] + in_ten_minutes, used[1] + in_hour]
        small, refused = [small[0] + in_hour, small[1] + in_day], [refused[0] + in_hour, refused[1] + in_day]
    money = [amount if amount == amount else None for amount in money]
    if money[2] is None:
        lowest = None
    found: list[Any] = [*counts[:4], *money[:4], *small, *refused, *used, lowest, counts[4], money[4]]
    if not is_whole:
        found = [value if begins[place] >= clock - REACH_MS else None for value, place in zip(found, _WINDOW_OF, strict=True)]
    return Recent(*[*found, last, saturated])


def _not_in_the_hour(attempts: Attempts, at: Millis) -> Recent:
    """The same where the last attempt lies more than an hour back: most payments are such, and this is a fifth of the work."""
    last = attempts.last if attempts.last > 0 else None
    if attempts.last <= at - DAY_MS:
        return Recent(0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, 0, None, 0, 0.0, last, False)
    times = array("q", attempts.times)
    upto = len(times)
    day = bisect_right(times, at - DAY_MS)
    midnight = bisect_right(times, at // DAY_MS * DAY_MS - 1, day)
    amounts, marks = array("f", attempts.money[4 * day :]), attempts.marks[day:]
    money_24h, money_since = sum(amounts), sum(amounts[midnight - day :])
    small = refused = 0
    if marks.strip(b"\0"):
        small, refused = _marked(marks, SMALL), _marked(marks, REFUSED)
    return Recent(
        0,
        0,
        0,
        upto - day,
        0.0,
        0.0,
        0.0,
        money_24h if money_24h == money_24h else None,
        0,
        small,
        0,
        refused,
        0,
        0,
        None,
        upto - midnight,
        money_since if money_since == money_since else None,
        last,
        False,
    )


_WINDOW_OF: Final = (0, 1, 2, 3, 0, 1, 2, 3, 2, 3, 2, 3, 1, 2, 2, 4, 4)
"""The window that each field of `Recent` is about, as a place in `begins`."""


def _distinct(merchants: Sequence[int]) -> int:
    return len(set(merchants) - _NOBODY) if merchants else 0


def _marked(marks: bytes, mark: int) -> int:
    return marks.translate(_ONES[mark]).count(1) if marks else 0


def add(attempts: Attempts, clock: Millis, case: Case, refused: bool) -> Attempts:
    """Add an attempt and forget what lies beyond the reach of `clock`, which has already advanced."""
    txn, at = case.txn, case.at
    times, marks, money, merchants, buckets = attempts.times, attempts.marks, attempts.money, attempts.merchants, attempts.buckets
    horizon = clock - REACH_MS
    if times and _time(times[:8]) <= horizon:
        gone = bisect_right(array("q", times), horizon)
        times, marks, money, merchants = times[gone * 8 :], marks[gone:], money[gone * 4 :], merchants[gone * 4 :]
    if at > horizon:
        packed = at.to_bytes(8, "little")
        mark = _MARKS[(SMALL if is_small(txn) else 0) | (REFUSED if refused else 0)]
        amount = _float32(case.amount)
        merchant = _NOWHERE if txn.merchant_id is None else fingerprint(txn.merchant_id)
        if attempts.last <= at:
            times, marks, money, merchants = times + packed, marks + mark, money + amount, merchants + merchant
        else:
            index = bisect_right(array("q", times), at)
            times = times[: index * 8] + packed + times[index * 8 :]
            marks = marks[:index] + mark + marks[index:]
            money = money[: index * 4] + amount + money[index * 4 :]
            merchants = merchants[: index * 4] + merchant + merchants[index * 4 :]
    if len(marks) > MOST_EXACT:
        oldest = _time(times[:8]) // 1000, _single(money[:4])
        times, marks, money, merchants = times[8:], marks[1:], money[4:], merchants[4:]
        buckets = _pour(buckets, clock, oldest)
    elif buckets:
        buckets = _pour(buckets, clock, None)
    return Attempts(times, marks, money, merchants, buckets, max(attempts.last, at))


def _time(packed: bytes) -> Millis:
    return int.from_bytes(packed, "little")


_SINGLE: Final = Packed("<f")


def _float32(amount: int | None) -> bytes:
    """Never below `amount`."""
    if amount is None:
        return _SINGLE.pack(_UNKNOWN)
    packed = _SINGLE.pack(amount)
    return packed if amount <= 1 << 24 or _single(packed) >= amount else _SINGLE.pack(amount * _ROUNDED_UP)


def _single(packed: bytes) -> float:
    number: float = _SINGLE.unpack(packed)[0]
    return number


def _bucketed(buckets: bytes, since: Millis, at: Millis) -> tuple[int, float]:
    """Attempts and money of the buckets that `(since, at]` touches."""
    number, money = 0, 0.0
    for start, width, attempts, amount in _BUCKET.iter_unpack(buckets):
        if start * 1000 <= at and (start + width) * 1000 > since:
            number += attempts
            money += amount
    return number, money


def _pour(buckets: bytes, clock: Millis, attempt: tuple[int, float] | None) -> bytes:
    """Add an attempt (second, money) to its bucket, widen buckets two hours old, and drop those beyond reach."""
    kept: dict[tuple[int, int], tuple[int, float]] = {}
    for start, width, number, money in _aged(buckets, clock, attempt):
        before = kept.get((start, width), (0, 0.0))
        kept[start, width] = before[0] + number, before[1] + money
    return b"".join(_BUCKET.pack(*place, *held) for place, held in sorted(kept.items(), key=lambda item: item[0]))


def _aged(buckets: bytes, clock: Millis, attempt: tuple[int, float] | None) -> Iterator[tuple[int, int, int, float]]:
    horizon = clock - REACH_MS
    recently = (clock - 2 * HOUR_MS) // 1000 // _FINE * _FINE  # so that the window of an hour never touches a bucket of one
    for start, width, number, money in _BUCKET.iter_unpack(buckets):
        if (start + width) * 1000 > horizon:
            yield (start, width, number, money) if start >= recently else (start // _COARSE * _COARSE, _COARSE, number, money)
    if attempt is not None:
        second, money = attempt
        width = _FINE if second >= recently else _COARSE
        yield second // width * width, width, 1, money
