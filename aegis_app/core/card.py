"""What is remembered about a card: a pure fold of its payments and of what was decided about them.

`learn(card, ...)` gives the next memory and leaves the old one alone. Columns are packed bytes, because thousands of cards a
second are read and written; sums are fixed-point integers, so that they can be taken back exactly. The whole stays below
8 KiB. Layout: a MessagePack array that only ever grows at its end, so every older layout reads with defaults.
"""

from array import array
from bisect import bisect_left
from functools import cache
from math import log
from struct import Struct as Packed
from typing import Final

import msgspec
from msgspec import Struct
from xxhash import xxh3_64_digest, xxh32_digest, xxh32_intdigest

from aegis_app.core.attempts import REFUSED, SMALL, add
from aegis_app.core.payment import GIVES_BACK, Kind, Millis, Outcome, Transaction, encode_transaction, exponent

LAYOUT: Final = 1
AHEAD_MS: Final = 5 * 60_000
"""A payment further ahead of its Kafka record than this does not advance the card's clock."""
DAY_MS: Final = 86_400_000
LOG_UNIT: Final = 1 << 20
"""Fixed point of sums of logarithms."""

MOST_DAYS: Final = 31
MOST_PLACES: Final = 4
MOST_MERCHANTS: Final = 48
MOST_DEVICES: Final = 8
MOST_COUNTRIES: Final = 12
RING: Final = 32

PLACE: Final = Packed("<qii")
"""Time in milliseconds, latitude and longitude in millionths of a degree."""
RULING: Final = Packed("<IBdQ")
"""Hash of the content, outcome and verdict, score (NaN: none), reason codes as bits."""

_OUTCOMES: Final = tuple(Outcome)
_ONE: Final = (1).to_bytes(4, "little")


class Settled(Struct, frozen=True, gc=False):
    """What memory keeps of a ruling: enough to answer a repeated payment as before. `codes` is a set of bits."""

    outcome: Outcome
    verdict: Outcome
    score: float | None
    codes: int


class Card(Struct, frozen=True, array_like=True, gc=False):
    """Memory of one card. `seen` is the last offset learnt from each of `topics.SOURCES`, -1 for none."""

    layout: int = LAYOUT
    seen: tuple[int, int, int] = (-1, -1, -1)
    clock: Millis = 0
    times: bytes = b""
    marks: bytes = b""
    buckets: bytes = b""
    days: bytes = b""
    """UTC days since the epoch, sorted uint16; `day_counts` holds the attempts on each, uint32."""
    day_counts: bytes = b""
    places: bytes = b""
    habit: int = 0
    """Payments that habit was learnt from."""
    currency: str = ""
    """The one that habit's amounts are in: that of the first payment."""
    amounts: int = 0
    sum_log: int = 0
    sum_log_squared: int = 0
    largest: int = 0
    merchants: bytes = b""
    devices: bytes = b""
    countries: bytes = b""
    ring_ids: bytes = b""
    ring: bytes = b""


BLANK: Final = Card()

encode_card: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Card).decode


class Stamp(Struct, frozen=True, array_like=True, gc=False):
    """The head of an encoded card, for those who need not read the rest."""

    layout: int
    seen: tuple[int, int, int]
    clock: Millis


decode_stamp: Final = msgspec.msgpack.Decoder(Stamp).decode


class LayoutError(ValueError):
    """A card was written by a newer version of Aegis."""


def decode_card(raw: bytes) -> Card:
    """Read a card as `encode_card` wrote it, in this layout or an older one."""
    card = _decode(raw)
    if card.layout > LAYOUT:
        raise LayoutError(f"this card has layout {card.layout}, this version reads up to {LAYOUT}: update Aegis first")
    return card


def recall(card: Card, at: Millis, written: Millis, ttl: Millis) -> Card:
    """The card as it counts for a payment at `at`: what idled for longer than `ttl` is forgotten, but not what was done.

    A time ahead of `written`, when the payment's record was, makes nothing idle.
    """
    return card if min(at, written + AHEAD_MS) - card.clock <= ttl or card is BLANK else Card(seen=card.seen, clock=card.clock)


def fingerprint(text: str) -> bytes:
    """Four bytes that stand for a merchant or a device in a small set."""
    return xxh32_digest(text.encode())


def _hash(transaction_id: str) -> bytes:
    return xxh3_64_digest(transaction_id.encode())


def find(column: bytes, item: bytes) -> int:
    """Where `item` stands in a column of items of its length, or -1."""
    width = len(item)
    at = column.find(item)
    while at >= 0 and at % width:
        at = column.find(item, at + 1)
    return at


def content_hash(txn: Transaction) -> int:
    """Tells two payments with one transaction_id apart; 32 bits."""
    return xxh32_intdigest(encode_transaction(txn))


def settled(card: Card, transaction_id: str) -> tuple[Settled, int] | None:
    """What was decided about an earlier payment of this id, with its content's hash, among the card's last 32."""
    at = find(card.ring_ids, _hash(transaction_id))
    if at < 0:
        return None
    content, ranks, score, codes = RULING.unpack_from(card.ring, at // 8 * RULING.size)
    return (
        Settled(_OUTCOMES[ranks & 3], _OUTCOMES[ranks >> 2], None if score != score else score, codes),
        content,
    )


def skip(card: Card, source: int, offset: int) -> Card:
    """Note that a record was dealt with and taught nothing."""
    return msgspec.structs.replace(card, seen=_advance(card.seen, source, offset))


def learn(card: Card, txn: Transaction, settled: Settled, written: Millis, source: int, offset: int) -> Card:
    """The memory after `txn`, about which `settled` was decided; `written` is the time of its Kafka record."""
    at = txn.at
    clock = max(card.clock, at) if at - written <= AHEAD_MS else card.clock or written
    ring_ids = card.ring_ids + _hash(txn.transaction_id)
    ring = card.ring + RULING.pack(
        content_hash(txn),
        _OUTCOMES.index(settled.outcome) | _OUTCOMES.index(settled.verdict) << 2,
        float("nan") if settled.score is None else settled.score,
        settled.codes,
    )
    seen = _advance(card.seen, source, offset)
    ring_ids, ring = ring_ids[-RING * 8 :], ring[-RING * RULING.size :]
    if txn.kind in GIVES_BACK:
        return msgspec.structs.replace(card, seen=seen, clock=clock, ring_ids=ring_ids, ring=ring)
    allowed = settled.verdict is Outcome.ALLOW
    mark = (SMALL if is_small(txn) else 0) | (0 if allowed else REFUSED)
    times, marks, buckets = add(card.times, card.marks, card.buckets, clock, at, mark)
    days, day_counts = _add_day(card.days, card.day_counts, clock // DAY_MS, at // DAY_MS)
    if not allowed:
        return msgspec.structs.replace(
            card,
            seen=seen,
            clock=clock,
            times=times,
            marks=marks,
            buckets=buckets,
            days=days,
            day_counts=day_counts,
            ring_ids=ring_ids,
            ring=ring,
        )
    places = card.places
    if txn.latitude is not None and txn.longitude is not None and txn.is_card_present:
        places = _add_place(places, at, txn.latitude, txn.longitude)
    currency = card.currency or txn.currency
    amounts, sum_log, sum_log_squared, largest = card.amounts, card.sum_log, card.sum_log_squared, card.largest
    if txn.amount_minor > 0 and txn.currency == currency:
        step = log(txn.amount_minor)
        amounts += 1
        sum_log += round(step * LOG_UNIT)
        sum_log_squared += round(step * step * LOG_UNIT)
        largest = max(largest, txn.amount_minor)
    return Card(
        LAYOUT,
        seen,
        clock,
        times,
        marks,
        buckets,
        days,
        day_counts,
        places,
        card.habit + 1,
        currency,
        amounts,
        sum_log,
        sum_log_squared,
        largest,
        _remember(card.merchants, txn.merchant_id, MOST_MERCHANTS),
        _remember(card.devices, txn.device_id, MOST_DEVICES),
        card.countries if txn.country is None else _move_last(card.countries, txn.country.encode(), MOST_COUNTRIES),
        ring_ids,
        ring,
    )


def is_small(txn: Transaction) -> bool:
    """Whether `txn` looks like a test of the card: a verification, or at most two whole units of its currency."""
    return txn.amount_minor <= _small(txn.currency) or txn.kind is Kind.VERIFICATION


@cache
def _small(currency: str) -> int:
    return 2 * int(10 ** exponent(currency))


def _advance(seen: tuple[int, int, int], source: int, offset: int) -> tuple[int, int, int]:
    first, second, third = seen
    if source == 0:
        return offset, second, third
    return (first, offset, third) if source == 1 else (first, second, offset)


def _remember(column: bytes, name: str | None, most: int) -> bytes:
    return column if name is None else _move_last(column, fingerprint(name), most)


def _move_last(column: bytes, item: bytes, most: int) -> bytes:
    """`column` with `item` at its end, once; the one used longest ago goes where there are too many."""
    if column.endswith(item):
        return column
    at, width = find(column, item), len(item)
    if at >= 0:
        return column[:at] + column[at + width :] + item
    return (column + item)[-most * width :]


def _add_day(days: bytes, counted: bytes, today: int, day: int) -> tuple[bytes, bytes]:
    if day <= today - MOST_DAYS:
        return days, counted
    last = int.from_bytes(days[-2:], "little") if days else -1
    if day == last:
        return days, counted[:-4] + (int.from_bytes(counted[-4:], "little") + 1).to_bytes(4, "little")
    if day > last:
        days, counted = days + day.to_bytes(2, "little"), counted + _ONE
    else:
        column, numbers = array("H", days), array("I", counted)
        place = bisect_left(column, day)
        if column[place] == day:
            numbers[place] += 1
        else:
            column.insert(place, day)
            numbers.insert(place, 1)
        days, counted = column.tobytes(), numbers.tobytes()
    while int.from_bytes(days[:2], "little") <= today - MOST_DAYS or len(days) > 2 * MOST_DAYS:
        days, counted = days[2:], counted[4:]
    return days, counted


def _add_place(places: bytes, at: Millis, latitude: float, longitude: float) -> bytes:
    place = PLACE.pack(at, round(latitude * 1e6), round(longitude * 1e6))
    if not places or PLACE.unpack_from(places, len(places) - PLACE.size)[0] <= at:
        return (places + place)[-MOST_PLACES * PLACE.size :]
    kept = sorted([*PLACE.iter_unpack(places), PLACE.unpack(place)])
    return b"".join(PLACE.pack(*each) for each in kept[-MOST_PLACES:])
