"""Amounts that do not fit the card."""

from typing import Annotated

from msgspec import Meta

from aegis_app.core.features import Features
from aegis_app.core.payment import GIVES_BACK, Transaction, money
from aegis_app.core.rules.rule import CLEAR, LEAST_HABIT, UNKNOWN, Check, Hit, Limits

Times = Annotated[float, Meta(gt=1, description="times the card's typical amount")]


class AmountSpike(Limits, frozen=True):
    times: Times = 8.0
    deviations: Annotated[float, Meta(ge=0, description="standard deviations above the card's mean, of log amount")] = 3.0


class NewCountryHighAmount(Limits, frozen=True):
    times: Times = 3.0


def amount_spike(txn: Transaction, seen: Features, limit: AmountSpike) -> Check:
    """Amount far above what this card usually spends."""
    if seen.habit < LEAST_HABIT or seen.amount_ratio is None:
        return UNKNOWN
    if txn.kind in GIVES_BACK or seen.amount_ratio <= limit.times:
        return CLEAR
    if seen.amount_z is not None and seen.amount_z <= limit.deviations:
        return CLEAR
    return Hit(_against_habit(txn, seen))


def new_country_high_amount(txn: Transaction, seen: Features, limit: NewCountryHighAmount) -> Check:
    """High amount, with the card present, in a country where it was never used."""
    if seen.habit < LEAST_HABIT or seen.new_country is None or seen.amount_ratio is None:
        return UNKNOWN
    # From afar, a foreign shop is nothing strange: most hits on those were genuine.
    if txn.kind in GIVES_BACK or not (seen.new_country and txn.is_card_present) or seen.amount_ratio <= limit.times:
        return CLEAR
    return Hit(f"first payment in {txn.country}: {_against_habit(txn, seen)}")


def _against_habit(txn: Transaction, seen: Features) -> str:
    usual = "unknown" if seen.typical_amount is None else money(seen.typical_amount, txn.currency)
    return f"{money(txn.amount_minor, txn.currency)}; this card's usual is {usual}"
