"""Too many payments in a short time."""

from typing import Annotated

from msgspec import Meta

from aegis_app.core.features import Features
from aegis_app.core.payment import Transaction
from aegis_app.core.rules.rule import CLEAR, UNKNOWN, Check, Hit, Limits

Most = Annotated[int, Meta(ge=1, description="payments in the window, the present one included")]


class Velocity1m(Limits, frozen=True):
    most: Most = 4


class Velocity10m(Limits, frozen=True):
    most: Most = 6


class Velocity1h(Limits, frozen=True):
    most: Most = 12


class Velocity24h(Limits, frozen=True):
    most: Most = 30


class ManyMerchants(Limits, frozen=True):
    most: Annotated[int, Meta(ge=1, description="different merchants within 10 minutes, before the present payment")] = 3


def velocity_1m(txn: Transaction, seen: Features, limit: Velocity1m) -> Check:
    """Many payments within a minute."""
    if seen.attempts_1m is None:
        return UNKNOWN
    return CLEAR if seen.attempts_1m < limit.most else _hit(seen.attempts_1m + 1, seen, "a minute")


def velocity_10m(txn: Transaction, seen: Features, limit: Velocity10m) -> Check:
    """Many payments within 10 minutes."""
    if seen.attempts_10m is None:
        return UNKNOWN
    return CLEAR if seen.attempts_10m < limit.most else _hit(seen.attempts_10m + 1, seen, "10 minutes")


def velocity_1h(txn: Transaction, seen: Features, limit: Velocity1h) -> Check:
    """Many payments within an hour."""
    if seen.attempts_1h is None:
        return UNKNOWN
    return CLEAR if seen.attempts_1h < limit.most else _hit(seen.attempts_1h + 1, seen, "an hour")


def velocity_24h(txn: Transaction, seen: Features, limit: Velocity24h) -> Check:
    """Many payments within 24 hours."""
    if seen.attempts_24h is None:
        return UNKNOWN
    return CLEAR if seen.attempts_24h < limit.most else _hit(seen.attempts_24h + 1, seen, "24 hours")


def many_merchants(txn: Transaction, seen: Features, limit: ManyMerchants) -> Check:
    """Payments at many merchants within 10 minutes."""
    if seen.merchants_10m is None:
        return UNKNOWN
    if seen.merchants_10m <= limit.most:
        return CLEAR
    return Hit(f"payments at {seen.merchants_10m} merchants in the 10 minutes before")


def _hit(payments: int, seen: Features, window: str) -> Hit:
    usual = "its first day" if seen.per_active_day is None else f"this card's usual is {seen.per_active_day:.3g} a day"
    least = "at least " if seen.saturated else ""
    return Hit(f"{least}{payments} payments in {window}; {usual}")
