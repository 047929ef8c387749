"""The rule book: every rule, in one tuple, in the order in which they came (append only)."""

from typing import Final

from aegis_app.core.rules import amount, elsewhere, testing, travel, velocity
from aegis_app.core.rules.rule import CLEAR, UNKNOWN, Check, Failed, Hit, Limits, Rule

__all__ = ["CLEAR", "RULES", "UNKNOWN", "Check", "Failed", "Hit", "Limits", "Rule"]

RULES: Final = (
    Rule(velocity.velocity_1m, velocity.Velocity1m),
    Rule(velocity.velocity_10m, velocity.Velocity10m),
    Rule(velocity.velocity_1h, velocity.Velocity1h),
    Rule(velocity.velocity_24h, velocity.Velocity24h),
    Rule(travel.impossible_travel, travel.ImpossibleTravel),
    Rule(amount.amount_spike, amount.AmountSpike),
    Rule(amount.new_country_high_amount, amount.NewCountryHighAmount),
    Rule(testing.card_testing, testing.CardTesting),
    Rule(amount.far_above_largest, amount.FarAboveLargest),
    Rule(amount.strange_merchant, amount.StrangeMerchant),
    Rule(amount.local_then_transfer, amount.LocalThenTransfer),
    Rule(velocity.many_merchants, velocity.ManyMerchants),
    Rule(amount.new_device_high_amount, amount.NewDeviceHighAmount),
    Rule(testing.tested_then_large, testing.TestedThenLarge),
    Rule(amount.account_drained, amount.AccountDrained),
    Rule(amount.recurring_changed, amount.RecurringChanged),
    Rule(travel.cash_far_from_home, travel.CashFarFromHome),
    Rule(testing.many_refused, testing.ManyRefused),
    Rule(elsewhere.merchant_testing, elsewhere.MerchantTesting, of_others=True),
    Rule(elsewhere.merchant_burst, elsewhere.MerchantBurst, of_others=True),
    Rule(elsewhere.merchant_frauds, elsewhere.MerchantFrauds, of_others=True),
    Rule(elsewhere.device_many_cards, elsewhere.DeviceManyCards, of_others=True),
    Rule(elsewhere.card_confirmed_fraud, elsewhere.CardConfirmedFraud),
)
