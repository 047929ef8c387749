"""What every worker holds about merchants answers as a recount of their events does, and a million of them fit."""

import random
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from aegis_app.core.merchant import Merchant, fold
from aegis_app.core.merchant_events import Credited, Event, Events, Labelled, Paid
from aegis_app.core.payment import DAY_MS, HOUR_MS, MINUTE_MS
from aegis_app.core.risk import SPANS, Risk, RiskError, Window, check_risk, has_credits, risk, shared_risk
from aegis_app.core.unusual import unusual
from tests import naive_merchant
from tests.test_merchant import START, arrive, invent, paid

DAY = START + 100 * DAY_MS
"""Midnight, UTC."""


def remember(*events: Event) -> Merchant:
    """The memory of `events`, each from a source and an offset of its own."""
    memory = Merchant()
    for partition, event in enumerate(events):
        memory = fold(memory, Events(0, partition, [event]))
    return memory


def known(at: int, *events: Event) -> Risk:
    """What is known at `at` after `events`."""
    return Risk(risk(remember(*events)), at)


def answered(found: Risk) -> dict[str, object]:
    """As `naive_merchant.answers` has it."""
    ten, hour = found.ten_minutes, found.hour
    assert ten is not None
    assert hour is not None
    answers: dict[str, object] = {
        "seconds_since_last": found.seconds_since_last,
        "age_days": found.age_days,
        "fraud_days": found.fraud_days,
        "fraud_shares": found.fraud_shares,
        "ten_minutes": astuple(ten),
        "hour": astuple(hour),
    }
    for place, days in enumerate(SPANS):
        answers |= {
            f"payments_{days}": found.payments[place],
            f"cards_{days}": found.cards[place],
            f"unusual_{days}": found.unusual[place],
            f"frauds_delayed_{days}": found.frauds_delayed[place],
            f"fraud_rate_{days}": found.fraud_rates[place],
            f"frauds_known_{days}": found.frauds_known[place],
        }
    return answers


@settings(max_examples=100)
@given(
    st.integers(0, 2**32),
    st.integers(1, 200),
    st.sampled_from([90 * MINUTE_MS, DAY_MS, 60 * DAY_MS]),
    st.one_of(st.integers(0, 20 * MINUTE_MS), st.integers(0, 60 * DAY_MS)),
)
def test_answers_equal_a_recount_of_what_was_known_by_then(seed: int, number: int, span: int, later: int) -> None:
    draw = random.Random(seed)
    invented = invent(draw, number, span, 14)
    at = later + max((event.at for held in invented.values() for event in held if isinstance(event, Paid)), default=START + span)
    past = {
        origin: known
        for origin, held in invented.items()
        if (known := [event for event in held if isinstance(event, Paid) or event.labelled_at <= at])
    }
    events = [event for held in past.values() for event in held]

    if events:
        assert answered(Risk(risk(arrive(draw, past)), at)) == naive_merchant.answers(events, at)


def test_of_what_nothing_is_known_every_answer_is_none() -> None:
    nothing = Risk(None, DAY)

    assert (nothing.ten_minutes, nothing.hour, nothing.clock, nothing.seconds_since_last, nothing.age_days) == (None,) * 5
    answers = (nothing.payments, nothing.cards, nothing.unusual, nothing.frauds_delayed, nothing.fraud_rates, nothing.frauds_known)
    assert [*answers, nothing.credits] == [(None, None, None)] * 7


def test_a_merchant_of_which_only_a_label_is_known_has_no_payments_rather_than_unknown_ones() -> None:
    found = known(DAY + HOUR_MS, Labelled(0, DAY - 9 * DAY_MS, DAY, 1))

    assert (found.clock, found.seconds_since_last, found.age_days, found.unusual[-1]) == (None,) * 4
    assert (found.hour, found.payments[-1], found.cards[-1]) == (Window(), 0, 0)
    assert (list(found.frauds_delayed), list(found.frauds_known)) == ([0, 1, 1], [1, 1, 1])


@pytest.mark.parametrize(
    ("after", "ten", "hour"),
    [(0, 1, 2), (10 * MINUTE_MS - 1, 1, 2), (10 * MINUTE_MS, 0, 2), (HOUR_MS - 1, 0, 2), (HOUR_MS, 0, 0), (-DAY_MS, 1, 2)],
)
def test_a_window_is_empty_once_it_lies_wholly_before_the_payments(after: int, ten: int, hour: int) -> None:
    found = known(DAY + after, paid(0, DAY - HOUR_MS), paid(1, DAY))

    assert found.ten_minutes is not None
    assert found.hour is not None
    assert (found.ten_minutes.payments, found.hour.payments, found.clock) == (ten, hour, DAY)


@pytest.mark.parametrize(
    ("ago", "one", "seven", "thirty"),
    [(7, 0, 0, 0), (8, 1, 1, 1), (9, 0, 1, 1), (14, 0, 1, 1), (15, 0, 0, 1), (37, 0, 0, 1), (38, 0, 0, 0)],
)
def test_delayed_frauds_are_those_of_days_that_end_eight_days_before(ago: int, one: int, seven: int, thirty: int) -> None:
    at = DAY + 5 * HOUR_MS
    found = known(at, paid(0, at - ago * DAY_MS), Labelled(1, at - ago * DAY_MS, at, 1))

    assert list(found.frauds_delayed) == [one, seven, thirty]
    assert list(found.fraud_rates) == [1.1 / 21 if each else 0.1 / 20 for each in (one, seven, thirty)]


def test_days_since_frauds_are_those_since_the_first_and_the_last_and_what_came_after_it_counts_once_it_is_old() -> None:
    events = [Labelled(0, DAY - 20 * DAY_MS, DAY, 1), Labelled(1, DAY - 12 * DAY_MS, DAY, 1)]
    payments = [paid(offset, DAY - ago * DAY_MS) for offset, ago in enumerate((20, 12, 12, 11, 9, 8, 7), start=2)]

    assert [known(DAY + passed * DAY_MS, *events, *payments).fraud_days for passed in (0, 1, 17, 18, 25, 26)] == [
        (20, 12, 3),
        (21, 13, 4),
        (37, 29, 4),
        (30, 30, 4),
        (37, 37, 4),
        (None, None, None),
    ]


def test_a_share_of_frauds_is_that_of_the_last_payments_which_are_old() -> None:
    events = [Labelled(0, DAY - 20 * DAY_MS, DAY, 1), Labelled(1, DAY - 9 * DAY_MS, DAY, 1), Labelled(2, DAY - 7 * DAY_MS, DAY, 1)]
    payments = [paid(offset, DAY - ago * DAY_MS) for offset, ago in enumerate((20, 12, 9, 9, 7), start=3)]

    assert list(known(DAY, *events, *payments).fraud_shares) == [1 / 2, 1 / 3, 2 / 4]
    assert list(known(DAY + DAY_MS, *events, *payments).fraud_shares) == [1, 2 / 3, 3 / 5]
    assert list(known(DAY, paid(0, DAY)).fraud_shares) == [0, 0, 0]


def test_days_move_on_with_the_payment_and_not_with_the_clock() -> None:
    memory = remember(paid(0, DAY - 3 * DAY_MS), paid(1, DAY))

    assert [Risk(risk(memory), DAY + passed * DAY_MS).payments[1] for passed in (0, 3, 4, 6, 7, 400)] == [2, 2, 1, 1, 0, 0]
    assert [Risk(risk(memory), DAY - passed * DAY_MS).payments[1] for passed in (1, 3, 4)] == [1, 1, 0]


def test_a_fraud_taken_back_counts_no_more() -> None:
    found = known(DAY, Labelled(0, DAY - 9 * DAY_MS, DAY - 3 * DAY_MS, 1), Labelled(1, DAY - 9 * DAY_MS, DAY, -1))

    assert (list(found.frauds_delayed), list(found.frauds_known)) == ([0, 0, 0], [0, 0, 0])


def test_a_card_with_many_frauds_elsewhere_is_one_credit_and_none_once_they_are_taken_back() -> None:
    frauds = [Credited(each, DAY - 5 * DAY_MS + each * DAY_MS, 1, card=7) for each in range(3)]
    other = Credited(3, DAY - 20 * DAY_MS, 1, card=8)
    back = [Credited(each, DAY, -1, card=7) for each in range(4, 7)]

    assert [list(known(DAY + passed * DAY_MS, *frauds, other).credits) for passed in (0, 3, 4, 9, 10)] == [
        [0, 1, 2],
        [0, 1, 2],
        [0, 0, 2],
        [0, 0, 2],
        [0, 0, 1],
    ]
    assert list(known(DAY, *frauds, other, *back[:2]).credits) == [0, 1, 2]
    assert list(known(DAY, *frauds, other, *back).credits) == [0, 0, 1]


def test_a_credit_counts_though_one_that_is_forgotten_was_taken_back() -> None:
    assert known(DAY, Credited(0, DAY - 9 * DAY_MS, -1, card=7), Credited(1, DAY - DAY_MS, 1, card=7)).credits[-1] == 1


def test_cards_are_counted_by_day_up_to_the_last_sixty_four() -> None:
    many = [paid(each, DAY - each % 3 * DAY_MS, card=each) for each in range(60)]

    assert [list(known(DAY + passed * DAY_MS, *many).cards) for passed in (0, 5, 6)] == [[20, 60, 60], [0, 40, 60], [0, 20, 60]]
    assert known(DAY, *many, *(paid(each, DAY, card=each) for each in range(30, 90))).cards[-1] == 64


def test_money_is_not_known_where_a_rate_is_missing() -> None:
    unpriced = known(DAY, paid(0, DAY), paid(1, DAY - 30 * MINUTE_MS, amount=None))

    assert unpriced.ten_minutes is not None
    assert unpriced.hour is not None
    assert (unpriced.ten_minutes.money, unpriced.hour.money) == (25_00, None)


def test_a_device_is_told_of_once_a_second_card_used_it_or_a_fraud_was_confirmed() -> None:
    alone = remember(paid(0, DAY, card=1), paid(1, DAY + 1, card=1))
    shared, fraud = fold(alone, Events(0, 7, [paid(2, DAY + 2, card=2)])), fold(alone, Events(1, 0, [Labelled(0, DAY, DAY, 1)]))

    assert shared_risk(alone) is None
    assert shared_risk(shared) == risk(shared)
    assert shared_risk(fraud) == risk(fraud)


@pytest.mark.parametrize(
    ("raw", "error"),
    [(b"", "truncated"), (b"{}", "Expected `array`"), (msgspec.msgpack.encode([1, 2]), "length"), (b"\x9b\x02", "truncated")],
)
def test_what_is_no_risk_is_refused(raw: bytes, error: str) -> None:
    with pytest.raises(RiskError, match=error):
        check_risk(raw)


def test_a_newer_risk_is_refused() -> None:
    raw = risk(remember(paid()))
    check_risk(raw)

    with pytest.raises(RiskError, match="layout 2"):
        check_risk(msgspec.msgpack.encode([2, *msgspec.msgpack.decode(raw)[1:]]))


def test_a_million_merchants_fit_into_five_hundred_megabytes() -> None:
    """Of sizes as they are in trade: the busiest one has as many payments as the next two, and so on (Zipf), 15 a month in the mean."""
    draw = random.Random(3)
    number = 8_000
    weights = [1 / (place + 10) for place in range(number)]
    payments = draw.choices(range(number), weights, k=15 * number)
    held: dict[str, bytes] = {}
    counts = [0] * number
    for merchant in payments:
        counts[merchant] += 1
    for merchant, count in enumerate(counts):
        times = sorted(START + draw.randrange(38 * DAY_MS) for _ in range(min(count, 2000)))
        told: list[Event] = [
            paid(each, at, card=draw.getrandbits(32), unusual=draw.randrange(600), amount=draw.randrange(2**20))
            for each, at in enumerate(times)
        ]
        if told:
            memory = fold(None, Events(0, merchant % 8, told))
            if draw.random() < 0.2:
                memory = fold(memory, Events(1, 0, [Labelled(0, times[0], times[0] + 20 * DAY_MS, 1), Credited(0, times[-1], 1, 9)]))
            held[f"merchant-{merchant:07}"] = risk(memory)

    size = sys.getsizeof(held) + sum(sys.getsizeof(name) + sys.getsizeof(raw) for name, raw in held.items())
    assert len(held) > 0.9 * number
    assert size / len(held) * 1_000_000 <= 500_000_000


@pytest.mark.parametrize(
    ("amount_z", "new_merchant", "hour_share", "km", "expected"),
    [
        (None, None, None, None, None),
        (0.0, False, 0.5, 0.0, 0),
        (9.0, True, 0.0, 9_000.0, 1000),
        (1.0, None, None, None, 0),
        (3.0, None, None, None, 500),
        (-9.0, True, None, None, 333),
        (None, None, 0.125, None, 0),
        (None, None, 0.0625, None, 500),
        (None, None, None, 250.0, 500),
        (5.0, False, 0.125, None, 500),
    ],
)
def test_how_unusual_a_payment_is(
    amount_z: float | None, new_merchant: bool | None, hour_share: float | None, km: float | None, expected: int | None
) -> None:
    assert unusual(amount_z, new_merchant, hour_share, km) == expected


def test_that_there_are_credits_shows_at_the_end_of_a_risk() -> None:
    credit, verdict = Credited(1, DAY, 1, 7), Labelled(1, DAY - DAY_MS, DAY, 1)

    assert has_credits(risk(remember(paid(), credit)))
    assert not has_credits(risk(remember(paid())))
    assert not has_credits(risk(remember(paid(), verdict)))
