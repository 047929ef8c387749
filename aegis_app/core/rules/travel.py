"""A card cannot be in two places."""

from typing import Annotated, Final

from msgspec import Meta

from aegis_app.core.features import Features
from aegis_app.core.payment import Channel, Kind, Transaction, money
from aegis_app.core.rules.rule import CLEAR, LEAST_HABIT, UNKNOWN, Check, Hit, Limits

ATM: Final = Channel.ATM
CASH_OUT: Final = Kind.CASH_OUT


class ImpossibleTravel(Limits, frozen=True):
    kmh: Annotated[float, Meta(gt=0, description="speed that no traveller reaches, km/h")] = 1000.0
    km: Annotated[float, Meta(gt=0, description="shorter distances are never suspicious, km")] = 100.0


class CashFarFromHome(Limits, frozen=True):
    km: Annotated[float, Meta(gt=0, description="from the middle of the card's places, km")] = 200.0
    times: Annotated[float, Meta(gt=0, description="times the card's typical amount")] = 3.0


def impossible_travel(txn: Transaction, seen: Features, limit: ImpossibleTravel) -> Check:
    """Card present too far from its last place to have travelled there."""
    km, kmh = seen.travel.km, seen.travel.kmh
    if km is None or kmh is None:
        return UNKNOWN
    if km <= limit.km or kmh <= limit.kmh:
        return CLEAR
    return Hit(f"{km:,.0f} km from the last payment, which takes {kmh:,.0f} km/h")


def cash_far_from_home(txn: Transaction, seen: Features, limit: CashFarFromHome) -> Check:
    """High amount of cash far from home, in a country where the card was never used."""
    if txn.channel is not ATM and txn.kind is not CASH_OUT:
        return CLEAR
    amounts, km, is_new = seen.amounts, seen.home.km_from_home, seen.novelty.new_country
    if amounts.habit_amounts < LEAST_HABIT or amounts.amount_ratio is None or km is None or is_new is None:
        return UNKNOWN
    if km <= limit.km or not is_new or amounts.amount_ratio <= limit.times:
        return CLEAR
    return Hit(f"{money(txn.amount_minor, txn.currency)} in cash, {km:,.0f} km from home, first payment in {txn.country}")
