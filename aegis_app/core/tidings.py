"""What a payment lets its merchant and its device learn."""

from math import log
from typing import Final, NamedTuple

from aegis_app.core.card import AHEAD_MS
from aegis_app.core.case import Case
from aegis_app.core.encoding import kind_code
from aegis_app.core.features import Features
from aegis_app.core.habit import Habit, deviation
from aegis_app.core.merchant_events import Paid, card_hash
from aegis_app.core.payment import GIVES_BACK, MOST_MONEY, SEVERITY, Outcome, is_small
from aegis_app.core.unusual import unusual
from aegis_app.core.uses import fingerprint, uses


class Tidings(NamedTuple):
    """Of one payment; `None` for a party that it does not name."""

    merchant: Paid | None = None
    device: Paid | None = None


NONE: Final = Tidings()


def tidings(case: Case, known: Habit, seen: Features, verdict: Outcome, offset: int) -> Tidings:
    """What is sent on about a payment, described by what its card knew before, once it is decided; nothing about what gives money back.

    A time ahead of the payment's record counts as that of the record, as it does for the card.
    """
    txn, at = case.txn, case.at
    merchant, device = txn.merchant_id, txn.device_id
    if (merchant is None and device is None) or txn.kind in GIVES_BACK:
        return NONE
    new_merchant = None if merchant is None else not uses(known.merchants, fingerprint(merchant))
    new_device = None if device is None else not uses(known.devices, fingerprint(device))
    at = at if at - case.written <= AHEAD_MS else case.written
    amount = None if case.amount is None else min(case.amount, MOST_MONEY)
    kind, small, card = kind_code(txn.kind), is_small(txn), card_hash(txn.card_id)
    odd = unusual(_amount_z(case.amount, known), new_merchant, seen.times.hour_share, seen.travel.km)
    rank = SEVERITY[verdict]
    return Tidings(
        None if new_merchant is None else Paid(offset, at, kind, amount, small, card, new_merchant, odd, rank),
        None if new_device is None else Paid(offset, at, kind, amount, small, card, new_device, odd, rank),
    )


def _amount_z(amount: int | None, known: Habit) -> float | None:
    """As the feature of this name, without the others of its group."""
    return deviation(known.amounts, known.sum_log, known.sum_log_squared, log(amount)) if amount is not None and amount > 0 else None
