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
    return _check(seen.counts.attempts_1m, limit.most, seen, "a minute")


def velocity_10m(txn: Transaction, seen: Features, limit: Velocity10m) -> Check:
    """Many payments within 10 minutes."""
    return _check(seen.counts.attempts_10m, limit.most, seen, "10 minutes")


def velocity_1h(txn: Transaction, seen: Features, limit: Velocity1h) -> Check:
    """Many payments within an hour."""
    return _check(seen.counts.attempts_1h, limit.most, seen, "an hour")


def velocity_24h(txn: Transaction, seen: Features, limit: Velocity24h) -> Check:
    """Many payments within 24 hours."""
    return _check(seen.counts.attempts_24h, limit.most, seen, "24 hours")


def many_merchants(txn: Transaction, seen: Features, limit: ManyMerchants) -> Check:
    """Payments at many merchants within 10 minutes."""
    merchants = seen.counts.merchants_10m
    if merchants is None:
        return UNKNOWN
    if merchants <= limit.most:
        return CLEAR
    return Hit(f"payments at {merchants} merchants in the 10 minutes before")


def _check(attempts: int | None, most: int, seen: Features, window: str) -> Check:
    if attempts is None:
        return UNKNOWN
    if attempts < most:
        return CLEAR
    usual = "its first day" if seen.month.per_active_day is None else f"this card's usual is {seen.month.per_active_day:.3g} a day"
    least = "at least " if seen.counts.saturated else ""
    return Hit(f"{least}{attempts + 1} payments in {window}; {usual}")
