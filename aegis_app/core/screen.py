"""The way of one payment, the same live and offline: recall, describe, check, decide, learn."""

from typing import Final

from msgspec import Struct

from aegis_app.core.card import BLANK, Card, Settled, content_hash, learn, recall, settled, skip
from aegis_app.core.case import Case, case
from aegis_app.core.decision import Receipt, Ruling, decide, repeat
from aegis_app.core.features import Features
from aegis_app.core.intake import Past
from aegis_app.core.payment import Millis, Transaction
from aegis_app.core.terms import Terms


class Screened(Struct, frozen=True, gc=False):
    """A payment, judged."""

    ruling: Ruling
    card: Card
    """The memory after it."""
    seen: Features | None
    """How it was described; `None` for a repeat, which is answered as before."""
    conflict: bool = False
    """A repeat came with other content."""


TRANSACTIONS: Final = 0
HISTORY: Final = 2
"""Places of a source's last offset in `Card.seen`, as in `topics.SOURCES`."""


def screen(card: Card | None, txn: Transaction, terms: Terms, receipt: Receipt, offset: int) -> Screened:
    """Judge `txn` by what `card` remembers, and learn it. A repeated transaction_id is answered as before."""
    payment = case(txn, receipt.written, terms.rates)
    card = _recall(card, payment, terms)
    known = settled(card, txn.transaction_id)
    if known is not None:
        before, content = known
        return Screened(repeat(before, terms, receipt), skip(card, TRANSACTIONS, offset), None, content != content_hash(txn))
    seen = Features(card, payment)
    ruling = decide(payment, seen, terms, receipt)
    return Screened(ruling, learn(card, payment, ruling.settled(), TRANSACTIONS, offset), seen)


def adopt(card: Card | None, txn: Transaction, terms: Terms, ruling: Ruling, written: Millis, offset: int) -> Card:
    """The memory after `txn`, about which `ruling` stands on the log already."""
    payment = case(txn, written, terms.rates)
    card = _recall(card, payment, terms)
    if ruling.duplicate:
        return skip(card, TRANSACTIONS, offset)
    return learn(card, payment, ruling.settled(), TRANSACTIONS, offset)


def learn_past(card: Card | None, past: Past, terms: Terms, written: Millis, offset: int) -> Card:
    """The memory after a payment that was decided elsewhere. One among the card's last 32 is known already, and teaches nothing."""
    payment = case(past.transaction, written, terms.rates)
    card = _recall(card, payment, terms)
    if settled(card, past.transaction.transaction_id) is not None:
        return skip(card, HISTORY, offset)
    return learn(card, payment, Settled(past.outcome, past.outcome, None, 0), HISTORY, offset)


def _recall(card: Card | None, payment: Case, terms: Terms) -> Card:
    return BLANK if card is None else recall(card, payment.at, payment.written, terms.ttl)
