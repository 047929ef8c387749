"""A card cannot be in two places."""

from typing import Annotated

from msgspec import Meta

from aegis_app.core.features import Features
from aegis_app.core.payment import Transaction
from aegis_app.core.rules.rule import CLEAR, UNKNOWN, Check, Hit, Limits


class ImpossibleTravel(Limits, frozen=True):
    kmh: Annotated[float, Meta(gt=0, description="speed that no traveller reaches, km/h")] = 1000.0
    km: Annotated[float, Meta(gt=0, description="shorter distances are never suspicious, km")] = 100.0


def impossible_travel(txn: Transaction, seen: Features, limit: ImpossibleTravel) -> Check:
    """Card present too far from its last place to have travelled there."""
    if seen.km is None or seen.kmh is None:
        return UNKNOWN
    if seen.km <= limit.km or seen.kmh <= limit.kmh:
        return CLEAR
    return Hit(f"{seen.km:,.0f} km from the last payment, which takes {seen.kmh:,.0f} km/h")
