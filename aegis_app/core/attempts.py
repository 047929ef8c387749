"""How often a card was tried of late, and for how much: exact times first, buckets where there are too many.

`Attempts` reaches 25 hours back from the card's clock, so that a 24-hour window is whole for payments up to an hour late.
The newest `MOST_EXACT` are kept to the millisecond; older ones fall into buckets of five minutes, which become buckets of an hour
once they are two hours old. A window that touches a bucket counts all of it: never below the truth, and marked as saturated.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from struct import Struct as Packed
from typing import Final

from msgspec import Struct

from aegis_app.core.case import Case
from aegis_app.core.payment import HOUR_MS, Millis, is_small
from aegis_app.core.uses import fingerprint

REACH_MS: Final = 25 * HOUR_MS
MOST_EXACT: Final = 128

SMALL: Final = 1
"""Mark of an attempt that tests a card: a verification, or an amount of at most two whole units."""
REFUSED: Final = 2
"""Mark of an attempt whose verdict was `block`. Not of reviewed ones: a rule that counts them and asks for review would never end."""
_MARKS: Final = tuple(bytes((mark,)) for mark in range(4))

BUCKET: Final = Packed("<IHId")
"""Start in seconds since the epoch, width in seconds, attempts, money."""
_FINE: Final = 300
_COARSE: Final = 3600
"""Widths of a bucket, in seconds."""

_NOWHERE: Final = b"\0\0\0\0"
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


def _pour(buckets: bytes, clock: Millis, attempt: tuple[int, float] | None) -> bytes:
    """Add an attempt (second, money) to its bucket, widen buckets two hours old, and drop those beyond reach."""
    kept: dict[tuple[int, int], tuple[int, float]] = {}
    for start, width, number, money in _aged(buckets, clock, attempt):
        before = kept.get((start, width), (0, 0.0))
        kept[start, width] = before[0] + number, before[1] + money
    return b"".join(BUCKET.pack(*place, *held) for place, held in sorted(kept.items(), key=lambda item: item[0]))


def _aged(buckets: bytes, clock: Millis, attempt: tuple[int, float] | None) -> Iterator[tuple[int, int, int, float]]:
    horizon = clock - REACH_MS
    recently = (clock - 2 * HOUR_MS) // 1000 // _FINE * _FINE  # so that the window of an hour never touches a bucket of one
    for start, width, number, money in BUCKET.iter_unpack(buckets):
        if (start + width) * 1000 > horizon:
            yield (start, width, number, money) if start >= recently else (start // _COARSE * _COARSE, _COARSE, number, money)
    if attempt is not None:
        second, money = attempt
        width = _FINE if second >= recently else _COARSE
        yield second // width * width, width, 1, money
