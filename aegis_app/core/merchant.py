"""What is remembered about a merchant, or in the same way about a device: whatever many cards come to.

A pure fold of events, byte for byte the same in whatever order records of different source partitions come: every number is whole,
every table is a set of rows in the order of their keys, and what goes for want of space is what any order would have let go.

Windows count whole minutes, and the minute in which they begin: never below the truth. Nothing here grows without bounds: with
all 61 minutes, 120 days, 64 cards and 256 credits held it takes less than 24 KiB, and 27 bytes for each source partition.
"""

from array import array
from bisect import bisect_left, insort
from collections.abc import Sequence
from struct import Struct as Packed
from typing import Final

import msgspec
from msgspec import Struct

from aegis_app.core.card import LayoutError
from aegis_app.core.distinct import add
from aegis_app.core.encoding import KINDS
from aegis_app.core.merchant_events import Credited, Events, Labelled, Paid
from aegis_app.core.payment import DAY_MS, MINUTE_MS, Kind, Millis
from aegis_app.core.rows import Rows
from aegis_app.core.uses import find

LAYOUT: Final = 1
MOST_MINUTES: Final = 61
"""The minutes that a window of an hour touches."""
MOST_DAYS: Final = 120
RISK_DAYS: Final = 38
"""Days that workers are told about: 30 that end a week before today."""
MOST_RECENT: Final = 64
MOST_CREDITS: Final = 256

TALLY: Final = Packed("<IIIIIIIIQQ")
"""A row of `minutes` and `days`: minute or day since the epoch, payments, those without a rate, those whose unusualness is known,
small ones, verifications, refused ones (the verdict is not `allow`), first ones of a card; unusualness in per mille, and money."""
TALLIES: Final = Rows(key=4, width=TALLY.size)
VERDICT: Final = Packed("<Iii")
"""A row of `verdicts`: day, frauds among its payments, and frauds that became known on it, whenever they were."""
VERDICTS: Final = Rows(key=4, width=VERDICT.size)
RECENT: Final = Packed("<II")
"""A row of `recent`: card, and the day of its last payment; by day."""
CREDIT: Final = Packed("<IIq")
"""A row of `credits`: card, day, and frauds of the card that became known on the day, less those taken back; by day."""
CREDITS: Final = Rows(key=8, width=CREDIT.size)

MOST_MONEY: Final = 2**64 - 1
"""A sum stays there."""
_MONEY: Final = 8 * (TALLY.size - 8)
"""The bit of a row where it begins."""
_BELOW_MONEY: Final = (1 << _MONEY) - 1
_FULL: Final = (1 << 8 * TALLY.size) - 1
_VERIFICATION: Final = KINDS[Kind.VERIFICATION]

Seen = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class Stamp(Struct, frozen=True, array_like=True, gc=False):
    """The head of an encoded memory, in every layout, for those who need not read the rest."""

    layout: int = LAYOUT
    seen: Seen = ((), (), ())
    """The last offset folded of each of `topics.SOURCES`, by partition; -1 for none."""
    clock: Millis = 0
    """Of the latest payment; 0 for none."""
    latest: Millis = 0
    """The latest time of anything, labels too: days are counted back from there."""


class Merchant(Stamp, frozen=True, array_like=True, gc=False):
    """Memory of one merchant or device, in packed tables."""

    first: Millis = 0
    """Of the earliest payment; 0 for none."""
    minutes: bytes = b""
    """`TALLY` of the last 61 minutes before `clock`."""
    cards: tuple[bytes, ...] = ()
    """Different cards of each of those minutes, as in `distinct`."""
    days: bytes = b""
    """`TALLY` of the last 120 UTC days."""
    verdicts: bytes = b""
    """`VERDICT` of the last 120 days."""
    recent: bytes = b""
    """`RECENT` of the last 64 cards within 38 days. Cards of a day are not kept otherwise: exactly, those of a shop with twenty a day
    would take more than all the rest, and a sketch a day, at 110 bytes, as much as this for good. First ones are counted by day."""
    credits: bytes = b""
    """`CREDIT` within 38 days, the last 256."""


BLANK: Final = Merchant()

encode_merchant: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Merchant).decode
decode_stamp: Final = msgspec.msgpack.Decoder(Stamp).decode


def decode_merchant(raw: bytes) -> Merchant:
    """Read a memory as `encode_merchant` wrote it. Raises `LayoutError` where a newer Aegis did."""
    merchant = _decode(raw)
    if merchant.layout > LAYOUT:
        raise LayoutError(f"this merchant or device has layout {merchant.layout}, this version reads up to {LAYOUT}: update Aegis first")
    return merchant


def last_seen(stamp: Stamp, source: int, partition: int) -> int:
    """The last offset folded of a source's partition; -1 for none."""
    offsets = stamp.seen[source]
    return offsets[partition] if partition < len(offsets) else -1


def fold(memory: Merchant | None, events: Events) -> Merchant:
    """The memory after a record; of what it holds, only offsets beyond the last one folded of its source's partition teach anything."""
    merchant = BLANK if memory is None else memory
    last = last_seen(merchant, events.source, events.partition)
    fresh = [event for event in events.events if event.offset > last]
    if not fresh:
        return merchant
    paid = [event for event in fresh if type(event) is Paid]
    labelled = [event for event in fresh if type(event) is Labelled]
    credited = [event for event in fresh if type(event) is Credited]
    times = [event.at for event in paid]
    clock = max(merchant.clock, *times) if times else merchant.clock
    told = [max(event.at, event.labelled_at) for event in labelled] + [event.labelled_at for event in credited]
    latest = max(merchant.latest, clock, *told)
    today = latest // DAY_MS
    tallied = [(event, _tally(event)) for event in paid]
    minutes, cards = _minutes(merchant, clock // MINUTE_MS, tallied)
    return Merchant(
        LAYOUT,
        _advance(merchant.seen, events.source, events.partition, max(event.offset for event in fresh)),
        clock,
        latest,
        min([merchant.first, *times] if merchant.first else times, default=0),
        minutes,
        cards,
        _days(merchant.days, today, tallied),
        _verdicts(merchant.verdicts, today, labelled),
        _recent(merchant.recent, today, paid),
        _credits(merchant.credits, today, credited),
    )


def _advance(seen: Seen, source: int, partition: int, offset: int) -> Seen:
    offsets = list(seen[source])
    offsets += [-1] * (partition + 1 - len(offsets))
    offsets[partition] = offset
    first, second, third = seen
    if source == 0:
        return tuple(offsets), second, third
    return (first, tuple(offsets), third) if source == 1 else (first, second, tuple(offsets))


def _tally(event: Paid) -> int:
    """A row for one payment, all of it one whole number; such add up, and no field of it runs over into the next."""
    known, priced = event.unusual is not None, event.amount is not None
    packed = TALLY.pack(
        0,
        1,
        not priced,
        known,
        event.small,
        event.kind == _VERIFICATION,
        event.verdict > 0,
        event.first,
        event.unusual if known else 0,
        event.amount if priced else 0,
    )
    return int.from_bytes(packed, "little")


def _add(rows: bytearray, key: int, tally: int) -> int:
    """Add to the row of `key`; where that starts."""
    start = TALLIES.row(rows, key)
    total = int.from_bytes(rows[start : start + TALLY.size], "little") + tally
    if total > _FULL:  # money, at the top, stays at its most
        total = total & _BELOW_MONEY | MOST_MONEY << _MONEY
    rows[start : start + TALLY.size] = total.to_bytes(TALLY.size, "little")
    return start


def _minutes(merchant: Merchant, now: int, paid: Sequence[tuple[Paid, int]]) -> tuple[bytes, tuple[bytes, ...]]:
    gone = TALLIES.since(merchant.minutes, now - MOST_MINUTES + 1)
    rows, cards = bytearray(merchant.minutes[gone:]), list(merchant.cards[gone // TALLY.size :])
    came: dict[int, list[int]] = {}
    for event, tally in paid:
        minute = event.at // MINUTE_MS
        if minute > now - MOST_MINUTES:
            start = _add(rows, minute, tally)
            if len(cards) * TALLY.size < len(rows):
                cards.insert(start // TALLY.size, b"")
            came.setdefault(minute, []).append(event.card)
    for minute, hashes in came.items():
        place = TALLIES.since(rows, minute) // TALLY.size
        cards[place] = add(cards[place], hashes)
    return bytes(rows), tuple(cards)


def _days(days: bytes, today: int, paid: Sequence[tuple[Paid, int]]) -> bytes:
    rows = bytearray(_since(TALLIES, days, today - MOST_DAYS + 1))
    for event, tally in paid:
        day = event.at // DAY_MS
        if day > today - MOST_DAYS:
            _add(rows, day, tally)
    return bytes(rows)


def _since(table: Rows, rows: bytes, key: int) -> bytes:
    start = table.since(rows, key)
    return rows[start:] if start else rows


def _verdicts(verdicts: bytes, today: int, labelled: Sequence[Labelled]) -> bytes:
    kept = _since(VERDICTS, verdicts, today - MOST_DAYS + 1)
    if not labelled:
        return kept
    rows = bytearray(kept)
    for event in labelled:
        for day, frauds, known in ((event.at // DAY_MS, event.change, 0), (event.labelled_at // DAY_MS, 0, event.change)):
            if day > today - MOST_DAYS:
                start = VERDICTS.row(rows, day)
                key, before, known_before = VERDICT.unpack_from(rows, start)
                VERDICT.pack_into(rows, start, key, before + frauds, known_before + known)
    return bytes(rows)


def _recent(recent: bytes, today: int, paid: Sequence[Paid]) -> bytes:
    rows = array("Q", recent)  # a row is one whole number, and those are in order
    del rows[: bisect_left(rows, _from(today - RISK_DAYS + 1))]
    for event in paid:
        day = event.at // DAY_MS
        if day > today - RISK_DAYS:
            start = find(rows.tobytes(), event.card.to_bytes(4, "little"), RECENT.size)
            if start >= 0:
                if rows[start // RECENT.size] >= _from(day):
                    continue
                del rows[start // RECENT.size]
            insort(rows, event.card | _from(day))
            if len(rows) > MOST_RECENT:
                del rows[0]
    return rows.tobytes()


def _credits(credits: bytes, today: int, credited: Sequence[Credited]) -> bytes:
    kept = _since(CREDITS, credits, _from(today - RISK_DAYS + 1))
    if not credited:
        return kept
    rows = bytearray(kept)
    for event in credited:
        day = event.labelled_at // DAY_MS
        if day > today - RISK_DAYS:
            start = CREDITS.row(rows, event.card | _from(day))
            card, key, net = CREDIT.unpack_from(rows, start)
            CREDIT.pack_into(rows, start, card, key, net + event.change)
            if len(rows) > MOST_CREDITS * CREDIT.size:
                del rows[: CREDIT.size]
    return bytes(rows)


def _from(day: int) -> int:
    """The key of the first card of a day."""
    return max(0, day) << 32
