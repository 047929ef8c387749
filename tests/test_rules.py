"""Each rule at its boundaries: just below, just above, unknown, zero. And the rule book as a whole."""

from typing import Any

import pytest

from aegis_app.core.decision import CODES
from aegis_app.core.payment import Channel, Kind
from aegis_app.core.rules import CLEAR, RULES, UNKNOWN, Failed, Hit, Limits, Rule
from tests.make import features, payment

BY_NAME = {rule.name: rule for rule in RULES}


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
        ("amount_spike", {}, {"amount_ratio": 9.0, "amount_z": None, "habit": 5}, "25.00 EUR; this card's usual is 25.00 EUR"),
        ("amount_spike", {}, {"amount_ratio": 9.0, "amount_z": 5.0, "habit": 4}, UNKNOWN),
        ("amount_spike", {}, {"amount_ratio": None}, UNKNOWN),
        ("amount_spike", {"amount_minor": 0}, {"amount_ratio": 0.0}, CLEAR),
        ("amount_spike", {"kind": Kind.REFUND}, {"amount_ratio": 99.0, "amount_z": 9.0}, CLEAR),
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
        ("new_country_high_amount", {}, {"new_country": True, "amount_ratio": 50.0, "habit": 4}, UNKNOWN),
        ("card_testing", {"amount_minor": 2_00}, {"small_1h": 2}, CLEAR),
        ("card_testing", {"amount_minor": 2_00}, {"small_1h": 3}, "4 verifications or tiny amounts within an hour"),
        ("card_testing", {"amount_minor": 2_00}, {"small_1h": None}, UNKNOWN),
        ("card_testing", {"amount_minor": 2_01}, {"small_1h": 3}, CLEAR),
        ("card_testing", {"kind": Kind.VERIFICATION, "amount_minor": 0}, {"small_1h": 3}, "4 verifications or tiny amounts within an hour"),
        ("card_testing", {"amount_minor": 200, "currency": "JPY"}, {"small_1h": 3}, CLEAR),
        ("card_testing", {"amount_minor": 2, "currency": "JPY"}, {"small_1h": 3}, "4 verifications or tiny amounts within an hour"),
    ],
)
def test_a_rule_at_its_boundary(name: str, txn: dict[str, Any], known: dict[str, Any], expected: str) -> None:
    rule = BY_NAME[name]

    found = rule.check(payment(**txn), features(**known), rule.limits())

    assert found == (expected if expected in {CLEAR, UNKNOWN} else Hit(expected))


def test_names_and_codes_are_permanent() -> None:
    assert CODES == (
        "velocity_1m",
        "velocity_10m",
        "velocity_1h",
        "velocity_24h",
        "impossible_travel",
        "amount_spike",
        "new_country_high_amount",
        "card_testing",
        "rule_failed",
    )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_says_in_one_line_what_it_finds(rule: Rule) -> None:
    assert rule.text.endswith(".")
    assert len(rule.text) < 100


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_limit_says_what_it_means_and_has_a_default(rule: Rule) -> None:
    rule.limits()
    import msgspec

    for field in msgspec.json.schema(rule.limits)["$defs"][rule.limits.__name__]["properties"].values():
        assert field["description"]


def test_a_broken_rule_is_a_finding() -> None:
    def broken(txn: object, seen: object, limit: object) -> Any:
        """Break."""
        return 1 / 0

    assert Rule(broken, Limits).check(payment(channel=Channel.ONLINE), features(), Limits()) == Failed(
        "broken", "ZeroDivisionError: division by zero"
    )
