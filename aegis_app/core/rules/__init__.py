"""The rule book: every rule, in one tuple, in the order of its permanent codes (append only)."""

from typing import Final

from aegis_app.core.rules.amount import AmountSpike, NewCountryHighAmount, amount_spike, new_country_high_amount
from aegis_app.core.rules.rule import CLEAR, UNKNOWN, Check, Failed, Hit, Limits, Rule
from aegis_app.core.rules.testing import CardTesting, card_testing
from aegis_app.core.rules.travel import ImpossibleTravel, impossible_travel
from aegis_app.core.rules.velocity import (
    Velocity1h,
    Velocity1m,
    Velocity10m,
    Velocity24h,
    velocity_1h,
    velocity_1m,
    velocity_10m,
    velocity_24h,
)

__all__ = ["CLEAR", "RULES", "UNKNOWN", "Check", "Failed", "Hit", "Limits", "Rule"]

RULES: Final = (
    Rule(velocity_1m, Velocity1m),
    Rule(velocity_10m, Velocity10m),
    Rule(velocity_1h, Velocity1h),
    Rule(velocity_24h, Velocity24h),
    Rule(impossible_travel, ImpossibleTravel),
    Rule(amount_spike, AmountSpike),
    Rule(new_country_high_amount, NewCountryHighAmount),
    Rule(card_testing, CardTesting),
)
