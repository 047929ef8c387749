"""Memory is exact where it says so, bounded everywhere, and a pure fold."""

import random
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_app.core.attempts import MOST_EXACT, REACH_MS, Attempts, add
from aegis_app.core.card import (
    BLANK,
    LAYOUT,
    RING,
    Card,
    LayoutError,
    content_hash,
    decode_card,
    decode_stamp,
    encode_card,
    learn,
    recall,
    settled,
)
from aegis_app.core.case import Case
from aegis_app.core.features import Features
from aegis_app.core.payment import DAY_MS, HOUR_MS, MINUTE_MS, Channel, Kind, Transaction
from aegis_app.core.screen import learn_label
from aegis_app.core.uses import fingerprint
from tests.make import ALLOWED, BLOCKED, NOON, PARIS, cased, label, payment, remember, seen

START = 1_772_600_000_000
moments = st.lists(st.integers(START, START + 3 * DAY_MS), max_size=300)


def fold(arrivals: list[int]) -> tuple[Attempts, int]:
    attempts, clock = Attempts(), 0
    for at in arrivals:
        clock = max(clock, at)
        attempts = add(attempts, clock, Case(payment(), at, 100, at), refused=False)
    return attempts, clock


@given(moments, st.integers(0, 3 * DAY_MS))
def test_windows_equal_a_recount_from_scratch_whatever_the_order_of_arrival(arrivals: list[int], past: int) -> None:
    arrivals = arrivals[:MOST_EXACT]
    attempts, clock = fold(arrivals)
    at = START + past
    found = tried(attempts, clock, at)

    for length, counted, money in windows(found):
        if counted is None:
            assert at - length < clock - REACH_MS
        else:
            assert counted == sum(at - length < arrival <= at for arrival in arrivals)
            assert money == counted * 100
    assert not found.counts.saturated


@given(st.integers(0, 10_000), st.integers(300, 1500), st.integers(1, 2 * DAY_MS))
def test_beyond_the_exact_ones_a_count_never_falls_below_the_truth(seed: int, number: int, span: int) -> None:
    draw = random.Random(seed)
    arrivals = [START + draw.randrange(span) for _ in range(number)]
    arrivals.sort(key=lambda at: at + draw.randrange(HOUR_MS))
    attempts, clock = fold(arrivals)
    found = tried(attempts, clock, clock)

    for length, counted, money in windows(found):
        truth = sum(clock - length < arrival <= clock for arrival in arrivals)
        assert counted is not None
        assert money == counted * 100
        assert counted >= truth
        assert counted == truth or found.counts.saturated


def tried(attempts: Attempts, clock: int, at: int) -> Features:
    return Features(Card(attempts=attempts, clock=clock), Case(payment(), at, 100, at))


def windows(found: Features) -> list[tuple[int, int | None, float | None]]:
    return [
        (MINUTE_MS, found.counts.attempts_1m, found.money.money_1m),
        (10 * MINUTE_MS, found.counts.attempts_10m, found.money.money_10m),
        (HOUR_MS, found.counts.attempts_1h, found.money.money_1h),
        (DAY_MS, found.counts.attempts_24h, found.money.money_24h),
    ]


def test_a_bucketed_hour_counts_close_to_the_truth() -> None:
    attempts, clock = fold([START + second * 1000 for second in range(6 * 3600)])

    hour = tried(attempts, clock, clock).counts.attempts_1h

    assert hour is not None
    assert 3600 <= hour <= 3600 + 5 * 60


def test_memory_of_a_card_stays_bounded_under_a_hundred_thousand_payments() -> None:
    card, largest = BLANK, 0
    for number in range(100_000):
        txn = payment(
            seconds=number * 1.7,
            transaction_id=f"t{number}",
            merchant_id=f"a merchant with a long name, number {number}",
            merchant_category=f"c{number}",
            payee_id=f"p{number}",
            device_id=f"d{number}",
            channel=Channel.RECURRING if number % 2 else Channel.CHIP,
            country=chr(65 + number % 26) + chr(65 + number // 26 % 26),
        )
        card = learn(card, cased(txn), ALLOWED if number % 3 else BLOCKED, 0, number)
        if number % 10 == 0:
            card = learn_label(card, label(txn), number).card
        if number % 1000 == 0:
            largest = max(largest, len(encode_card(card)))

    assert 4096 < largest <= 8192
    assert seen(card, txn).counts.saturated


@pytest.mark.parametrize("ahead", [10, 8 * 60], ids=["ten minutes", "a time zone"])
def test_memory_stays_bounded_where_a_terminals_clock_is_ahead(ahead: int) -> None:
    card = BLANK
    for number in range(3000):
        txn = payment(minute=2 * number + ahead, transaction_id=f"t{number}", merchant_id=f"m{number}")
        card = learn(card, cased(txn, txn.at - ahead * MINUTE_MS), ALLOWED, 0, number)

    assert len(encode_card(card)) <= 8192
    assert card.clock == txn.at - ahead * MINUTE_MS
    assert card.habit.last <= card.clock


@given(st.text(min_size=1, max_size=64))
def test_whatever_strangers_call_a_merchant_takes_four_bytes(name: str) -> None:
    assert len(fingerprint(name)) == 4
    card = remember(payment(merchant_id=name, device_id=name, payee_id=name), payment(minute=1, merchant_id="other", device_id="other"))

    assert seen(card, payment(minute=2, merchant_id=name, device_id=name)).parties.new_device is False
    assert seen(card, payment(minute=2, merchant_id=name)).counts.merchants_10m == len({name, "other"})


def test_a_card_used_twice_a_day_for_two_months_takes_about_three_kibibytes() -> None:
    card = remember(*(payment(minute=number * 12 * 60, merchant_id=f"merchant-{number % 20}") for number in range(120)))

    assert len(encode_card(card)) <= 3.1 * 1024


def test_an_encoded_card_reads_as_it_was() -> None:
    card = remember(payment(), payment(minute=5, device_id="phone"), payment(minute=9, currency="USD"))

    assert decode_card(encode_card(card)) == card
    assert decode_stamp(encode_card(card)).seen == card.seen
    assert decode_stamp(encode_card(card)).clock == card.clock


def test_a_card_written_before_a_column_came_reads_with_it_left_blank() -> None:
    card = learn_label(remember(payment(), payment(minute=5)), label(payment()), 0).card
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(encode_card(card))[:-1])

    assert card.reports != ()
    assert decode_card(older) == msgspec.structs.replace(card, reports=())


def test_a_newer_layout_is_refused_rather_than_misread() -> None:
    newer = msgspec.msgpack.encode([LAYOUT + 1, *msgspec.msgpack.decode(encode_card(remember(payment())))[1:], "unheard of"])

    with pytest.raises(LayoutError, match=f"layout {LAYOUT + 1}"):
        decode_card(newer)


def test_refunds_and_reversals_leave_velocity_and_habit_alone() -> None:
    card = remember(payment())

    after = remember(payment(minute=1, kind=Kind.REFUND, amount_minor=900_00), card=card)

    assert after.attempts == card.attempts
    assert after.days == card.days
    assert after.habit == card.habit


def test_attempts_count_always_but_only_allowed_ones_become_habit() -> None:
    card = remember(payment(merchant_id="thief", country="US", amount_minor=5000_00), settled=BLOCKED)
    found = seen(card, payment(minute=1))

    assert found.counts.attempts_10m == 1
    assert found.amounts.habit == 0
    assert found.amounts.typical_amount is None
    assert found.travel.km is None


def test_a_payment_far_ahead_does_not_advance_the_clock() -> None:
    card = remember(payment())
    ahead = payment(minute=20 * 60)

    after = learn(card, cased(ahead, payment(minute=1).at), ALLOWED, 0, 1)

    assert after.clock == payment(minute=1).at  # when its record was written, and no later
    assert seen(after, payment(minute=2)).counts.attempts_10m == 1


def test_a_late_payment_sees_only_what_lies_before_it() -> None:
    card = remember(payment(), payment(minute=30), payment(minute=31))

    assert seen(card, payment(minute=5)).counts.attempts_10m == 1
    assert seen(card, payment(minute=-5)).counts.attempts_1h == 0


def test_a_window_that_begins_before_memory_does_is_unknown_and_not_zero() -> None:
    card = remember(payment(), payment(minute=60 * 40))

    assert seen(card, payment(minute=60)).counts.attempts_24h is None
    assert seen(card, payment(minute=60 * 39)).counts.attempts_24h == 0


def test_an_amount_without_a_rate_is_not_compared() -> None:
    card = remember(*(payment(minute=minute) for minute in range(6)))

    assert seen(card, payment(minute=9, amount_minor=50_00)).amounts.amount_ratio == pytest.approx(2)
    assert seen(card, payment(minute=9, amount_minor=50_00, currency="USD")).amounts.amount_ratio is None


def test_speed_is_taken_between_trusted_places() -> None:
    card = remember(payment())
    paris_to_lyon = seen(card, payment(minute=120, latitude=45.764, longitude=4.8357))

    assert paris_to_lyon.travel.km == pytest.approx(391.5, abs=2)
    assert paris_to_lyon.travel.kmh == pytest.approx(391.5 / 2, abs=1)


def test_what_is_new_is_unknown_before_anything_is_known() -> None:
    blank = seen(BLANK, payment(device_id="phone"))
    known = seen(remember(payment(device_id="phone")), payment(minute=1, merchant_id="other", device_id="phone", country="US"))

    assert (blank.parties.new_merchant, blank.novelty.new_country, blank.parties.new_device) == (None, None, None)
    assert (known.parties.new_merchant, known.novelty.new_country, known.parties.new_device) == (True, True, False)


def test_home_is_never_a_new_country() -> None:
    card = remember(payment())

    assert seen(card, payment(minute=1, country="DE", home_country="DE")).novelty.new_country is False


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80))
def test_the_last_32_payments_are_answered_as_before_and_no_more(ids: list[int]) -> None:
    card = BLANK
    fresh: list[Transaction] = []
    for number, each in enumerate(ids):
        txn = payment(minute=number, transaction_id=f"t{each}-{number}")
        fresh.append(txn)
        card = learn(card, cased(txn), BLOCKED if each % 2 else ALLOWED, 0, number)

    for age, txn in enumerate(reversed(fresh)):
        known = settled(card, txn.transaction_id)
        if age < RING:
            assert known is not None
            assert known[0] == (BLOCKED if int(txn.transaction_id[1:].split("-")[0]) % 2 else ALLOWED)
            assert known[1] == content_hash(txn)
        else:
            assert known is None


def test_a_card_idle_for_longer_than_its_time_to_live_is_forgotten_but_for_its_offsets() -> None:
    card = remember(payment())
    ttl = 400 * DAY_MS

    late = card.clock + ttl + 1
    assert recall(card, late - 1, late - 1, ttl) == card
    assert recall(card, late, late, ttl) == Card(seen=card.seen, clock=card.clock)
    assert recall(card, late + ttl, card.clock, ttl) == card


def test_places_of_late_payments_take_their_place_in_time() -> None:
    later = payment(minute=60, latitude=45.764, longitude=4.8357)
    card = remember(later, payment(minute=0))

    assert seen(card, payment(minute=30, **PARIS)).travel.km == pytest.approx(0)
    assert seen(card, payment(minute=90, latitude=45.764, longitude=4.8357)).travel.km == pytest.approx(0)


def test_habit_counts_days_before_today_alone() -> None:
    yesterday = [payment(minute=minute, timestamp=NOON - timedelta(days=1, minutes=minute)) for minute in range(3)]
    card = remember(*yesterday, payment(), payment(minute=1))

    assert seen(card, payment(minute=2)).month.per_active_day == 3
