"""What is remembered about a card: a pure fold of its payments, of what was decided about them, and of what was said afterwards.

`learn(card, ...)` and `believe(card, ...)` give the next memory and leave the old one alone. Columns are packed bytes, because
thousands of cards a second are read and written. The whole stays below 8 KiB. Layout: MessagePack arrays that only ever grow at their
ends, so that values written before read with defaults.

A payment that was confirmed as fraud is taken out of habit as far as the ring still holds it (see `lesson`). Labels come on a topic of
their own, so payments and labels may come in any order: as long as the ring holds the payment, memory ends up the same to the byte.
"""

from struct import Struct as Packed
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from xxhash import xxh3_64_digest, xxh32_intdigest

from aegis_app.core import attempts, days, habit
from aegis_app.core.attempts import Attempts
from aegis_app.core.case import Case
from aegis_app.core.days import Days
from aegis_app.core.habit import LESSON, Habit
from aegis_app.core.lesson import NOTHING, amount_of, put_back, take_out
from aegis_app.core.payment import ALLOW, BLOCK, DAY_MS, GIVES_BACK, MINUTE_MS, Millis, Outcome, Transaction, encode_transaction
from aegis_app.core.reported import Report
from aegis_app.core.uses import find
from aegis_app.core.verdicts import OUT, Verdict, put, unpack, verdict_on
from aegis_app.core.visited import visit

LAYOUT: Final = 3
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
    """The last 32 payments, of whatever kind: packed hashes of their ids, a `RULING` and a `LESSON` each.

    Those that an older version learnt, at the front, have no lesson.
    """

    ids: bytes = b""
    rulings: bytes = b""
    lessons: bytes = b""


class Card(Struct, frozen=True, array_like=True, gc=False):
    """Memory of one card. `seen` is the last offset learnt from each of `topics.SOURCES`, -1 for none."""

    layout: int = LAYOUT
    seen: tuple[int, int, int] = (-1, -1, -1)
    clock: Millis = 0
    """The latest time of a payment; of one ahead of its record, that of the record."""
    first: Millis = 0
    """Time of the earliest payment, also of one that came later, as past ones do; 0 for none."""
    attempts: Attempts = Attempts()
    days: Days = Days()
    habit: Habit = habit.NONE
    ring: Ring = Ring()
    verdicts: bytes = b""
    visited: bytes = b""
    reports: tuple[Report, ...] = ()


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
        from aegis_app.core import layout_1  # seldom: each card is written anew at its next payment

        return layout_1.read(raw)
    if card.layout == LAYOUT:
        return card
    if card.layout > LAYOUT:
        raise LayoutError(f"this card has layout {card.layout}, this version reads up to {LAYOUT}: update Aegis first")
    from aegis_app.core import layout_2

    return layout_2.read(card)


def recall(card: Card, at: Millis, written: Millis, ttl: Millis) -> Card:
    """The card as it counts for a payment at `at`: what idled for longer than `ttl` is forgotten, but not what was done, nor verdicts
    as long as one of them is younger.

    A time ahead of `written`, when the payment's record was, makes nothing idle.
    """
    now = min(at, written + AHEAD_MS)
    if now - card.clock <= ttl or card is BLANK:
        return card
    if _are_old(card.verdicts, now, ttl):  # so it makes no difference whether a sweep came by
        return Card(seen=card.seen, clock=card.clock)
    return Card(seen=card.seen, clock=card.clock, verdicts=card.verdicts, reports=card.reports)


def is_idle(raw: bytes, now: Millis, ttl: Millis) -> bool:
    """Whether an encoded card has seen no payment for longer than `ttl`, and heard no verdict."""
    if now - decode_stamp(raw).clock <= ttl:
        return False
    return _are_old(decode_card(raw).verdicts, now, ttl)


def _are_old(verdicts: bytes, now: Millis, ttl: Millis) -> bool:
    return all(now - verdict.known_at > ttl for verdict in unpack(verdicts))


def content_hash(txn: Transaction) -> int:
    """Tells two payments with one transaction_id apart; 32 bits."""
    return xxh32_intdigest(encode_transaction(txn))


def id_hash(transaction_id: str) -> bytes:
    """Stands for a payment in ring and verdicts; 8 bytes."""
    return xxh3_64_digest(transaction_id.encode())


def settled(card: Card, transaction_id: str) -> tuple[Settled, int] | None:
    """What was decided about an earlier payment of this id, with its content's hash, among the card's last 32."""
    at = find(card.ring.ids, id_hash(transaction_id), 8)
    if at < 0:
        return None
    content, ranks, score, codes = RULING.unpack_from(card.ring.rulings, at // 8 * RULING.size)
    return (
        Settled(_OUTCOMES[ranks & 3], _OUTCOMES[ranks >> 2], None if score != score else score, codes),
        content,
    )


def holds(card: Card, payment: bytes) -> bool:
    """Whether a payment, by the hash of its id, is among the card's last 32."""
    return find(card.ring.ids, payment, 8) >= 0


def skip(card: Card, source: int, offset: int) -> Card:
    """Note that a record was dealt with and taught nothing."""
    return replace(card, seen=_advance(card.seen, source, offset))


def learn(card: Card, case: Case, settled: Settled, source: int, offset: int) -> Card:
    """The memory after a payment about which `settled` was decided."""
    txn, at = case.txn, case.at
    clock = max(card.clock, at if at - case.written <= AHEAD_MS else case.written)
    ruling = _packed(txn, settled)
    payment = id_hash(txn.transaction_id)
    seen, first = _advance(card.seen, source, offset), card.first if 0 < card.first < at else at
    known = _passing(card)
    if txn.kind in GIVES_BACK:
        ring = _turned(card.ring, payment, ruling, NOTHING)
        return Card(LAYOUT, seen, clock, first, card.attempts, card.days, known, ring, card.verdicts, card.visited, card.reports)
    taught, visited = NOTHING, card.visited
    if settled.verdict is ALLOW:
        when = min(at, clock)  # one ahead of the card's clock counts as of now
        known, taught = habit.learn(known, case, when, payment)
        if txn.merchant_id is not None:
            visited = visit(visited, txn.merchant_id, when)
    learnt = Card(
        LAYOUT,
        seen,
        clock,
        first,
        attempts.add(card.attempts, clock, case, settled.verdict is BLOCK),
        days.add(card.days, clock // DAY_MS, at // DAY_MS, case.amount),
        known,
        _turned(card.ring, payment, ruling, taught),
        card.verdicts,
        visited,
        card.reports,
    )
    verdict = verdict_on(card.verdicts, payment) if card.verdicts and taught is not NOTHING else None
    return learnt if verdict is None else believe(learnt, verdict._replace(marks=verdict.marks & ~OUT))


def overrule(card: Card, txn: Transaction, settled: Settled) -> Card:
    """A payment among the card's last 32 is answered by `settled` from now on; what it taught stays."""
    at = find(card.ring.ids, id_hash(txn.transaction_id), 8) // 8 * RULING.size
    rulings = card.ring.rulings
    return replace(card, ring=replace(card.ring, rulings=rulings[:at] + _packed(txn, settled) + rulings[at + RULING.size :]))


def _packed(txn: Transaction, settled: Settled) -> bytes:
    return RULING.pack(
        content_hash(txn),
        _OUTCOMES.index(settled.outcome) | _OUTCOMES.index(settled.verdict) << 2,
        float("nan") if settled.score is None else settled.score,
        settled.codes,
    )


def believe(card: Card, verdict: Verdict) -> Card:
    """The memory after `verdict`: its payment goes out of habit where it is fraud, and back where it is none after all."""
    taught = _lesson_of(card.ring, verdict.payment)
    if taught == NOTHING or verdict.is_fraud is verdict.is_out:
        return replace(card, verdicts=put(card.verdicts, verdict))
    change = take_out if verdict.is_fraud else put_back
    known, verdicts = change(card.habit, taught, verdict.payment), put(card.verdicts, verdict._replace(marks=verdict.marks ^ OUT))
    return replace(card, habit=replace(known, largest=_largest(known, card.ring, verdicts)), verdicts=verdicts)


def _turned(ring: Ring, payment: bytes, ruling: bytes, lesson: bytes) -> Ring:
    """The ring with a payment more, and the oldest gone where it was full."""
    return Ring(
        (ring.ids + payment)[-RING * 8 :],
        (ring.rulings + ruling)[-RING * RULING.size :],
        (ring.lessons + lesson)[-RING * LESSON.size :],
    )


def _passing(card: Card) -> Habit:
    """The habit once the ring has let go of its oldest payment, if it is full."""
    lessons, known = card.ring.lessons, card.habit
    if len(lessons) < RING * LESSON.size or (amount := amount_of(lessons)) <= known.largest_before:
        return known
    verdict = verdict_on(card.verdicts, card.ring.ids[:8])
    return known if verdict is not None and verdict.is_out else replace(known, largest_before=amount)


def _lesson_of(ring: Ring, payment: bytes) -> bytes:
    """What a payment taught; `NOTHING` too where the ring does not hold it."""
    at = find(ring.ids, payment, 8)
    begin = len(ring.lessons) - (len(ring.ids) - at) // 8 * LESSON.size
    return NOTHING if at < 0 or begin < 0 else ring.lessons[begin : begin + LESSON.size]


def _largest(known: Habit, ring: Ring, verdicts: bytes) -> int:
    """The largest amount among the payments that habit holds."""
    out = {verdict.payment for verdict in unpack(verdicts) if verdict.is_out}
    held = ring.lessons
    amounts = [
        amount_of(held[-back * LESSON.size :])
        for back in range(1, len(held) // LESSON.size + 1)
        if ring.ids[len(ring.ids) - 8 * back :][:8] not in out
    ]
    return max(known.largest_before, *amounts, 0)


def _advance(seen: tuple[int, int, int], source: int, offset: int) -> tuple[int, int, int]:
    first, second, third = seen
    if source == 0:
        return offset, second, third
    return (first, offset, third) if source == 1 else (first, second, offset)
