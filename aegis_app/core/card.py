"""What is remembered about a card: a pure fold of its payments and of what was decided about them.

`learn(card, ...)` gives the next memory and leaves the old one alone. Columns are packed bytes, because thousands of cards a
second are read and written. The whole stays below 8 KiB. Layout: MessagePack arrays that only ever grow at their ends, so that
values written before read with defaults.
"""

from struct import Struct as Packed
from typing import Final

import msgspec
from msgspec import Struct
from xxhash import xxh3_64_digest, xxh32_intdigest

from aegis_app.core import attempts, days, habit
from aegis_app.core.attempts import Attempts
from aegis_app.core.case import Case
from aegis_app.core.days import Days
from aegis_app.core.habit import Habit
from aegis_app.core.payment import ALLOW, BLOCK, DAY_MS, GIVES_BACK, MINUTE_MS, Millis, Outcome, Transaction, encode_transaction
from aegis_app.core.uses import find

LAYOUT: Final = 2
AHEAD_MS: Final = 5 * MINUTE_MS
"""A payment further ahead of its Kafka record than this advances the card's clock to the record's time only."""
RING: Final = 32
RULING: Final = Packed("<IBdQ")
"""Hash of the content, outcome and verdict, score (NaN: none), reason codes as bits."""

_OUTCOMES: Final = tuple(Outcome)


class Settled(Struct, frozen=True, gc=False):
    """What memory keeps of a ruling: enough to answer a repeated payment as before. `codes` is a set of bits."""

    outcome: Outcome
    verdict: Outcome
    score: float | None
    codes: int


class Ring(Struct, frozen=True, array_like=True, gc=False):
    """The last 32 payments, of whatever kind: packed hashes of their ids, and a `RULING` each."""

    ids: bytes = b""
    rulings: bytes = b""


class Card(Struct, frozen=True, array_like=True, gc=False):
    """Memory of one card. `seen` is the last offset learnt from each of `topics.SOURCES`, -1 for none."""

    layout: int = LAYOUT
    seen: tuple[int, int, int] = (-1, -1, -1)
    clock: Millis = 0
    """The latest time of a payment; of one ahead of its record, that of the record."""
    first: Millis = 0
    """Of the payment that came first; 0 for none."""
    attempts: Attempts = Attempts()
    days: Days = Days()
    habit: Habit = habit.NONE
    ring: Ring = Ring()


BLANK: Final = Card()

encode_card: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Card).decode


class Stamp(Struct, frozen=True, array_like=True, gc=False):
    """The head of an encoded card, in every layout, for those who need not read the rest."""

    layout: int
    seen: tuple[int, int, int]
    clock: Millis


decode_stamp: Final = msgspec.msgpack.Decoder(Stamp).decode


class LayoutError(ValueError):
    """A card was written by a newer version of Aegis."""


def decode_card(raw: bytes) -> Card:
    """Read a card as `encode_card` wrote it, in this layout or an older one."""
    try:
        card = _decode(raw)
    except msgspec.ValidationError:
        if decode_stamp(raw).layout != 1:
            raise
        from aegis_app.core.layout_1 import read  # seldom: each card is written anew at its next payment

        return read(raw)
    if card.layout > LAYOUT:
        raise LayoutError(f"this card has layout {card.layout}, this version reads up to {LAYOUT}: update Aegis first")
    return card


def recall(card: Card, at: Millis, written: Millis, ttl: Millis) -> Card:
    """The card as it counts for a payment at `at`: what idled for longer than `ttl` is forgotten, but not what was done.

    A time ahead of `written`, when the payment's record was, makes nothing idle.
    """
    return card if min(at, written + AHEAD_MS) - card.clock <= ttl or card is BLANK else Card(seen=card.seen, clock=card.clock)


def content_hash(txn: Transaction) -> int:
    """Tells two payments with one transaction_id apart; 32 bits."""
    return xxh32_intdigest(encode_transaction(txn))


def _hash(transaction_id: str) -> bytes:
    return xxh3_64_digest(transaction_id.encode())


def settled(card: Card, transaction_id: str) -> tuple[Settled, int] | None:
    """What was decided about an earlier payment of this id, with its content's hash, among the card's last 32."""
    at = find(card.ring.ids, _hash(transaction_id), 8)
    if at < 0:
        return None
    content, ranks, score, codes = RULING.unpack_from(card.ring.rulings, at // 8 * RULING.size)
    return (
        Settled(_OUTCOMES[ranks & 3], _OUTCOMES[ranks >> 2], None if score != score else score, codes),
        content,
    )


def skip(card: Card, source: int, offset: int) -> Card:
    """Note that a record was dealt with and taught nothing."""
    return msgspec.structs.replace(card, seen=_advance(card.seen, source, offset))


def learn(card: Card, case: Case, settled: Settled, source: int, offset: int) -> Card:
    """The memory after a payment about which `settled` was decided."""
    txn, at = case.txn, case.at
    clock = max(card.clock, at if at - case.written <= AHEAD_MS else case.written)
    ruling = RULING.pack(
        content_hash(txn),
        _OUTCOMES.index(settled.outcome) | _OUTCOMES.index(settled.verdict) << 2,
        float("nan") if settled.score is None else settled.score,
        settled.codes,
    )
    ring = Ring((card.ring.ids + _hash(txn.transaction_id))[-RING * 8 :], (card.ring.rulings + ruling)[-RING * RULING.size :])
    seen, first = _advance(card.seen, source, offset), card.first if card.first > 0 else at
    if txn.kind in GIVES_BACK:
        return Card(LAYOUT, seen, clock, first, card.attempts, card.days, card.habit, ring)
    return Card(
        LAYOUT,
        seen,
        clock,
        first,
        attempts.add(card.attempts, clock, case, settled.verdict is BLOCK),
        days.add(card.days, clock // DAY_MS, at // DAY_MS, case.amount),
        habit.learn(card.habit, case, clock) if settled.verdict is ALLOW else card.habit,
        ring,
    )


def _advance(seen: tuple[int, int, int], source: int, offset: int) -> tuple[int, int, int]:
    first, second, third = seen
    if source == 0:
        return offset, second, third
    return (first, offset, third) if source == 1 else (first, second, offset)
