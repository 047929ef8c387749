"""The amount, against what the card usually pays."""

from math import log
from typing import Annotated, Final

from msgspec import Struct

from aegis_app.core import habit
from aegis_app.core.case import Case
from aegis_app.core.features.catalogue import NO_HABIT, NO_RATE, of
from aegis_app.core.habit import Habit
from aegis_app.core.payment import Channel

BALANCE: Final = "balance_minor"
"""The attribute with the account's balance before the payment, in minor units of the payment's currency."""
_RECURRING: Final = Channel.RECURRING


class Amounts(Struct, frozen=True, gc=False):
    habit: Annotated[int, of("payments", "allowed ones that habit was learnt from")]
    habit_amounts: Annotated[int, of("payments", "those of them whose amount is known in the base currency, and above zero")]
    amount: Annotated[int | None, of("base minor units", "the payment's own", NO_RATE)]
    typical_amount: Annotated[float | None, of("base minor units", "geometric mean of the card's amounts", NO_HABIT)]
    amount_ratio: Annotated[float | None, of("times", "amount over typical amount", f"{NO_RATE}, or {NO_HABIT}")]
    amount_z: Annotated[
        float | None,
        of("deviations", "of the amount, in log, above the card's mean", "fewer than two amounts, or all alike, or no rate"),
    ]


class Comparisons(Struct, frozen=True, gc=False):
    amount_to_largest: Annotated[float | None, of("times", "amount over the largest allowed before", f"{NO_RATE}, or {NO_HABIT}")]
    amount_to_smallest_1h: Annotated[
        float | None, of("times", "amount over the smallest tried in the hour before, zero counting as one minor unit", "none, or no rate")
    ]
    recurring_ratio: Annotated[
        float | None,
        of("times", "amount of a recurring payment over the last one to that merchant", "not recurring, the first, or no rate"),
    ]
    balance_share: Annotated[
        float | None, of("times", f"amount over the balance before it (attribute `{BALANCE}`)", "no balance given, or none left")
    ]


def amounts(known: Habit, case: Case) -> Amounts:
    amount, typical = case.amount, habit.typical_amount(known)
    ratio = None if amount is None or typical is None else amount / typical
    if amount is None or amount <= 0:
        return Amounts(known.payments, known.amounts, amount, typical, ratio, None)
    deviation = habit.deviation(known.amounts, known.sum_log, known.sum_log_squared, log(amount))
    return Amounts(known.payments, known.amounts, amount, typical, ratio, deviation)


def comparisons(known: Habit, case: Case, smallest_1h: float | None) -> Comparisons:
    txn, amount = case.txn, case.amount
    balance = txn.attributes.get(BALANCE)
    return Comparisons(
        None if amount is None or not known.largest else amount / known.largest,
        None if amount is None or smallest_1h is None else amount / max(smallest_1h, 1.0),
        _recurring(known, case) if txn.channel is _RECURRING else None,
        txn.amount_minor / balance if balance is not None and balance > 0 else None,
    )


def _recurring(known: Habit, case: Case) -> float | None:
    if case.txn.merchant_id is None or case.amount is None:
        return None
    before = habit.last_collected(known, case.txn.merchant_id)
    return None if before is None or before == 0 else case.amount / before
