"""Memory of merchants and devices equals a recount from scratch, in whatever order and however often records come, and is bounded."""

import random
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from aegis_app.core import distinct
from aegis_app.core.card import LayoutError
from aegis_app.core.merchant import (
    CREDIT,
    LAYOUT,
    RECENT,
    TALLY,
    VERDICT,
    Merchant,
    Stamp,
    decode_merchant,
    decode_stamp,
    encode_merchant,
    fold,
    last_seen,
)
from aegis_app.core.merchant_events import Credited, Event, Events, EventsError, Labelled, Paid, card_hash, decode_events, encode_events
from aegis_app.core.payment import DAY_MS, HOUR_MS, MINUTE_MS
from tests import naive_merchant

START = 1_772_582_400_000
"""Midnight, UTC."""
Origin = tuple[int, int]
Past = dict[Origin, list[Event]]
"""Events by source and partition, in the order of offsets."""


def paid(offset: int = 0, at: int = START, **fields: object) -> Paid:
    """An unremarkable payment."""
    usual = {"kind": 1, "amount": 25_00, "small": False, "card": offset, "first": False, "unusual": 100, "verdict": 0}
    return Paid(offset=offset, at=at, **usual | fields)  # type: ignore[arg-type]  # by name


def invent(draw: random.Random, number: int, span: int, cards: int) -> Past:
    """`number` events from six partitions of the three sources, within `span` milliseconds, by `cards` cards."""
    past: Past = {}
    for offset in range(number):
        origin = draw.choice([0, 0, 0, 1, 2]), draw.randrange(2)
        at = START + draw.randrange(span) if draw.random() < 0.5 else START + span * offset // number
        card = draw.randrange(cards) * 2_654_435_761 % 2**32
        event: Event
        if origin[0] != 1:
            event = Paid(
                offset,
                at,
                draw.choice([1, 1, 7]),
                None if draw.random() < 0.02 else draw.randrange(2**20),
                draw.random() < 0.1,
                card,
                draw.random() < 0.3,
                None if draw.random() < 0.1 else draw.randint(0, 1000),
                draw.choice([0, 0, 0, 1, 2]),
            )
        elif draw.random() < 0.5:
            event = Labelled(offset, at, at + draw.randrange(-DAY_MS, 20 * DAY_MS), draw.choice([1, 1, -1]))
        else:
            event = Credited(offset, at, draw.choice([1, 1, -1]), card)
        past.setdefault(origin, []).append(event)
    return past


def cut(draw: random.Random, origin: Origin, events: list[Event]) -> Iterator[Events]:
    """`events` in records of random sizes."""
    at = 0
    while at < len(events):
        size = draw.randint(1, 20)
        yield Events(*origin, events[at : at + size])
        at += size


def arrive(draw: random.Random, past: Past) -> Merchant:
    """Records of all partitions, interleaved at random; some are delivered again, cut otherwise."""
    memory: Merchant | None = None
    waiting = {origin: list(cut(draw, origin, events)) for origin, events in past.items()}
    while waiting:
        origin = draw.choice(list(waiting))
        record = waiting[origin].pop(0)
        if not waiting[origin]:
            del waiting[origin]
        if draw.random() < 0.2:
            before = [event for event in past[origin] if event.offset < record.events[0].offset]
            record = Events(*origin, before[draw.randrange(len(before) + 1) :] + record.events)
        memory = fold(memory, decode_events(encode_events(record)))
        memory = decode_merchant(encode_merchant(memory))
    assert memory is not None
    return memory


def held(memory: Merchant) -> dict[str, object]:
    """Memory, as `naive_merchant.tables` has it."""
    return {
        "clock": memory.clock,
        "latest": memory.latest,
        "first": memory.first,
        "minutes": {row[0]: row[1:] for row in TALLY.iter_unpack(memory.minutes)},
        "cards": [distinct.count([cards]) for cards in memory.cards],
        "days": {row[0]: row[1:] for row in TALLY.iter_unpack(memory.days)},
        "verdicts": {row[0]: row[1:] for row in VERDICT.iter_unpack(memory.verdicts)},
        "recent": [(day, card) for card, day in RECENT.iter_unpack(memory.recent)],
        "credits": [(day, card, net) for card, day, net in CREDIT.iter_unpack(memory.credits)],
    }


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.integers(1, 400),
    st.sampled_from([HOUR_MS, 4 * HOUR_MS, 3 * DAY_MS, 60 * DAY_MS, 300 * DAY_MS]),
    st.sampled_from([3, 60, 2**20]),
)
def test_memory_equals_a_recount_in_whatever_order_and_cut_and_however_often_records_come(
    seed: int, number: int, span: int, cards: int
) -> None:
    draw = random.Random(seed)
    past = invent(draw, number, span, cards)

    memory = arrive(draw, past)

    counted = naive_merchant.tables([event for events in past.values() for event in events])
    found = held(memory)
    if any(len(each) > 1 + 4 * distinct.MOST_EXACT for each in memory.cards):
        assert found.pop("cards") == pytest.approx(counted.pop("cards"), rel=0.3)
    assert found == counted
    assert encode_merchant(arrive(draw, past)) == encode_merchant(memory)
    assert all(last_seen(memory, *origin) == events[-1].offset for origin, events in past.items())


@given(st.sets(st.integers(0, 2**32 - 1), min_size=1, max_size=300), st.randoms(use_true_random=False))
def test_what_is_held_of_cards_depends_on_which_they_are_alone(cards: set[int], draw: random.Random) -> None:
    once = distinct.add(b"", cards)
    several = b""
    for order in range(2):
        waiting = sorted(cards)
        draw.shuffle(waiting)
        while waiting:
            size = draw.randint(1, 40)
            several, waiting = distinct.add(several, waiting[:size]), waiting[size:]
        assert order == 1 or several == once

    assert several == once
    assert len(once) <= 128
    assert distinct.count([once]) == (len(cards) if len(cards) <= distinct.MOST_EXACT else pytest.approx(len(cards), rel=0.3))


def test_many_cards_are_counted_within_a_few_per_cent() -> None:
    draw = random.Random(7)
    minutes = [{draw.getrandbits(32) for _ in range(1000)} for _ in range(20)]
    regulars = {draw.getrandbits(32) for _ in range(500)}

    together = distinct.count([distinct.add(b"", regulars | each) for each in minutes])

    assert together == pytest.approx(20_500, rel=0.18)


def test_events_of_one_offset_are_folded_together_and_once() -> None:
    record = Events(1, 3, [Labelled(5, START, START + DAY_MS, 1), Credited(5, START + DAY_MS, 1, 9)])
    memory = fold(None, record)

    assert len(memory.verdicts) == 2 * VERDICT.size
    assert len(memory.credits) == CREDIT.size
    assert fold(memory, record) == memory
    assert (last_seen(memory, 1, 3), last_seen(memory, 1, 2), last_seen(memory, 1, 4), last_seen(memory, 0, 3)) == (5, -1, -1, -1)


@pytest.mark.parametrize("known", [-DAY_MS, DAY_MS], ids=["before its payment", "after it"])
def test_days_are_counted_back_from_whatever_is_latest(known: int) -> None:
    memory = fold(None, Events(1, 0, [Labelled(0, START, START + known, 1)]))

    assert (memory.clock, memory.latest) == (0, START + max(0, known))


def test_a_late_payment_counts_as_far_as_memory_reaches() -> None:
    memory = fold(None, Events(0, 0, [paid(0, START + 120 * DAY_MS)]))

    moments = (memory.clock - 60 * MINUTE_MS, memory.clock - 61 * MINUTE_MS, START + DAY_MS, START)
    late = fold(memory, Events(0, 0, [paid(1 + each, at) for each, at in enumerate(moments)]))

    assert [row[0] * MINUTE_MS for row in TALLY.iter_unpack(late.minutes)] == [memory.clock - 60 * MINUTE_MS, memory.clock]
    assert [(row[0] * DAY_MS, row[1]) for row in TALLY.iter_unpack(late.days)] == [
        (START + DAY_MS, 1),
        (START + 119 * DAY_MS, 2),
        (START + 120 * DAY_MS, 1),
    ]
    assert (late.clock, late.first) == (memory.clock, START)


def test_money_beyond_all_measure_stays_at_its_most_and_leaves_the_rest_alone() -> None:
    memory = None
    for offset in range(3000):
        memory = fold(memory, Events(0, 0, [paid(offset, amount=2**53, unusual=1000)]))
    assert memory is not None

    (row,) = TALLY.iter_unpack(memory.days)
    assert row == (START // DAY_MS, 3000, 0, 3000, 0, 0, 0, 0, 3_000_000, 2**64 - 1)


def test_a_million_events_for_one_merchant_take_less_than_twenty_four_kibibytes() -> None:
    """A payment every 15 seconds for 120 days, then 80 a second for an hour; a label and a credit of every hundredth."""
    draw = random.Random(11)
    memory, at, size = Merchant(), START, 500
    for offset in range(0, 1_000_000, size):
        payments: list[Event] = []
        for each in range(offset, offset + size):
            at += 15_000 if each < 700_000 else 12
            payments.append(Paid(each, at, 1, 25_00, False, draw.getrandbits(32), True, 100, 0))
        memory = fold(memory, Events(0, offset // size % 8, payments))
        told: list[Event] = []
        for each in range(offset, offset + size, 100):
            told += [Labelled(each, at, at, 1), Credited(each, at, 1, draw.getrandbits(32))]
        memory = fold(memory, Events(1, offset // size % 8, told))

    full = (61 * TALLY.size, 61, 120 * TALLY.size, 120 * VERDICT.size, 64 * RECENT.size, 256 * CREDIT.size)
    assert full == tuple(map(len, (memory.minutes, memory.cards, memory.days, memory.verdicts, memory.recent, memory.credits)))
    assert len(encode_merchant(memory)) < 24 * 1024


def test_memory_of_a_usual_merchant_is_small() -> None:
    draw = random.Random(5)
    memory = None
    for offset in range(60 * 20):
        at = START + offset // 20 * DAY_MS + (offset % 20 * 40 + 8 * 60) * MINUTE_MS
        memory = fold(memory, Events(0, draw.randrange(8), [paid(offset, at, card=draw.getrandbits(32))]))
    assert memory is not None

    assert len(encode_merchant(memory)) <= 4096
    assert len(encode_merchant(fold(None, Events(0, 7, [paid()])))) <= 300


def test_a_newer_layout_is_refused_and_a_longer_one_of_the_same_number_read() -> None:
    memory = fold(None, Events(0, 1, [paid(4)]))
    raw = encode_merchant(memory)
    more = msgspec.msgpack.encode([*msgspec.msgpack.decode(raw), b"more"])

    assert decode_merchant(more) == memory
    assert decode_merchant(msgspec.msgpack.encode(list(astuple(memory))[:4])) == Merchant(LAYOUT, memory.seen, START, START)
    with pytest.raises(LayoutError, match="layout 2"):
        decode_merchant(encode_merchant(replace(memory, layout=LAYOUT + 1)))
    assert decode_stamp(raw) == Stamp(LAYOUT, ((-1, 4), (), ()), START, START)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        msgspec.msgpack.encode([2, 0, 0, [list(astuple(paid()))]]),
        msgspec.msgpack.encode([1, 0, 0, []]),
        msgspec.msgpack.encode([1, 3, 0, [[1, 0, START, START, 1]]]),
        msgspec.msgpack.encode([1, 1, 0, [[1, 0, START, START, 2]]]),
        msgspec.msgpack.encode([1, 1, 10_000, [[1, 0, START, START, 1]]]),
        msgspec.msgpack.encode([1, 1, 0, [[1, 0, START, 2**62, 1]]]),
        msgspec.msgpack.encode([1, 1, 0, [[3, 0, START, START, 1]]]),
        msgspec.msgpack.encode([1, 1, 0, [[2, 0, START, 1, 2**32]]]),
    ],
)
def test_strangers_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(EventsError, match="not a record of events"):
        decode_events(raw)


def test_a_record_comes_back_as_it_was_sent() -> None:
    record = Events(
        1, 2, [Labelled(1, START, START + 1, -1), Credited(1, START, 1, card_hash("card-1")), paid(2, amount=None, unusual=None)]
    )

    assert decode_events(encode_events(record)) == record
