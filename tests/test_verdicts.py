"""What is said about payments afterwards: which word counts, what leaves habit again, and that the order of coming does not matter."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from aegis_app.core.card import BLANK, RING, Card, decode_card, encode_card, id_hash, is_idle, learn, recall
from aegis_app.core.habit import Habit
from aegis_app.core.label import Label, Source
from aegis_app.core.payment import DAY_MS, Channel, Kind, Outcome, Transaction
from aegis_app.core.rates import Rates
from aegis_app.core.reported import MOST_REPORTS
from aegis_app.core.screen import LABELS, Heard, learn_label
from aegis_app.core.verdicts import MOST_VERDICTS, VERDICT, Ignored, Verdict, frauds, unpack, verdict_on
from aegis_app.core.visited import MOST_BYTES, MOST_VISITED, visit, visited_before
from tests.make import ALLOWED, BLOCKED, NOON, cased, label, payment, remember, seen

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PLACES: list[Any] = [(None, None), (48.857, 2.352), (45.764, 4.836), (-33.8688197, 151.2092955)]
RATES = Rates("EUR", {"EUR": 1.0, "USD": 1.25})


def hear(card: Card | None, *labels: Label) -> Card:
    for each in labels:
        card = learn_label(card, each, 0 if card is None else card.seen[LABELS] + 1).card
    assert card is not None
    return card


def verdict(card: Card, txn: Transaction) -> Verdict:
    found = verdict_on(card.verdicts, id_hash(txn.transaction_id))
    assert found is not None
    return found


@st.composite
def pasts(draw: st.DrawFn, most: int = RING) -> list[tuple[Transaction, Outcome]]:
    """Payments of a card in order of arrival, some late, some in one instant, and the verdict about each."""
    past, now = [], NOON
    for number in range(draw(st.integers(1, most))):
        now += timedelta(seconds=draw(st.sampled_from([0, 0, 60, 7200, 200_000])))
        latitude, longitude = draw(st.sampled_from(PLACES))
        txn = payment(
            transaction_id=f"t{number}",
            timestamp=now - timedelta(seconds=draw(st.sampled_from([0, 0, 0, 60, 80_000]))),
            amount_minor=draw(st.sampled_from([0, 1, 100, 250_00, 999_99])),
            currency=draw(st.sampled_from(["EUR", "EUR", "USD", "XAF"])),
            kind=draw(st.sampled_from([Kind.PURCHASE, Kind.PURCHASE, *Kind])),
            channel=draw(st.sampled_from([None, Channel.CHIP, *Channel])),
            merchant_id=draw(st.sampled_from([None, *(f"m{each}" for each in range(6))])),
            merchant_category=draw(st.sampled_from([None, "5411"])),
            payee_id=draw(st.sampled_from([None, "ann"])),
            device_id=draw(st.sampled_from([None, *(f"d{each}" for each in range(20))])),
            country=draw(st.sampled_from([None, "FR", "DE", "US", "JP"])),
            latitude=latitude,
            longitude=longitude,
        )
        past.append((txn, draw(st.sampled_from([Outcome.ALLOW, Outcome.ALLOW, Outcome.ALLOW, *Outcome]))))
    return past


@st.composite
def labels_of(draw: st.DrawFn, past: list[tuple[Transaction, Outcome]]) -> list[Label]:
    """Labels about some of the payments and about unknown ones: several, contradicting, weaker, repeated."""
    return [
        label(
            draw(st.sampled_from([*(txn for txn, _ in past), payment(transaction_id="unknown", minute=-5)])),
            is_fraud=draw(st.sampled_from([True, True, False])),
            after=draw(st.sampled_from([HOUR, DAY, 25 * DAY])),
            source=draw(st.sampled_from(list(Source))),
        )
        for _ in range(draw(st.integers(0, 12)))
    ]


def learnt(card: Card, txn: Transaction, outcome: Outcome) -> Card:
    """As of a record written at the payment's time or, for those ahead of the card's others, well before."""
    settled = replace(ALLOWED, outcome=outcome, verdict=outcome)
    written = txn.at - (3_600_000 if txn.transaction_id.endswith("7") else 0)
    return learn(card, cased(txn, written, RATES), settled, 0, card.seen[0] + 1)


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
def test_payments_and_labels_leave_the_same_memory_in_whatever_order_they_come(data: st.DataObject) -> None:
    past = data.draw(pasts())
    labels = data.draw(labels_of(past))
    turns = data.draw(st.permutations([True] * len(past) + [False] * len(labels)))
    payments_left, labels_left = iter(past), iter(labels)
    mixed, first, last = BLANK, hear(BLANK, *labels) if labels else BLANK, BLANK
    for is_payment in turns:
        mixed = learnt(mixed, *next(payments_left)) if is_payment else hear(mixed, next(labels_left))
    for each in past:
        first, last = learnt(first, *each), learnt(last, *each)
    last = hear(last, *labels) if labels else last

    assert encode_card(mixed) == encode_card(first) == encode_card(last)


STAYS = ("last", "gaps", "sum_gap", "sum_gap_squared", "present_at", "payees", "categories", "subscriptions")
"""Of habit, where no fraud is taken out of."""
COLUMNS = ("merchants", "devices", "countries")


@given(st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
def test_habit_after_a_confirmed_fraud_is_that_of_the_same_past_without_it(data: st.DataObject) -> None:
    past = data.draw(pasts())
    stolen = data.draw(st.sets(st.integers(0, len(past) - 1), min_size=1, max_size=5))
    whole = without = BLANK
    for number, (txn, outcome) in enumerate(past):
        whole = learnt(whole, txn, outcome)
        without = learnt(without, txn, Outcome.REVIEW if number in stolen else outcome)
    whole = hear(whole, *(label(past[number][0]) for number in stolen))

    one, other = whole.habit, without.habit
    assert one.largest == other.largest
    for field in set(Habit.__struct_fields__) - {*STAYS, *COLUMNS, "places", "tallies", "largest_before"}:
        assert getattr(one, field) == getattr(other, field), field
    assert one.tallies.strip(b"\0") == other.tallies.strip(b"\0")
    for field in COLUMNS:
        assert counts(getattr(one, field)) == counts(getattr(other, field))
    assert whole.attempts.times == without.attempts.times


def counts(column: bytes) -> dict[bytes, int]:
    rows = {column[at : at + 4]: int.from_bytes(column[at + 4 : at + 6], "little") for at in range(0, len(column), 6)}
    return {name: number for name, number in rows.items() if number}


def test_a_correction_puts_back_what_was_taken_out() -> None:
    past = [payment(minute=60 * number, amount_minor=100 * number + 1, device_id="phone") for number in range(20)]
    card = remember(*past)

    fraud = hear(card, label(past[7]), label(past[19]))
    corrected = hear(fraud, label(past[7], is_fraud=False, after=DAY), label(past[19], is_fraud=False, source=Source.ISSUER))

    assert fraud.habit.payments == 18
    assert fraud.habit.largest == 18_01
    assert corrected.habit == card.habit
    assert [each.is_fraud for each in unpack(corrected.verdicts)] == [False, False]


def test_a_fraud_leaves_no_place_and_nothing_used() -> None:
    home = [payment(minute=1500 * number) for number in range(5)]
    thief = payment(minute=7000, latitude=35.68, longitude=139.69, country="JP", merchant_id="jeweller", device_id="his")
    card = hear(remember(*home, thief), label(thief))
    found = seen(card, payment(minute=7060, country="JP", merchant_id="jeweller", device_id="his"))

    assert found.travel.km == pytest.approx(0, abs=0.01)
    assert found.home.km_from_home == pytest.approx(0, abs=0.01)
    assert (found.novelty.new_country, found.parties.new_merchant, found.parties.new_device) == (True, True, True)
    assert (found.parties.merchant_share, found.amounts.habit) == (0.0, 5)


def test_a_card_whose_every_payment_was_fraud_can_still_be_described() -> None:
    past = [payment(minute=number, payee_id="ann", merchant_category="5411", channel=Channel.ONLINE) for number in range(3)]
    card = hear(remember(*past), *(label(txn) for txn in past))
    found = seen(card, payment(minute=9, payee_id="ann", merchant_category="5411"))

    assert (found.amounts.habit, found.amounts.habit_amounts, found.amounts.typical_amount, found.comparisons.amount_to_largest) == (
        0,
        0,
        None,
        None,
    )
    assert (found.hours.hour_share, found.shares.online_share) == (None, None)
    assert found.novelty.category_share is None or found.novelty.category_share <= 1


def test_what_the_ring_no_longer_holds_stays_in_habit_but_is_known_as_fraud() -> None:
    past = [payment(minute=60 * number, amount_minor=900_00 if number == 0 else 10_00) for number in range(RING + 1)]
    card = hear(remember(*past), label(past[0]))

    assert card.habit == remember(*past).habit
    assert card.habit.largest == 900_00
    assert (verdict(card, past[0]).is_fraud, verdict(card, past[0]).is_out) == (True, False)
    again = hear(card, label(past[0], is_fraud=False, after=DAY))
    assert again.habit == card.habit


def test_the_largest_is_that_of_the_payments_that_were_not_taken_out_even_after_they_left_the_ring() -> None:
    past = [payment(minute=60 * number, amount_minor=900_00 if number == 0 else 10_00 + number) for number in range(2 * RING)]
    early = hear(remember(*past[:5]), label(past[0]))

    assert early.habit.largest == 10_04
    assert remember(*past[5:], card=early).habit.largest == 10_63


@pytest.mark.parametrize(
    ("said", "then", "expected", "ignored"),
    [
        ((True, Source.ANALYST, HOUR), (False, Source.ANALYST, DAY), False, None),
        ((True, Source.ANALYST, DAY), (False, Source.ANALYST, HOUR), True, Ignored.WEAKER),
        ((True, Source.ANALYST, HOUR), (False, Source.CHARGEBACK, HOUR), False, None),
        ((False, Source.CUSTOMER, HOUR), (True, Source.CHARGEBACK, 30 * DAY), False, Ignored.WEAKER),
        ((True, Source.ANALYST, HOUR), (True, Source.ANALYST, HOUR), True, Ignored.REPEAT),
        ((False, Source.ANALYST, HOUR), (False, Source.ANALYST, HOUR), False, Ignored.REPEAT),
        ((True, Source.ANALYST, HOUR), (False, Source.ANALYST, HOUR), True, Ignored.WEAKER),
        ((False, Source.ANALYST, HOUR), (True, Source.ANALYST, HOUR), True, None),
        ((True, Source.AUTOMATIC, DAY), (False, Source.ANALYST, HOUR), False, None),
    ],
)
def test_the_stronger_source_wins_then_the_later_word(said: Any, then: Any, expected: bool, ignored: Ignored | None) -> None:
    txn = payment()
    first, second = (label(txn, is_fraud=is_fraud, source=source, after=after) for is_fraud, source, after in (said, then))
    heard = learn_label(hear(None, first), second, 1)

    assert heard.ignored is ignored
    assert verdict(heard.card, txn).is_fraud is expected
    assert verdict(hear(None, second, first), txn) == verdict(heard.card, txn)


def test_only_a_fraud_that_is_new_or_taken_back_goes_on() -> None:
    def step(heard: Heard | None, **said: Any) -> Heard:
        return learn_label(None if heard is None else heard.card, label(payment(), **said), 0)

    def word(heard: Heard) -> bool | None:
        return None if heard.changed is None else heard.changed.is_fraud

    genuine = step(None, is_fraud=False)
    fraud = step(genuine, after=DAY)
    repeated = step(fraud, after=DAY)
    again = step(repeated, source=Source.CHARGEBACK)
    taken_back = step(again, source=Source.CHARGEBACK, is_fraud=False, after=DAY)

    assert [word(each) for each in (genuine, fraud, repeated, again, taken_back)] == [None, True, None, None, False]


def test_what_goes_on_is_what_the_label_says_and_where_the_card_had_been() -> None:
    past = [
        payment(minute=-60 * 24 * 45, merchant_id="long ago"),
        payment(minute=-60 * 24 * 40, merchant_id="regular"),
        payment(minute=-60 * 24 * 20, merchant_id="pump"),
        payment(minute=-60, merchant_id="refused"),
        payment(merchant_id="jeweller"),
        payment(minute=60 * 24 * 5, merchant_id="regular"),
        payment(minute=60 * 24 * 6, merchant_id="after"),
    ]
    card = BLANK
    for txn in past:
        card = learn(card, cased(txn), BLOCKED if txn.merchant_id == "refused" else ALLOWED, 0, card.seen[0] + 1)
    said = label(past[4], after=9 * DAY, device_id="his")

    changed = learn_label(card, said, 0).changed
    assert changed is not None
    assert (changed.merchant_id, changed.device_id) == ("jeweller", "his")
    assert (changed.at, changed.known_at - changed.at) == (past[4].at, 9 * DAY_MS)
    assert changed.visited == ["pump", "regular"]
    unseen = learn_label(None, said, 0).changed
    assert unseen is not None
    assert unseen.visited == []


def test_the_merchant_hears_of_a_fraud_when_a_later_label_names_it_even_a_weaker_one() -> None:
    txn = payment(merchant_id="shop", device_id="his")
    nameless = learn_label(None, label(txn, merchant_id=None, source=Source.CHARGEBACK), 0)
    named = learn_label(nameless.card, label(txn, source=Source.ANALYST), 1)
    device = learn_label(named.card, label(txn, source=Source.ANALYST, device_id="his"), 2)
    again = learn_label(device.card, label(txn, source=Source.ANALYST, device_id="another"), 3)

    assert [where(heard) for heard in (nameless, named, device, again)] == [
        (True, None, None),
        (True, "shop", None),
        (True, None, "his"),
        None,
    ]
    assert named.ignored is Ignored.WEAKER


def test_those_who_heard_of_a_fraud_hear_that_it_is_none_whatever_that_label_says() -> None:
    txn = payment(merchant_id="shop")
    fraud = learn_label(None, label(txn, device_id="his"), 0)
    wrong = replace(label(txn, is_fraud=False, source=Source.CUSTOMER), merchant_id="another", timestamp=txn.timestamp + timedelta(hours=1))
    taken_back = learn_label(fraud.card, wrong, 1)
    anew = learn_label(taken_back.card, label(txn, source=Source.CUSTOMER, after=3 * DAY), 2)

    assert where(taken_back) == (False, "shop", "his")
    assert taken_back.changed is not None
    assert taken_back.changed.at == txn.at
    assert where(anew) == (True, "shop", None)


def test_reports_are_bounded_and_without_one_a_fraud_is_taken_back_where_the_label_says() -> None:
    frauds = [payment(minute=number, transaction_id=f"t{number}", merchant_id="ß" * 64) for number in range(30)]
    card = hear(None, *map(label, frauds))

    kept = [each.payment for each in card.reports]
    assert kept == [id_hash(txn.transaction_id) for txn in frauds[-1:]]
    first = learn_label(card, label(frauds[0], is_fraud=False, source=Source.CUSTOMER, merchant_id="said"), 0)
    assert where(first) == (False, "said", None)
    assert len(hear(None, *(label(payment(transaction_id=f"t{number}")) for number in range(30))).reports) == MOST_REPORTS


def where(heard: Heard) -> tuple[bool, str | None, str | None] | None:
    """What goes on: whether it is a fraud, and who hears so."""
    changed = heard.changed
    return None if changed is None else (changed.is_fraud, changed.merchant_id, changed.device_id)


def test_frauds_count_from_the_moment_they_became_known() -> None:
    one, other, third = (payment(minute=number, transaction_id=f"t{number}") for number in range(3))
    card = hear(None, label(one, after=DAY), label(other, after=3 * DAY), label(third, is_fraud=False))

    assert frauds(card.verdicts, one.at + DAY_MS - 1) == (0, None)
    assert frauds(card.verdicts, one.at + DAY_MS) == (1, one.at + DAY_MS)
    assert frauds(card.verdicts, one.at + 4 * DAY_MS) == (2, other.at + 3 * DAY_MS)
    assert frauds(b"", one.at) == (0, None)


def test_verdicts_are_bounded_and_those_of_the_oldest_payments_go() -> None:
    payments = [payment(minute=number, transaction_id=f"t{number}") for number in range(5000)]
    card = hear(None, *(label(txn) for txn in payments))

    assert len(card.verdicts) == MOST_VERDICTS * VERDICT.size
    assert [each.at for each in unpack(card.verdicts)] == [txn.at for txn in payments[-MOST_VERDICTS:]]
    assert learn_label(card, label(payments[0]), 0).ignored is Ignored.OLD


def test_a_verdict_waits_for_its_card_and_outlives_its_idleness_as_long_as_it_is_new() -> None:
    ttl, txn = 400 * DAY_MS, payment()
    waiting = hear(None, label(txn, after=10 * DAY))
    known_at = txn.at + 10 * DAY_MS

    assert recall(waiting, txn.at, txn.at, ttl) == waiting
    assert remember(txn, card=waiting).habit.payments == 0
    assert not is_idle(encode_card(waiting), known_at + ttl, ttl)
    assert is_idle(encode_card(waiting), known_at + ttl + 1, ttl)
    assert recall(waiting, known_at + ttl, known_at + ttl, ttl).verdicts == waiting.verdicts
    assert recall(waiting, known_at + ttl + 1, known_at + ttl + 1, ttl) == Card(seen=waiting.seen, clock=waiting.clock)

    late = payment(minute=60 * 24 * 401)
    idle = hear(remember(txn), label(late))
    assert remember(late, card=recall(idle, late.at, late.at, ttl)).habit.payments == 0


@given(st.lists(st.tuples(st.text(min_size=1, max_size=64), st.integers(0, 40 * DAY_MS)), max_size=60))
def test_visited_holds_the_names_used_last_whatever_strangers_call_themselves(visits: list[tuple[str, int]]) -> None:
    visited, begin = b"", NOON.timestamp().__int__() * 1000
    for name, after in visits:
        visited = visit(visited, name, begin + after)
    last = list(dict.fromkeys(name for name, _ in reversed(visits)))

    found = visited_before(visited, begin + 40 * DAY_MS + DAY_MS - 1)
    reachable = [name for name in last if max(after for each, after in visits if each == name) >= 11 * DAY_MS]
    kept = [name for name in last if name in set(visited_before(visited, begin + 30 * DAY_MS)) | set(found)]
    assert len(visited) <= MOST_BYTES
    assert len(kept) <= MOST_VISITED
    assert kept == last[: len(kept)]
    assert found == [name for name in reversed(kept) if name in reachable]


def test_a_card_of_the_second_layout_reads_and_its_frauds_stay_in_habit() -> None:
    card = decode_card(bytes.fromhex(LAYOUT_2))
    old = payment(minute=10, amount_minor=99_00)

    assert (card.habit.payments, card.habit.largest) == (2, 99_00)
    assert seen(card, payment(minute=20)).travel.km == pytest.approx(0, abs=0.01)
    assert hear(card, label(old)).habit == card.habit
    newer = payment(minute=30, amount_minor=500_00)
    assert hear(remember(newer, card=card), label(newer)).habit.largest == 99_00
    assert decode_card(encode_card(card)) == card


LAYOUT_2 = (
    "98029301ffffcf0000019cb8c145c0cf0000019cb8b81e0096c410001eb8b89c010000c045c1b89c010000c4020000c40800401c4500b01a46c4084e"
    "31a6224e31a622c400cf0000019cb8c145c093c4022450c40402000000c408000000000038c840dc001602cf0000019cb8c145c002cf000000011063"
    "ae32cf000000091dc6ca41cd26ac01ce6660a515cf000000028f128090c45e0000000000000000000000000000000000000000000000000200000000"
    "000000000000000000000000000000000000000000000002000000000000000000020000000000000000000000000000000200000000000000000000"
    "0000000200cf0000019cb8c145c0c420001eb8b89c010000a87fe90280e32300c045c1b89c010000a87fe90280e3230002ce15094f0ece00dd3124ce"
    "181925e4c4064e31a6220200c400c400c406465200000200c400c40092c41011a0b51fe54556297460cd33173af6a7c42ad804a04000000000000000"
    "00000000000000000000889ea28c0000000000000000000000000000000000"
)
"""Two payments as the version before this one wrote them."""
