"""Payments decided offline, one after the other: the same path as in a worker, over a dict."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from aegis_app.core.card import Card
from aegis_app.core.decision import Receipt, Ruling
from aegis_app.core.intake import Reason, Refused, hide
from aegis_app.core.payment import Transaction, decode_transaction, looks_like_card_number
from aegis_app.core.screen import Terms, screen


def replay(payments: Iterable[Transaction], terms: Terms) -> Iterator[tuple[Transaction, Ruling]]:
    """Decide and learn `payments` in their order. Offline there is no clock: each is written and decided at its own time."""
    cards: dict[str, Card] = {}
    for offset, txn in enumerate(payments):
        screened = screen(cards.get(txn.card_id), txn, terms, Receipt(txn.at, txn.timestamp), offset)
        cards[txn.card_id] = screened.card
        yield txn, screened.ruling


def read_lines(lines: Iterable[bytes], refuse: Callable[[int, Refused], None], *, token: bool) -> Iterator[Transaction]:
    """A payment a line, blank lines aside; those that cannot be taken go to `refuse` with their number, and the rest go on."""
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            yield _read(line, token=token)
        except Refused as refused:
            refuse(number, refused)


def _read(line: bytes, *, token: bool) -> Transaction:
    try:
        txn = decode_transaction(line)
    except msgspec.ValidationError as error:
        raise Refused(Reason.INVALID, hide(str(error).encode()).decode()) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(Reason.MALFORMED, hide(str(error).encode()).decode()) from None
    if not token and looks_like_card_number(txn.card_id):
        raise Refused(Reason.CARD_NUMBER, "card_id looks like a card number; send a token (or set AEGIS_CARD_ID_IS_TOKEN=true)")
    return txn
