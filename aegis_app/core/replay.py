"""Payments decided offline, one after the other, and labels learnt between them: the same path as in a worker, over a dict."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import attrgetter
from typing import TypeVar

from aegis_app.core.card import Card
from aegis_app.core.decision import Receipt
from aegis_app.core.intake import Refused, read_label_value, read_value
from aegis_app.core.label import Label
from aegis_app.core.payment import Transaction
from aegis_app.core.screen import Screened, learn_label, screen
from aegis_app.core.terms import Terms

T = TypeVar("T")


def replay(payments: Iterable[Transaction], terms: Terms, labels: Iterable[Label] = ()) -> Iterator[tuple[Transaction, Screened]]:
    """Decide and learn `payments` in their order. Offline there is no clock: each is written and decided at its own time.

    A label is learnt when it became known, before the first payment that is no earlier. Labels may come in any order; all are held.
    """
    cards: dict[str, Card] = {}
    waiting = deque(sorted(labels, key=attrgetter("known_at")))
    heard = 0
    for offset, txn in enumerate(payments):
        while waiting and waiting[0].known_at <= txn.at:
            label = waiting.popleft()
            cards[label.card_id] = learn_label(cards.get(label.card_id), label, terms.rates, heard).card
            heard += 1
        screened = screen(cards.get(txn.card_id), txn, terms, Receipt(txn.at, txn.timestamp), offset)
        cards[txn.card_id] = screened.card
        yield txn, screened


def read_lines(lines: Iterable[bytes], refuse: Callable[[int, Refused], None], *, token: bool) -> Iterator[Transaction]:
    """A payment a line, blank lines aside; those that cannot be taken go to `refuse` with their number, and the rest go on."""
    return _read(lines, partial(read_value, token=token), refuse)


def read_label_lines(lines: Iterable[bytes], refuse: Callable[[int, Refused], None], *, token: bool) -> Iterator[Label]:
    """The same of labels."""
    return _read(lines, partial(read_label_value, token=token), refuse)


def _read(lines: Iterable[bytes], read: Callable[[bytes], T], refuse: Callable[[int, Refused], None]) -> Iterator[T]:
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            yield read(line)
        except Refused as refused:
            refuse(number, refused)
