"""Payments decided offline, one after the other: the same path as in a worker, over a dict."""

from collections.abc import Callable, Iterable, Iterator

from aegis_app.core.card import Card
from aegis_app.core.decision import Receipt
from aegis_app.core.intake import Refused, read_value
from aegis_app.core.payment import Transaction
from aegis_app.core.screen import Screened, screen
from aegis_app.core.terms import Terms


def replay(payments: Iterable[Transaction], terms: Terms) -> Iterator[tuple[Transaction, Screened]]:
    """Decide and learn `payments` in their order. Offline there is no clock: each is written and decided at its own time."""
    cards: dict[str, Card] = {}
    for offset, txn in enumerate(payments):
        screened = screen(cards.get(txn.card_id), txn, terms, Receipt(txn.at, txn.timestamp), offset)
        cards[txn.card_id] = screened.card
        yield txn, screened


def read_lines(lines: Iterable[bytes], refuse: Callable[[int, Refused], None], *, token: bool) -> Iterator[Transaction]:
    """A payment a line, blank lines aside; those that cannot be taken go to `refuse` with their number, and the rest go on."""
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            yield read_value(line, token=token)
        except Refused as refused:
            refuse(number, refused)
