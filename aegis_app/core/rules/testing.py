"""Is this stolen number still good? Fraudsters ask with payments that nobody misses."""

from typing import Annotated

from msgspec import Meta

from aegis_app.core.card import is_small
from aegis_app.core.features import Features
from aegis_app.core.payment import Transaction
from aegis_app.core.rules.rule import CLEAR, UNKNOWN, Check, Hit, Limits


class CardTesting(Limits, frozen=True):
    most: Annotated[int, Meta(ge=1, description="verifications and tiny amounts within an hour, the present one included")] = 3


def card_testing(txn: Transaction, seen: Features, limit: CardTesting) -> Check:
    """Several verifications or tiny amounts within an hour."""
    if seen.small_1h is None:
        return UNKNOWN
    tests = seen.small_1h + is_small(txn)
    if tests <= limit.most:
        return CLEAR
    return Hit(f"{tests} verifications or tiny amounts within an hour")
