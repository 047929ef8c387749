"""Every feature equals a recount from scratch, whatever came before and in whatever order."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegis_app.core import habit
from aegis_app.core.attempts import MOST_EXACT
from aegis_app.core.card import BLANK, LAYOUT, Settled, decode_card, encode_card, id_hash, learn
from aegis_app.core.encoding import category_code, channel_code, country_code, kind_code
from aegis_app.core.features import CATALOGUE, FROM_LABELS, GROUPS, Features
from aegis_app.core.merchant import fold
from aegis_app.core.merchant_events import Credited, Events, Labelled, Paid
from aegis_app.core.payment import Channel, Kind, Outcome, Transaction
from aegis_app.core.rates import Rates
from aegis_app.core.risk import risk
from aegis_app.core.rules import RULES
from aegis_app.core.rules.rule import LEAST_HABIT
from tests.make import NOON, cased, payment, remember, seen
from tests.naive import Event, recount

RATES = Rates("EUR", {"EUR": 1.0, "USD": 1.25, "JPY": 160.0, "KWD": 0.3})
PLACES = [(48.857, 2.352), (48.9, 2.4), (45.764, 4.836), (40.713, -74.006), (-33.869, 151.209)]
GAPS = st.one_of(st.integers(0, 120), st.integers(0, 7200), st.integers(0, 4 * 86_400))


@st.composite
def pasts(draw: st.DrawFn) -> list[tuple[Transaction, Outcome]]:
    """Payments of a card in order of arrival, some late, and the verdict about each."""
    past, now = [], NOON
    for number in range(draw(st.integers(1, 25))):
        now += timedelta(seconds=draw(GAPS), milliseconds=draw(st.integers(0, 999)))
        late = draw(st.sampled_from([0, 0, 0, 0, 30, 600, 3000, 80_000]))
        place: Any = draw(st.sampled_from([None, *PLACES]))
        kind = draw(st.sampled_from([Kind.PURCHASE, Kind.PURCHASE, Kind.PURCHASE, *Kind]))
        txn = payment(
            transaction_id=f"t{number}",
            timestamp=now - timedelta(seconds=late),
            amount_minor=draw(st.one_of(st.integers(0, 300), st.integers(0, 500_00))),
            currency=draw(st.sampled_from(["EUR", "EUR", "EUR", "USD", "JPY", "KWD", "XAF"])),
            kind=kind,
            channel=draw(st.sampled_from([None, *Channel])),
            merchant_id=draw(st.sampled_from([None, "baker", "grocer", "smith"])),
            merchant_category=draw(st.sampled_from([None, "5411", "5812"])),
            payee_id=draw(st.sampled_from([None, "ann", "bob"])),
            device_id=draw(st.sampled_from([None, "phone", "laptop"])),
            country=draw(st.sampled_from([None, "FR", "DE", "US"])),
            home_country=draw(st.sampled_from([None, "FR"])),
            latitude=None if place is None else place[0],
            longitude=None if place is None else place[1],
            attributes=draw(st.sampled_from([{}, {"balance_minor": 1000.0}, {"balance_minor": 0.0}])),
        )
        past.append((txn, draw(st.sampled_from([Outcome.ALLOW, Outcome.ALLOW, *Outcome]))))
    return past


@given(pasts())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_every_feature_equals_a_recount_from_scratch(past: list[tuple[Transaction, Outcome]]) -> None:
    card, events = BLANK, list[Event]()
    for number, (txn, verdict) in enumerate(past):
        case = cased(txn, rates=RATES)
        found = Features(card, case).named()
        expected = recount(events, case)

        if case.at < max((event.case.at for event in events), default=0):
            # Late: what was tried last before it may be forgotten, and so may the oldest of its days.
            for name in ("seconds_since_last", "per_active_day"):
                del found[name], expected[name]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == (value if value is None else pytest.approx(value, rel=1e-4, abs=0.03)), (name, number)

        card = decode_card(encode_card(learn(card, case, Settled(verdict, verdict, 0.5, 0), 0, number)))
        events.append(Event(case, verdict))


def test_every_feature_says_its_unit_its_meaning_and_when_it_is_null() -> None:
    for kind in GROUPS.values():
        for name, described in msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"].items():
            assert described["description"], name
            nullable = any(each.get("type") == "null" for each in described.get("anyOf", ()))
            assert nullable == (described["null"] != "never"), name
            assert described["unit"], name
    assert len(CATALOGUE) == sum(len(kind.__struct_fields__) for kind in GROUPS.values()) >= 55


def test_a_group_of_features_is_found_when_it_is_asked_for_and_once() -> None:
    found = seen(remember(payment()), payment(minute=1))

    assert found.counts is found.counts
    assert {"novelty", "month", "comparisons"}.isdisjoint(vars(found))


def test_habit_is_unknown_to_rules_until_it_is_known() -> None:
    young = remember(*(payment(minute=1500 * number) for number in range(LEAST_HABIT - 1)))
    odd = payment(minute=1500 * LEAST_HABIT, amount_minor=9999_00, country="US", device_id="new", merchant_id="new", payee_id="new")

    hits = [rule.name for rule in RULES if not isinstance(rule.function(odd, seen(young, odd), rule.limits()), str)]

    assert hits == []


def test_amounts_that_were_never_compared_are_no_habit() -> None:
    card = remember(*(payment(minute=1500 * number, currency="USD") for number in range(20)), payment(minute=1500 * 20, amount_minor=100))
    odd = payment(minute=1500 * 21, amount_minor=9999_00, device_id="new", country="US")

    assert seen(card, odd).amounts.habit == 21
    assert seen(card, odd).amounts.habit_amounts == 1
    assert [rule.name for rule in RULES if not isinstance(rule.function(odd, seen(card, odd), rule.limits()), str)] == []


def test_more_attempts_than_are_kept_exactly_are_never_undercounted() -> None:
    card = remember(*(payment(seconds=20 * number, transaction_id=f"t{number}", merchant_id=f"m{number}") for number in range(1000)))
    found = seen(card, payment(seconds=20_000))

    assert found.counts.saturated
    assert found.counts.attempts_24h == 1000
    assert found.money.money_24h == 1000 * 25_00
    assert MOST_EXACT < (found.counts.small_24h or 0) + MOST_EXACT <= 1000
    assert 179 <= (found.counts.attempts_1h or 0) <= 195


def test_money_in_a_window_is_unknown_where_a_rate_was_missing() -> None:
    card = remember(payment(currency="XAF"), payment(minute=30))

    assert seen(card, payment(minute=31)).money.money_1h is None
    assert seen(card, payment(minute=31)).money.money_10m == 25_00
    assert seen(card, payment(minute=60 * 24 * 3)).money.money_24h == 0
    assert seen(card, payment(minute=60 * 24 * 3)).month.money_7d is None
    assert seen(card, payment(minute=60 * 24 * 40)).month.money_30d == 0


def test_a_large_amount_is_remembered_never_too_small() -> None:
    amount = (1 << 24) * 3 + 1
    card = remember(payment(amount_minor=amount))
    money = seen(card, payment(minute=1)).money.money_1h

    assert money is not None
    assert amount <= money <= amount * 1.0000003


def test_amounts_of_other_currencies_are_compared_in_the_base_currency() -> None:
    card = remember(*(payment(minute=1500 * number) for number in range(6)))
    yen = cased(payment(minute=9000, amount_minor=8000, currency="JPY"), rates=RATES)

    assert Features(card, yen).amounts.amount == 50_00
    assert Features(card, yen).amounts.amount_ratio == pytest.approx(2)


def test_home_is_the_middle_of_trusted_places() -> None:
    home = [payment(minute=1500 * number) for number in range(9)]
    card = remember(*home, payment(minute=1500 * 9, latitude=45.764, longitude=4.836))

    assert seen(card, payment(minute=1500 * 10)).home.km_from_home == pytest.approx(39, abs=2)
    assert seen(card, payment(minute=1500 * 10, channel=Channel.ONLINE)).home.km_from_home is None


def test_names_become_numbers_that_never_change_and_zero_is_unknown() -> None:
    assert [kind_code(kind) for kind in Kind] == [1, 2, 3, 4, 5, 6, 7]
    assert [channel_code(channel) for channel in (None, *Channel)] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert [country_code(code) for code in (None, "AA", "FR", "ZZ")] == [0, 1, 148, 676]
    assert [category_code(name) for name in (None, "5411", "0000", "shopping_net")] == [0, 5411, 0, 10_090]


def test_shares_stay_what_they_are_when_a_tally_is_full() -> None:
    card = BLANK
    night, noon = payment(minute=-600, transaction_id="night"), payment(transaction_id="noon")
    for txn in [night, noon, noon, noon] * 17_500:
        card = msgspec.structs.replace(card, habit=habit.learn(card.habit, cased(txn), txn.at, id_hash(txn.transaction_id))[0])

    assert card.habit.payments == 70_000
    assert seen(card, noon).hours.hour_share == pytest.approx(0.75, abs=0.001)
    assert seen(card, noon).shares.kind_share == pytest.approx(1, abs=0.001)
    assert seen(card, noon).parties.merchant_share == pytest.approx(65_535 / 70_000)
    assert len(encode_card(card)) < 1024


def test_a_card_of_the_first_layout_keeps_what_it_knew() -> None:
    raw = bytes.fromhex(LAYOUT_1)
    card = decode_card(raw)
    found = seen(card, payment(minute=20))

    assert card.layout == LAYOUT
    assert card.seen == (2, -1, -1)
    assert (found.counts.attempts_1h, found.month.attempts_30d, found.amounts.habit, found.parties.new_merchant) == (3, 3, 3, False)
    assert found.travel.km == pytest.approx(0, abs=0.01)
    assert found.money.money_1h is None  # it did not remember any
    assert decode_card(encode_card(card)) == card


LAYOUT_1 = (
    "dc0014019302ffffcf0000019cb8c05b60c418001eb8b89c010000e0b1bcb89c010000605bc0b89c010000c403000000c400c4022450c40403000000"
    "c430001eb8b89c010000a87fe90280e32300e0b1bcb89c010000a87fe90280e32300605bc0b89c010000a87fe90280e3230003a345555203ce01778d"
    "e1ce0b7a5a7acd09c4c4044e31a622c40452627adec4024652c41811a0b51fe54556297d9307133363083ce32501083f00d417c43fd804a040000000"
    "0000000000000000000000000000f1e3b14c000000000000000000000000000000000015f4d9930000000000000000000000000000000000"
)
"""Three payments as version 0.1 wrote them."""


def test_what_is_known_elsewhere_describes_payments_there() -> None:
    day = 24 * 60
    paid = Paid(0, payment(minute=-10 * day).at, 1, 200, True, 7, True, 300, 1)
    later = msgspec.structs.replace(paid, offset=1, at=payment(minute=-5).at, card=8, unusual=500)
    told: list[Paid | Labelled | Credited] = [Labelled(0, paid.at, payment(minute=-day).at, 1), Credited(0, payment(minute=-day).at, 1, 9)]
    baker = risk(fold(fold(None, Events(0, 0, [paid, later])), Events(1, 0, told)))
    phone = risk(fold(None, Events(0, 0, [paid, later])))
    card = remember(payment(minute=-20 * day), payment(minute=-19 * day, merchant_id="other"))

    found = seen(card, payment(device_id="phone"), merchants={"baker": baker}, credited={"baker"}, devices={"phone": phone})

    merchant = found.merchant
    assert (merchant.merchant_payments_10m, merchant.merchant_payments_1h, merchant.merchant_cards_1h) == (1, 1, 1)
    assert (merchant.merchant_small_1h, merchant.merchant_refused_1h, merchant.merchant_first_1h, merchant.merchant_money_1h) == (
        1,
        1,
        1,
        200,
    )
    assert (merchant.merchant_unusual_1h, merchant.merchant_seconds_since_last) == (500, 300)
    assert merchant.merchant_age_days == 10
    days = found.merchant_days
    assert (days.merchant_payments_1d, days.merchant_payments_7d, days.merchant_payments_30d) == (1, 1, 2)
    assert (days.merchant_unusual_1d, days.merchant_unusual_30d) == (500, 400)
    frauds = found.merchant_frauds
    assert (frauds.merchant_frauds_1d, frauds.merchant_frauds_7d, frauds.merchant_frauds_30d) == (0, 1, 1)
    assert (frauds.merchant_frauds_known_1d, frauds.merchant_frauds_known_7d, frauds.merchant_credits_30d) == (0, 1, 1)
    assert found.merchant_rates.merchant_fraud_rate_30d == pytest.approx(1.1 / 21)
    assert found.compromise.recent_credits_30d == 1
    assert (found.device.device_cards_7d, found.device.device_frauds_known_30d) == (1, 0)
    assert {"card_frauds", "merchant_fraud_rate_7d", "device_frauds_known_30d"} <= FROM_LABELS
    assert {"merchant_payments_1h", "amount", "device_cards_7d"}.isdisjoint(FROM_LABELS)
