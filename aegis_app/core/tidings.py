"""What merchants and devices are to learn: of a payment, and of a verdict that changed."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from aegis_app.core.card import AHEAD_MS
from aegis_app.core.case import Case
from aegis_app.core.encoding import kind_code
from aegis_app.core.features import Features
from aegis_app.core.merchant_events import Credited, Event, Labelled, Paid, card_hash
from aegis_app.core.payment import GIVES_BACK, MOST_MONEY, SEVERITY, Millis, Outcome, is_small
from aegis_app.core.unusual import unusual


class Tidings(NamedTuple):
    """Events for each, by its id."""

    merchants: Sequence[tuple[str, Event]] = ()
    devices: Sequence[tuple[str, Event]] = ()


NONE: Final = Tidings()


def tidings(case: Case, seen: Features, verdict: Outcome, offset: int) -> Tidings:
    """What is sent on about a payment, described by what its card knew before, once it is decided; nothing about what gives money back.

    A time ahead of the payment's record counts as that of the record, as it does for the card.
    """
    txn, at = case.txn, case.at
    merchant, device = txn.merchant_id, txn.device_id
    if (merchant is None and device is None) or txn.kind in GIVES_BACK:
        return NONE
    new = seen.parties
    at = at if at - case.written <= AHEAD_MS else case.written
    amount = None if case.amount is None else min(case.amount, MOST_MONEY)
    kind, small, card = kind_code(txn.kind), is_small(txn), card_hash(txn.card_id)
    odd = unusual(seen.amounts.amount_z, new.new_merchant, seen.hours.hour_share, seen.travel.km)
    rank = SEVERITY[verdict]
    facts = offset, at, kind, amount, small, card
    return Tidings(
        () if merchant is None else ((merchant, Paid(*facts, new.new_merchant is not False, odd, rank)),),
        () if device is None else ((device, Paid(*facts, new.new_device is not False, odd, rank)),),
    )


class Changed(Struct, frozen=True, gc=False):
    """A payment became a confirmed fraud, or is none any more: what its merchant and device, and others, are to hear of it.

    It says what labels say, so that it is the same whether or not the payment is remembered.
    """

    merchant_id: str | None
    """`None` where it is not known, or has heard of the fraud already; likewise the device."""
    device_id: str | None
    at: Millis
    """The payment's time."""
    is_fraud: bool
    """`False`: it was a confirmed fraud until now."""
    known_at: Millis
    visited: list[str]
    """Other merchants that the card used in the 30 days before, as far as remembered by now: one of them may have copied it."""


def tidings_of_verdict(changed: Changed, card_id: str, offset: int) -> Tidings:
    """What is sent on about a verdict: merchant and device had a fraud, or had none after all, and a card of others had."""
    said, credit = Labelled(offset, changed.at, changed.known_at, _change(changed)), credited(changed, card_id, offset)
    merchants: list[tuple[str, Event]] = [(name, credit) for name in changed.visited]
    if changed.merchant_id is not None:
        merchants.append((changed.merchant_id, said))
    return Tidings(merchants, [] if changed.device_id is None else [(changed.device_id, said)])


def credited(changed: Changed, card_id: str, offset: int) -> Credited:
    """What each of the others that the card had used hears."""
    return Credited(offset, changed.known_at, _change(changed), card_hash(card_id))


def _change(changed: Changed) -> Literal[-1, 1]:
    return 1 if changed.is_fraud else -1
