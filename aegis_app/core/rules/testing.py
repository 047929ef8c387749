"""Is this stolen number still good? Fraudsters ask with payments that nobody misses."""

from typing import Annotated

from msgspec import Meta

from aegis_app.core.features import Features
from aegis_app.core.payment import Transaction, is_small, money
from aegis_app.core.rules.rule import CLEAR, UNKNOWN, Check, Hit, Limits


class CardTesting(Limits, frozen=True):
    most: Annotated[int, Meta(ge=1, description="verifications and tiny amounts within an hour, the present one included")] = 3


class TestedThenLarge(Limits, frozen=True):
    least: Annotated[int, Meta(ge=1, description="verifications and tiny amounts in the hour before")] = 3
    times: Annotated[float, Meta(gt=1, description="times the smallest of them")] = 50.0


class ManyRefused(Limits, frozen=True):
    most: Annotated[int, Meta(ge=1, description="attempts in the 24 hours before that policy would block")] = 3


def card_testing(txn: Transaction, seen: Features, limit: CardTesting) -> Check:
    """Several verifications or tiny amounts within an hour."""
    before = seen.counts.small_1h
    if before is None:
        return UNKNOWN
    tests = before + is_small(txn)
    if tests <= limit.most:
        return CLEAR
    return Hit(f"{tests} verifications or tiny amounts within an hour")


def tested_then_large(txn: Transaction, seen: Features, limit: TestedThenLarge) -> Check:
    """A large amount soon after several verifications or tiny amounts."""
    tests = seen.counts.small_1h
    if tests is None:
        return UNKNOWN
    if tests < limit.least or is_small(txn):
        return CLEAR
    times = seen.comparisons.amount_to_smallest_1h
    if times is None or times <= limit.times:
        return CLEAR
    return Hit(f"{money(txn.amount_minor, txn.currency)} after {tests} verifications or tiny amounts within an hour")


def many_refused(txn: Transaction, seen: Features, limit: ManyRefused) -> Check:
    """Many attempts within 24 hours that policy would block."""
    refused = seen.counts.refused_24h
    if refused is None:
        return UNKNOWN
    if refused < limit.most:
        return CLEAR
    return Hit(f"{refused} attempts in the 24 hours before were to be blocked")
