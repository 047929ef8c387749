"""How often a card was tried: exact times first, buckets where there are too many.

`Attempts` reaches 25 hours back from the card's clock, so that a 24-hour window is whole for payments up to an hour late.
The newest `MOST_EXACT` are kept to the millisecond; older ones fall into buckets of a minute, which become buckets of an hour
once they are two hours old. A window that touches a bucket counts all of it: never below the truth, and marked as saturated.
Packed columns: `times` are sorted int64 milliseconds, `marks` a byte for each, `buckets` sorted by start.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from struct import Struct as Packed
from typing import Final

from aegis_app.core.payment import Millis

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
REACH_MS: Final = 25 * HOUR_MS
MOST_EXACT: Final = 256

SMALL: Final = 1
"""Mark of an attempt that tests a card: a verification, or an amount of at most two whole units."""
REFUSED: Final = 2
"""Mark of an attempt whose verdict was not `allow`."""

_BUCKET: Final = Packed("<IHI")
"""Start in seconds since the epoch, width in seconds, attempts."""


def timeline(times: bytes) -> Sequence[Millis]:
    """A packed column of times, unpacked."""
    return array("q", times)


def counts(times: Sequence[Millis], buckets: bytes, clock: Millis, at: Millis, windows: Sequence[Millis]) -> tuple[list[int | None], bool]:
    """Attempts in `(at - window, at]` for each of the ascending `windows`, and whether one may exceed the truth.

    `None` where the window begins before memory does.
    """
    upto = first = bisect_right(times, at)
    found: list[int | None] = []
    saturated = False
    for window in windows:
        since = at - window
        if since < clock - REACH_MS:
            found.append(None)
            continue
        first = bisect_right(times, since, 0, first)
        if buckets:
            bucketed = _bucketed(buckets, since, at)
            saturated = saturated or bucketed > 0
            found.append(upto - first + bucketed)
        else:
            found.append(upto - first)
    return found, saturated


def _bucketed(buckets: bytes, since: Millis, at: Millis) -> int:
    return sum(number for start, width, number in _BUCKET.iter_unpack(buckets) if start * 1000 <= at and (start + width) * 1000 > since)


def count_small(times: Sequence[Millis], marks: bytes, buckets: bytes, at: Millis, window: Millis) -> int:
    """Small attempts in `(at - window, at]`; those in buckets may all have been small."""
    marks = marks[bisect_right(times, at - window) : bisect_right(times, at)]
    exact = marks.count(SMALL) + marks.count(SMALL | REFUSED)
    return exact + _bucketed(buckets, at - window, at) if buckets else exact


def add(times: bytes, marks: bytes, buckets: bytes, clock: Millis, at: Millis, mark: int) -> tuple[bytes, bytes, bytes]:
    """Add an attempt and forget what lies beyond the reach of `clock`, which has already advanced."""
    column = timeline(times)
    horizon = clock - REACH_MS
    if column and column[0] <= horizon:
        gone = bisect_right(column, horizon)
        times, marks = times[gone * 8 :], marks[gone:]
        column = timeline(times)
    if at > horizon:
        index = bisect_right(column, at)
        times = times[: index * 8] + at.to_bytes(8, "little", signed=True) + times[index * 8 :]
        marks = marks[:index] + bytes((mark,)) + marks[index:]
    if len(marks) > MOST_EXACT:
        oldest = int.from_bytes(times[:8], "little", signed=True)
        times, marks = times[8:], marks[1:]
        buckets = _pour(buckets, clock, oldest)
    elif buckets:
        buckets = _pour(buckets, clock, None)
    return times, marks, buckets


def _pour(buckets: bytes, clock: Millis, at: Millis | None) -> bytes:
    """Add one attempt to its bucket (none if `None`), widen buckets two hours old, and drop those beyond reach."""
    kept: dict[tuple[int, int], int] = {}
    for start, width, number in _aged(buckets, clock, at):
        place = (start, width)
        kept[place] = kept.get(place, 0) + number
    return b"".join(_BUCKET.pack(start, width, number) for (start, width), number in sorted(kept.items()))


def _aged(buckets: bytes, clock: Millis, at: Millis | None) -> Iterator[tuple[int, int, int]]:
    horizon = clock - REACH_MS
    recent = (clock - 2 * HOUR_MS) // MINUTE_MS * 60  # so that the window of an hour never touches a bucket of one
    for start, width, number in _BUCKET.iter_unpack(buckets):
        if (start + width) * 1000 > horizon:
            yield (start // 3600 * 3600, 3600, number) if start < recent else (start, width, number)
    if at is not None:
        second = at // 1000
        yield (second // 60 * 60, 60, 1) if second >= recent else (second // 3600 * 3600, 3600, 1)
