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


def velocity_1m(txn: Transaction, seen: Features, limit: Velocity1m) -> Check:
    """Many payments within a minute."""
    return _velocity(seen.attempts_1m, seen, limit.most, "a minute")


def velocity_10m(txn: Transaction, seen: Features, limit: Velocity10m) -> Check:
    """Many payments within 10 minutes."""
    return _velocity(seen.attempts_10m, seen, limit.most, "10 minutes")


def velocity_1h(txn: Transaction, seen: Features, limit: Velocity1h) -> Check:
    """Many payments within an hour."""
    return _velocity(seen.attempts_1h, seen, limit.most, "an hour")


def velocity_24h(txn: Transaction, seen: Features, limit: Velocity24h) -> Check:
    """Many payments within 24 hours."""
    return _velocity(seen.attempts_24h, seen, limit.most, "24 hours")


def _velocity(before: int | None, seen: Features, most: int, window: str) -> Check:
    if before is None:
        return UNKNOWN
    if before + 1 <= most:
        return CLEAR
    usual = "its first day" if seen.per_active_day is None else f"this card's usual is {seen.per_active_day:.3g} a day"
    least = "at least " if seen.saturated else ""
    return Hit(f"{least}{before + 1} payments in {window}; {usual}")
