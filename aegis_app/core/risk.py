"""What every worker holds about each merchant and device: `risk` tells it, `Risk` answers from it when a payment comes.

A snapshot is that of the last event folded, so answers are of the past as far as it was known then. Only what is counted back from
the payment's own day moves on with time; a window stays as it was at the last payment here, and is empty once it lies wholly before
the payment's. So windows never fall below the truth of the snapshot.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from aegis_app.core.distinct import count
from aegis_app.core.merchant import CREDIT, MOST_MONEY, RECENT, RISK_DAYS, TALLIES, TALLY, VERDICT, VERDICTS, Merchant
from aegis_app.core.payment import DAY_MS, HOUR_MS, MINUTE_MS, Millis
from aegis_app.core.rows import column

LAYOUT: Final = 1
MATURES_DAYS: Final = 8
"""Of younger payments verdicts are not known yet, which take a week: those of the day a week ago are known in part."""
LASTS: Final = (1, 3, 10)
"""Payments of which shares of fraud are told."""
SPANS: Final = (1, 7, 30)
"""UTC days back from a payment, its own so far among them: 1 is today."""
PRIOR_FRAUDS: Final = 0.1
PRIOR_PAYMENTS: Final = 20
"""A fraud rate begins as if there had been so many payments with so many frauds: 0.5 %."""


class Window(Struct, frozen=True, array_like=True, gc=False):
    """Payments of the last minutes before a moment; refused ones are counted like others."""

    payments: int = 0
    cards: int = 0
    """Different ones; with more than 16 in some minute, give or take 6 %."""
    small: int = 0
    verifications: int = 0
    refused: int = 0
    first: int = 0
    """Of a card that had never been here."""
    money: int | None = 0
    """In minor units of the base currency; `None` where a rate was missing."""
    unusual: int | None = None
    """Mean, per mille; `None` where it is known of no payment."""


_EMPTY: Final = Window()


class Snapshot(Struct, frozen=True, array_like=True, gc=False):
    """As on `merchant-risk` and `device-risk`. Columns are of days that had something, newest first; see `_column`."""

    layout: int
    clock: Millis
    """Of the latest payment; 0 for none."""
    first: Millis
    """Of the earliest payment."""
    today: int
    """The latest day of anything, since the epoch."""
    ten: Window
    """The ten minutes before `clock`."""
    hour: Window | None
    """`None`: the same."""
    back: bytes
    """Days before `today`."""
    payments: bytes
    described: bytes | None
    """Payments whose unusualness is known; `None`: all."""
    unusual: bytes
    """Sum, per mille."""
    cards: bytes
    """Different cards, each on the day of its last payment; of fewer days than the others where no more were."""
    told_back: bytes = b""
    """As `back`, for what follows."""
    frauds: bytes = b""
    """Among the payments of the day."""
    known: bytes = b""
    """That became known on the day."""
    credits_back: bytes = b""
    credits: bytes = b""
    """Different cards with frauds elsewhere, each on the last day when one became known."""


class RiskError(ValueError):
    """Bytes that are no risk, or of a newer Aegis; the message says which."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Snapshot).decode


def check_risk(raw: bytes) -> None:
    """Raises `RiskError` unless `risk` wrote these bytes."""
    try:
        layout = _decode(raw).layout
    except msgspec.DecodeError as error:
        raise RiskError(f"not a merchant's or device's risk: {error}") from None
    if layout > LAYOUT:
        raise RiskError(f"this risk has layout {layout}, this version reads up to {LAYOUT}: update Aegis first")


def risk(merchant: Merchant) -> bytes:
    """What workers are told: less than 100 bytes for a merchant with few payments, about 300 for one with many each day."""
    minute, today = merchant.clock // MINUTE_MS, merchant.latest // DAY_MS
    ten, hour = TALLIES.since(merchant.minutes, minute - 10), TALLIES.since(merchant.minutes, minute - 60)
    days = merchant.days[TALLIES.since(merchant.days, today - RISK_DAYS + 1) :]
    back = [today - day for day in reversed(column(days, TALLY.size, 0))]
    payments, described = column(days, TALLY.size, 1)[::-1], column(days, TALLY.size, 3)[::-1]
    low, high = column(days, TALLY.size, 8)[::-1], column(days, TALLY.size, 9)[::-1]
    head = (
        LAYOUT,
        merchant.clock,
        merchant.first,
        today,
        _window(merchant, ten),
        None if hour == ten else _window(merchant, hour),
        bytes(back),
        _column(payments),
        None if described == payments else _column(described),
        _column([one + (other << 32) for one, other in zip(low, high, strict=True)] if any(high) else low),
        _column(_cards(merchant.recent, today, back)),
    )
    if not merchant.verdicts and not merchant.credits:
        return _encode(Snapshot(*head))
    verdicts = merchant.verdicts[VERDICTS.since(merchant.verdicts, today - RISK_DAYS + 1) :]
    told = list(VERDICT.iter_unpack(verdicts))[::-1]
    credited = _credited(merchant.credits)
    return _encode(
        Snapshot(
            *head,
            bytes(today - day for day, _, _ in told),
            _column([frauds for _, frauds, _ in told]),
            _column([known for _, _, known in told]),
            bytes(today - day for day in credited),
            _column(list(credited.values())),
        )
    )


def shared_risk(device: Merchant) -> bytes | None:
    """What workers are told of a device; `None` as long as one card alone uses it, of which that card knows.

    Where every payment comes with an id of its own, workers would hold all of those in vain.
    """
    if len(device.recent) > RECENT.size or device.verdicts or device.credits:
        return risk(device)
    return None


def _window(merchant: Merchant, start: int) -> Window:
    """Of the rows of minutes from `start` on."""
    rows = merchant.minutes[start:]
    if not rows:
        return _EMPTY
    _, payments, unpriced, described, small, verifications, refused, first, unusual, money = map(
        sum, zip(*TALLY.iter_unpack(rows), strict=True)
    )
    return Window(
        payments,
        count(merchant.cards[start // TALLY.size :]),
        small,
        verifications,
        refused,
        first,
        None if unpriced else min(money, MOST_MONEY),
        (unusual + described // 2) // described if described else None,
    )


def _cards(recent: bytes, today: int, back: list[int]) -> list[int]:
    """How many cards of `recent` were here last on each of the days, so many before today, as far as it goes back."""
    days, counts = column(recent, RECENT.size, 1), []
    end = len(days)
    for passed in back:
        if not end:
            break
        start = bisect_left(days, today - passed, 0, end)
        counts.append(end - start)
        end = start
    return counts


def _credited(credits: bytes) -> dict[int, int]:
    """How many cards were credited on a day for the last time, newest day first. What was taken back counts from the day it was."""
    last: dict[int, tuple[int, int]] = {}
    for card, day, net in CREDIT.iter_unpack(credits):
        frauds, before = last.get(card, (0, 0))
        last[card] = max(0, frauds + net), day if net > 0 else before
    days = sorted((day for frauds, day in last.values() if frauds), reverse=True)
    return {day: days.count(day) for day in days}


_CODES: Final = "BbHhIiQ"


def _column(numbers: list[int]) -> bytes:
    """As narrow as they allow: an array, and in front of it the letter of its type. Empty for none, or only zeros."""
    if not any(numbers):
        return b""
    for code in _CODES:
        try:
            return code.encode() + array(code, numbers).tobytes()
        except OverflowError:
            continue
    raise OverflowError("a sum beyond 64 bits")


def _numbers(packed: bytes) -> Sequence[int]:
    """What `_column` packed; none where that were only zeros."""
    if not packed or packed[0] == _UNSIGNED:
        return packed[1:]
    return array(chr(packed[0]), packed[1:])


_UNSIGNED: Final = ord("B")
"""Letter of a column of bytes."""


def has_credits(raw: bytes) -> bool:
    """Whether a risk counts credits, without reading it: they stand last, and mostly there are none."""
    return raw[-2:] != _NO_BYTES


_NO_BYTES: Final = msgspec.msgpack.encode(b"")


class Risk:
    """What is known of a merchant or device for a payment at `at`; where nothing is, every answer is `None`, or consists of that."""

    __slots__ = ("_at", "_snapshot")

    def __init__(self, raw: bytes | None, at: Millis) -> None:
        """`raw` is as `risk` wrote it. Raises `msgspec.DecodeError` otherwise."""
        self._snapshot = None if raw is None else _decode(raw)
        self._at = at

    @property
    def clock(self) -> Millis | None:
        """Time of the last payment here. `None` if there was none."""
        known = self._snapshot
        return None if known is None or known.clock == 0 else known.clock

    @property
    def is_clean(self) -> bool:
        """Whether something is known, but no fraud and no credit."""
        known = self._snapshot
        return known is not None and not known.told_back and not known.credits_back

    @property
    def ten_minutes(self) -> Window | None:
        """Payments of the ten minutes before the last one here; none if that is as long ago."""
        known = self._snapshot
        if known is None:
            return None
        return known.ten if self._at - known.clock < 10 * MINUTE_MS else _EMPTY

    @property
    def hour(self) -> Window | None:
        """Payments of the hour before the last one here; none if that is as long ago."""
        known = self._snapshot
        if known is None:
            return None
        if self._at - known.clock >= HOUR_MS:
            return _EMPTY
        return known.ten if known.hour is None else known.hour

    @property
    def seconds_since_last(self) -> float | None:
        """Since the last payment here; 0 if that was later. `None` if there was none."""
        known = self._snapshot
        return None if known is None or known.clock == 0 else max(0, self._at - known.clock) / 1000

    @property
    def age_days(self) -> float | None:
        """Since the first payment here; 0 if that was later. `None` if there was none."""
        known = self._snapshot
        return None if known is None or known.first == 0 else max(0, self._at - known.first) / DAY_MS

    # For each of `SPANS`, all at once: a column is unpacked for all of them together.

    @property
    def payments(self) -> Sequence[int | None]:
        """Within each of `SPANS`."""
        known = self._snapshot
        return _UNKNOWN if known is None else self._sums(known.back, known.payments)

    @property
    def cards(self) -> Sequence[int | None]:
        """Different ones that paid within each of `SPANS`; of more than the last 64 (at least so many, then) no more is known."""
        known = self._snapshot
        return _UNKNOWN if known is None else self._sums(known.back, known.cards)

    @property
    def unusual(self) -> Sequence[float | None]:
        """How unusual payments were for their cards: mean, per mille. `None` where it is known of no payment."""
        known = self._snapshot
        if known is None:
            return _UNKNOWN
        described = self._sums(known.back, known.payments if known.described is None else known.described)
        return [unusual / of if of else None for unusual, of in zip(self._sums(known.back, known.unusual), described, strict=True)]

    @property
    def frauds_delayed(self) -> Sequence[int | None]:
        """Confirmed frauds among the payments of as many days that end eight days before."""
        known = self._snapshot
        return _UNKNOWN if known is None else self._floored(known.frauds, MATURES_DAYS)

    @property
    def fraud_rates(self) -> Sequence[float | None]:
        """Their share of all payments of the same days, 0 to 1, smoothed: 0.005 while there are none."""
        known = self._snapshot
        if known is None:
            return _UNKNOWN
        payments, frauds = self._sums(known.back, known.payments, MATURES_DAYS), self._floored(known.frauds, MATURES_DAYS)
        return [min(1.0, (bad + PRIOR_FRAUDS) / (every + PRIOR_PAYMENTS)) for bad, every in zip(frauds, payments, strict=True)]

    @property
    def fraud_days(self) -> Sequence[int | None]:
        """Days since the first and since the last payment of 38 days that is confirmed as fraud, and how many came after that one.

        Those came at least eight days ago: most of them would be known as fraud by now. All are `None` where there is no fraud.
        """
        known = self._snapshot
        if known is None or not known.frauds:
            return _UNKNOWN
        passed = self._at // DAY_MS - known.today
        days = [back + passed for back, frauds in zip(known.told_back, _numbers(known.frauds), strict=True) if frauds > 0]
        days = [day for day in days if 0 <= day < RISK_DAYS]
        if not days:
            return _UNKNOWN
        last, back = days[0], known.back
        since = _numbers(known.payments)[bisect_left(back, MATURES_DAYS - passed) : bisect_left(back, last - passed)]
        return days[-1], last, sum(since)

    @property
    def fraud_shares(self) -> Sequence[float | None]:
        """Share of frauds among the last payments of 38 days that are eight days old, of whole days that hold each of `LASTS`, 0 to 1.

        Of fewer where there were no more; 0 where there were none.
        """
        known = self._snapshot
        if known is None:
            return _UNKNOWN
        passed, bad = self._at // DAY_MS - known.today, dict(zip(known.told_back, _numbers(known.frauds), strict=False))
        shares: list[float] = []
        share, payments, frauds = 0.0, 0, 0
        for back, number in zip(known.back, _numbers(known.payments), strict=False):
            if back + passed < MATURES_DAYS:
                continue
            if back + passed >= RISK_DAYS or len(shares) == len(LASTS):
                break
            payments, frauds = payments + number, frauds + bad.get(back, 0)
            share = min(1.0, max(0, frauds) / payments) if payments else 0.0
            shares += [share for last in LASTS[len(shares) :] if last <= payments]
        return shares + [share] * (len(LASTS) - len(shares))

    @property
    def frauds_known(self) -> Sequence[int | None]:
        """Frauds that became known within each of `SPANS`, whenever they were; less those taken back."""
        known = self._snapshot
        return _UNKNOWN if known is None else self._floored(known.known)

    @property
    def credits(self) -> Sequence[int | None]:
        """Different cards that were used here in the 30 days before a fraud elsewhere, one that became known within each of `SPANS`.

        At least so many, where it is 256.
        """
        known = self._snapshot
        return _UNKNOWN if known is None else self._sums(known.credits_back, known.credits)

    def _floored(self, packed: bytes, youngest: int = 0) -> Sequence[int]:
        """Of what was told, which may have been taken back."""
        known = self._snapshot
        assert known is not None
        return [max(0, each) for each in self._sums(known.told_back, packed, youngest)] if packed else _NONE

    def _sums(self, back: bytes, packed: bytes, youngest: int = 0) -> Sequence[int]:
        """Over the last days of each of `SPANS`, the last of them `youngest` days before the payment's."""
        if not packed:
            return _NONE
        known = self._snapshot
        assert known is not None
        first = youngest - self._at // DAY_MS + known.today
        numbers = _numbers(packed)
        start, total, sums = bisect_left(back, first), 0, []
        for days in SPANS:
            end = bisect_left(back, first + days, start)
            total += sum(numbers[start:end])
            sums.append(total)
            start = end
        return sums


_UNKNOWN: Final = (None,) * len(SPANS)
_NONE: Final = (0,) * len(SPANS)
