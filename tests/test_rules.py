"""Each rule at its boundaries: just below, just above, unknown, zero. And the rule book as a whole."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegis_app.core.decision import CODES
from aegis_app.core.payment import Channel, Kind
from aegis_app.core.rules import CLEAR, RULES, UNKNOWN, Hit, Rule
from tests.make import features, payment

GOLDEN = Path(__file__).parent / "golden"
BY_NAME = {rule.name: rule for rule in RULES}
TRANSFER: dict[str, Any] = {"kind": Kind.TRANSFER, "channel": Channel.ONLINE}
RECURRING = {"channel": Channel.RECURRING}
CASH = {"channel": Channel.ATM}
TINY = {"amount_minor": 100}
TESTED = {"merchant_small_1h": 8, "merchant_payments_1h": 16, "merchant_first_1h": 8}
BURST: dict[str, Any] = {"merchant_payments_1h": 8, "merchant_unusual_1h": 450, "merchant_unusual_30d": 225.0, "new_merchant": True}


@pytest.mark.parametrize(
    ("name", "txn", "known", "expected"),
    [
        ("velocity_1m", {}, {"attempts_1m": 3}, CLEAR),
        ("velocity_1m", {}, {"attempts_1m": 4}, "5 payments in a minute; this card's usual is 1.4 a day"),
        ("velocity_1m", {}, {"attempts_1m": None}, UNKNOWN),
        ("velocity_10m", {}, {"attempts_10m": 5}, CLEAR),
        ("velocity_10m", {}, {"attempts_10m": 6}, "7 payments in 10 minutes; this card's usual is 1.4 a day"),
        ("velocity_10m", {}, {"attempts_10m": 6, "per_active_day": None}, "7 payments in 10 minutes; its first day"),
        ("velocity_1h", {}, {"attempts_1h": 11}, CLEAR),
        ("velocity_1h", {}, {"attempts_1h": 12}, "13 payments in an hour; this card's usual is 1.4 a day"),
        ("velocity_24h", {}, {"attempts_24h": 29}, CLEAR),
        ("velocity_24h", {}, {"attempts_24h": 30}, "31 payments in 24 hours; this card's usual is 1.4 a day"),
        ("velocity_24h", {}, {"attempts_24h": 900, "saturated": True}, "at least 901 payments in 24 hours; this card's usual is 1.4 a day"),
        ("impossible_travel", {}, {"km": 5000.0, "kmh": 1000.0}, CLEAR),
        ("impossible_travel", {}, {"km": 5000.0, "kmh": 1000.1}, "5,000 km from the last payment, which takes 1,000 km/h"),
        ("impossible_travel", {}, {"km": 100.0, "kmh": 6000.0}, CLEAR),
        ("impossible_travel", {}, {"km": None, "kmh": None}, UNKNOWN),
        ("impossible_travel", {}, {"km": 0.0, "kmh": 0.0}, CLEAR),
        ("amount_spike", {"amount_minor": 200_00}, {"amount_ratio": 8.0, "amount_z": 5.0}, CLEAR),
        (
            "amount_spike",
            {"amount_minor": 201_00},
            {"amount_ratio": 8.04, "amount_z": 5.0},
            "201.00 EUR; this card's usual is 25.00 EUR",
        ),
        ("amount_spike", {}, {"amount_ratio": 9.0, "amount_z": 3.0}, CLEAR),
        ("amount_spike", {}, {"amount_ratio": 9.0, "amount_z": None, "habit_amounts": 5}, "25.00 EUR; this card's usual is 2.78 EUR"),
        ("amount_spike", {}, {"amount_ratio": 9.0, "amount_z": 5.0, "habit_amounts": 4}, UNKNOWN),
        ("amount_spike", {}, {"amount_ratio": None}, UNKNOWN),
        ("amount_spike", {"amount_minor": 0}, {"amount_ratio": 0.0}, CLEAR),
        ("new_country_high_amount", {"country": "US"}, {"new_country": True, "amount_ratio": 3.0}, CLEAR),
        (
            "new_country_high_amount",
            {"country": "US", "amount_minor": 76_00},
            {"new_country": True, "amount_ratio": 3.04},
            "first payment in US: 76.00 EUR; this card's usual is 25.00 EUR",
        ),
        ("new_country_high_amount", {"channel": Channel.ONLINE}, {"new_country": True, "amount_ratio": 9.0}, CLEAR),
        ("new_country_high_amount", {}, {"new_country": False, "amount_ratio": 50.0}, CLEAR),
        ("new_country_high_amount", {}, {"new_country": None, "amount_ratio": 50.0}, UNKNOWN),
        ("new_country_high_amount", {}, {"new_country": True, "amount_ratio": 50.0, "habit_amounts": 4}, UNKNOWN),
        ("card_testing", {"amount_minor": 2_00}, {"small_1h": 2}, CLEAR),
        ("card_testing", {"amount_minor": 2_00}, {"small_1h": 3}, "4 verifications or tiny amounts within an hour"),
        ("card_testing", {"amount_minor": 2_00}, {"small_1h": None}, UNKNOWN),
        ("card_testing", {"amount_minor": 2_01}, {"small_1h": 3}, CLEAR),
        ("card_testing", {"kind": Kind.VERIFICATION, "amount_minor": 0}, {"small_1h": 3}, "4 verifications or tiny amounts within an hour"),
        ("card_testing", {"amount_minor": 200, "currency": "JPY"}, {"small_1h": 3}, CLEAR),
        ("card_testing", {"amount_minor": 2, "currency": "JPY"}, {"small_1h": 3}, "4 verifications or tiny amounts within an hour"),
        ("far_above_largest", {"amount_minor": 400_00}, {"amount": 400_00, "amount_to_largest": 4.0}, CLEAR),
        ("far_above_largest", {}, {"amount": 199_99, "amount_to_largest": 9.0}, CLEAR),
        (
            "far_above_largest",
            {"amount_minor": 410_00},
            {"amount": 410_00, "amount_to_largest": 4.1},
            "410.00 EUR, 4.1 times the largest before",
        ),
        ("far_above_largest", {}, {"amount": 410_00, "amount_to_largest": None}, UNKNOWN),
        ("far_above_largest", {}, {"amount": 410_00, "amount_to_largest": 4.1, "habit_amounts": 4}, UNKNOWN),
        ("strange_merchant", {}, {"habit": 30, "new_merchant": True, "hour_share": 0.02, "amount_ratio": 9.0}, CLEAR),
        (
            "strange_merchant",
            {"amount_minor": 100_00},
            {"habit": 30, "new_merchant": True, "hour_share": 0.0, "amount_ratio": 4.0},
            "a merchant never used before, at 12:00, near which 0.0% of the card's payments lie: "
            "100.00 EUR; this card's usual is 25.00 EUR",
        ),
        ("strange_merchant", {}, {"habit": 30, "new_merchant": True, "hour_share": 0.0, "amount_ratio": 3.0}, CLEAR),
        ("strange_merchant", {}, {"habit": 30, "new_merchant": False, "hour_share": 0.0, "amount_ratio": 9.0}, CLEAR),
        ("strange_merchant", {}, {"habit": 30, "new_merchant": None, "hour_share": 0.0, "amount_ratio": 9.0}, UNKNOWN),
        ("strange_merchant", {}, {"habit": 29, "new_merchant": True, "hour_share": 0.0, "amount_ratio": 9.0}, UNKNOWN),
        ("local_then_transfer", {}, {"new_payee": True, "amount_ratio": 99.0, "seconds_since_present": 60.0}, CLEAR),
        ("local_then_transfer", TRANSFER, {"new_payee": True, "amount_ratio": 8.0, "seconds_since_present": 60.0}, CLEAR),
        ("local_then_transfer", TRANSFER, {"new_payee": True, "amount_ratio": 9.0, "seconds_since_present": 3601.0}, CLEAR),
        ("local_then_transfer", TRANSFER, {"new_payee": True, "amount_ratio": 9.0, "seconds_since_present": None}, CLEAR),
        ("local_then_transfer", TRANSFER, {"new_payee": False, "amount_ratio": 9.0, "seconds_since_present": 60.0}, CLEAR),
        ("local_then_transfer", TRANSFER, {"new_payee": True, "amount_ratio": None, "seconds_since_present": 60.0}, UNKNOWN),
        (
            "local_then_transfer",
            TRANSFER | {"amount_minor": 250_00},
            {"new_payee": True, "amount_ratio": 10.0, "seconds_since_present": 3600.0},
            "a payee never paid before, 60 minutes after a payment with the card itself: 250.00 EUR; this card's usual is 25.00 EUR",
        ),
        ("many_merchants", {}, {"merchants_10m": 3}, CLEAR),
        ("many_merchants", {}, {"merchants_10m": 4}, "payments at 4 merchants in the 10 minutes before"),
        ("many_merchants", {}, {"merchants_10m": None}, UNKNOWN),
        ("new_device_high_amount", {}, {"new_device": True, "amount_ratio": 5.0}, CLEAR),
        (
            "new_device_high_amount",
            {"amount_minor": 150_00},
            {"new_device": True, "amount_ratio": 6.0},
            "a device never used before: 150.00 EUR; this card's usual is 25.00 EUR",
        ),
        ("new_device_high_amount", {}, {"new_device": False, "amount_ratio": 99.0}, CLEAR),
        ("new_device_high_amount", {}, {"new_device": None, "amount_ratio": 99.0}, UNKNOWN),
        ("new_device_high_amount", {}, {"new_device": True, "amount_ratio": 99.0, "habit_amounts": 4}, UNKNOWN),
        ("tested_then_large", {}, {"small_1h": 2, "amount_to_smallest_1h": 99.0}, CLEAR),
        ("tested_then_large", {}, {"small_1h": 3, "amount_to_smallest_1h": 50.0}, CLEAR),
        ("tested_then_large", {}, {"small_1h": 3, "amount_to_smallest_1h": None}, CLEAR),
        ("tested_then_large", {}, {"small_1h": None, "amount_to_smallest_1h": 99.0}, UNKNOWN),
        ("tested_then_large", {"amount_minor": 2_00}, {"small_1h": 3, "amount_to_smallest_1h": 99.0}, CLEAR),
        (
            "tested_then_large",
            {},
            {"small_1h": 3, "amount_to_smallest_1h": 50.1},
            "25.00 EUR after 3 verifications or tiny amounts within an hour",
        ),
        ("account_drained", {}, {"amount": 900_00, "balance_share": 1.0}, CLEAR),
        ("account_drained", TRANSFER, {"amount": 900_00, "balance_share": 0.89}, CLEAR),
        ("account_drained", TRANSFER, {"amount": 499_99, "balance_share": 1.0}, CLEAR),
        ("account_drained", TRANSFER, {"amount": 900_00, "balance_share": None}, UNKNOWN),
        (
            "account_drained",
            TRANSFER | {"amount_minor": 500_00},
            {"amount": 500_00, "balance_share": 0.9},
            "500.00 EUR, 90% of the balance",
        ),
        ("recurring_changed", {}, {"recurring_ratio": 9.0}, CLEAR),
        ("recurring_changed", RECURRING, {"recurring_ratio": 1.5}, CLEAR),
        ("recurring_changed", RECURRING, {"recurring_ratio": 1.6}, "25.00 EUR, 1.6 times the last one to this merchant"),
        ("recurring_changed", RECURRING, {"recurring_ratio": 0.5}, "25.00 EUR, 0.5 times the last one to this merchant"),
        ("recurring_changed", RECURRING, {"recurring_ratio": None}, UNKNOWN),
        ("cash_far_from_home", {}, {"km_from_home": 900.0, "new_country": True}, CLEAR),
        ("cash_far_from_home", CASH, {"km_from_home": 200.0, "new_country": True, "amount_ratio": 4.0}, CLEAR),
        ("cash_far_from_home", CASH, {"km_from_home": 900.0, "new_country": False, "amount_ratio": 4.0}, CLEAR),
        ("cash_far_from_home", CASH, {"km_from_home": 900.0, "new_country": True, "amount_ratio": 3.0}, CLEAR),
        ("cash_far_from_home", CASH, {"km_from_home": None, "new_country": True}, UNKNOWN),
        (
            "cash_far_from_home",
            CASH,
            {"km_from_home": 900.4, "new_country": True, "amount_ratio": 4.0},
            "25.00 EUR in cash, 900 km from home, first payment in FR",
        ),
        ("many_refused", {}, {"refused_24h": 2}, CLEAR),
        ("many_refused", {}, {"refused_24h": 3}, "3 attempts in the 24 hours before were to be blocked"),
        ("many_refused", {}, {"refused_24h": None}, UNKNOWN),
        ("merchant_testing", TINY, TESTED | {"merchant_small_1h": 7}, CLEAR),
        ("merchant_testing", {}, TESTED, CLEAR),
        ("merchant_testing", TINY | {"merchant_id": None}, TESTED, CLEAR),
        ("merchant_testing", TINY, TESTED | {"merchant_payments_1h": 17}, CLEAR),
        ("merchant_testing", TINY, TESTED | {"merchant_first_1h": 7}, CLEAR),
        ("merchant_testing", TINY, TESTED | {"merchant_small_1h": None}, UNKNOWN),
        (
            "merchant_testing",
            TINY,
            TESTED,
            "8 of 16 payments at this merchant within an hour are verifications or tiny amounts, 8 by cards new to it",
        ),
        ("merchant_burst", {}, BURST | {"merchant_payments_1h": 7}, CLEAR),
        ("merchant_burst", {}, BURST | {"merchant_unusual_1h": 449}, CLEAR),
        ("merchant_burst", {}, BURST | {"merchant_unusual_30d": 226.0}, CLEAR),
        ("merchant_burst", {}, BURST | {"new_merchant": False}, CLEAR),
        ("merchant_burst", {"merchant_id": None}, BURST, CLEAR),
        ("merchant_burst", {}, BURST | {"merchant_unusual_1h": None}, UNKNOWN),
        ("merchant_burst", {}, BURST | {"merchant_unusual_30d": None}, UNKNOWN),
        (
            "merchant_burst",
            {},
            BURST,
            "8 payments at this merchant within an hour, unusual for their cards by 450 of 1000; its usual is 225",
        ),
        ("merchant_frauds", {}, {"merchant_frauds_known_30d": 2, "merchant_payments_30d": 3}, CLEAR),
        ("merchant_frauds", {}, {"merchant_frauds_known_30d": 3, "merchant_payments_30d": 61}, CLEAR),
        ("merchant_frauds", {}, {"merchant_frauds_known_30d": None}, UNKNOWN),
        (
            "merchant_frauds",
            {},
            {"merchant_frauds_known_30d": 3, "merchant_payments_30d": 60},
            "3 frauds at this merchant became known within 30 days, which had 60 payments",
        ),
        ("device_many_cards", {"device_id": "phone"}, {"device_cards_7d": 4}, CLEAR),
        ("device_many_cards", {"device_id": "phone"}, {"device_cards_7d": None}, UNKNOWN),
        ("device_many_cards", {}, {"device_cards_7d": 9}, CLEAR),
        ("device_many_cards", {"device_id": "phone"}, {"device_cards_7d": 5}, "5 cards were used with this device within 7 days"),
        ("card_confirmed_fraud", {}, {"card_frauds": 0, "days_since_card_fraud": None}, CLEAR),
        ("card_confirmed_fraud", {}, {"card_frauds": 1, "days_since_card_fraud": 30.1}, CLEAR),
        (
            "card_confirmed_fraud",
            {},
            {"card_frauds": 2, "days_since_card_fraud": 30.0},
            "a fraud of this card became known 30.0 days ago, 2 in all",
        ),
    ],
)
def test_a_rule_at_its_boundary(name: str, txn: dict[str, Any], known: dict[str, Any], expected: str) -> None:
    rule = BY_NAME[name]

    found = rule.function(payment(**txn), features(**known), rule.limits())

    assert found == (expected if expected in {CLEAR, UNKNOWN} else Hit(expected))


def test_codes_are_permanent_and_name_every_rule() -> None:
    assert list(CODES) == (GOLDEN / "reason_codes.txt").read_text().split(), "append new ones to the file; never change what stands there"
    assert [rule.name for rule in RULES] == [code for code in CODES if code in BY_NAME]


def test_limits_and_their_defaults_are_what_they_were() -> None:
    assert "".join(described(rule) for rule in RULES) == (GOLDEN / "limits.txt").read_text()


def described(rule: Rule) -> str:
    limits = " ".join(f"{name}={value}" for name, value in msgspec.structs.asdict(rule.limits()).items())
    return f"{rule.name}: {limits}\n"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_says_in_one_line_what_it_finds(rule: Rule) -> None:
    assert rule.text.endswith(".")
    assert len(rule.text) < 100


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_limit_says_what_it_means_and_has_a_default(rule: Rule) -> None:
    rule.limits()
    for field in msgspec.json.schema(rule.limits)["$defs"][rule.limits.__name__]["properties"].values():
        assert field["description"]
