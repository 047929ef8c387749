"""The way of one payment, the same live and offline: recall, describe, check, decide, learn."""

from typing import Final

from msgspec import Struct
from xxhash import xxh32_intdigest

from aegis_app.core.card import BLANK, DAY_MS, Card, Settled, content_hash, learn, recall, settled, skip
from aegis_app.core.decision import Receipt, Ruling, decide, repeat
from aegis_app.core.features import describe
from aegis_app.core.intake import Past
from aegis_app.core.lists import Lists
from aegis_app.core.payment import Millis, Transaction
from aegis_app.core.policy import Policy


class Terms(Struct, frozen=True):
    """Under which payments are judged, besides memory."""

    policy: Policy
    ttl: Millis = 400 * DAY_MS
    feature_share: float = 0.0
    lists: Lists = Lists()


class Screened(Struct, frozen=True, gc=False):
    """A ruling and the memory after it. `conflict`: the id was known, with other content."""

    ruling: Ruling
    card: Card
    conflict: bool = False


TRANSACTIONS: Final = 0
HISTORY: Final = 2
"""Places of a source's last offset in `Card.seen`, as in `topics.SOURCES`."""


def screen(card: Card | None, txn: Transaction, terms: Terms, receipt: Receipt, offset: int) -> Screened:
    """Judge `txn` by what `card` remembers, and learn it. A repeated transaction_id is answered as before."""
    card = BLANK if card is None else recall(card, txn.at, receipt.written, terms.ttl)
    known = settled(card, txn.transaction_id)
    if known is not None:
        before, content = known
        return Screened(repeat(before, terms.policy, receipt), skip(card, TRANSACTIONS, offset), content != content_hash(txn))
    ruling = decide(txn, describe(card, txn), terms.policy, receipt, _is_sampled(txn.transaction_id, terms.feature_share))
    return Screened(ruling, learn(card, txn, ruling.settled(), receipt.written, TRANSACTIONS, offset))


def adopt(card: Card | None, txn: Transaction, terms: Terms, ruling: Ruling, written: Millis, offset: int) -> Card:
    """The memory after `txn`, about which `ruling` stands on the log already."""
    card = BLANK if card is None else recall(card, txn.at, written, terms.ttl)
    if ruling.duplicate:
        return skip(card, TRANSACTIONS, offset)
    return learn(card, txn, ruling.settled(), written, TRANSACTIONS, offset)


def learn_past(card: Card | None, past: Past, terms: Terms, written: Millis, offset: int) -> Card:
    """The memory after a payment that was decided elsewhere. One among the card's last 32 is known already, and teaches nothing."""
    txn = past.transaction
    card = BLANK if card is None else recall(card, txn.at, written, terms.ttl)
    if settled(card, txn.transaction_id) is not None:
        return skip(card, HISTORY, offset)
    return learn(card, txn, Settled(past.outcome, past.outcome, None, 0), written, HISTORY, offset)


def _is_sampled(transaction_id: str, share: float) -> bool:
    return share > 0 and xxh32_intdigest(transaction_id.encode()) < share * 2**32
