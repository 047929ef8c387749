"""Payments decided offline, one after the other, and labels learnt between them: the same path as in a worker, over a dict."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from aegis_app.core.card import Card
from aegis_app.core.decision import Receipt
from aegis_app.core.intake import Refused, read_label_value, read_line
from aegis_app.core.label import Label
from aegis_app.core.payment import Millis, Transaction
from aegis_app.core.risk import risk, shared_risk
from aegis_app.core.screen import LABELS, TRANSACTIONS, Screened, learn_label, screen
from aegis_app.core.terms import Terms
from aegis_app.core.tidings import Tidings, tidings_of_verdict
from aegis_app.core.told import PERIOD_MS, Told

T = TypeVar("T")


def replay(
    payments: Iterable[Transaction],
    terms: Terms,
    labels: Iterable[Label] = (),
    *,
    elsewhere: bool = True,
    period: Millis = PERIOD_MS,
) -> Iterator[tuple[Transaction, Screened]]:
    """Decide and learn `payments` in their order. Offline there is no clock: each is written and decided at its own time.

    A label is learnt when it became known, before the first payment that is no earlier; one that is as old as its payment, after it.
    Labels may come in any order; all are held.
    What payments and labels tell merchants and devices is known from the end of each `period` on, in milliseconds; not `elsewhere`:
    never, which takes a third less time. What was seen of a payment is to be asked for before the next payment is.
    """
    cards: dict[str, Card] = {}
    merchants, devices = Told(risk, period), Told(shared_risk, period)
    if elsewhere:
        terms = replace(terms, merchants=merchants, credited=merchants.credited, devices=devices)

    def tell(source: int, tidings: Tidings) -> None:
        for told, events in ((merchants, tidings.merchants), (devices, tidings.devices)):
            for name, event in events:
                told.tell(name, source, event)

    waiting = deque(sorted(labels, key=_heard_at))
    heard = 0
    for offset, txn in enumerate(payments):
        while waiting and _heard_at(waiting[0]) <= txn.at:
            label = waiting.popleft()
            merchants.clock = devices.clock = max(merchants.clock, label.known_at)
            found = learn_label(cards.get(label.card_id), label, heard)
            cards[label.card_id] = found.card
            if elsewhere and found.changed is not None:
                tell(LABELS, tidings_of_verdict(found.changed, label.card_id, heard))
            heard += 1
        merchants.clock = devices.clock = max(merchants.clock, txn.at)
        screened = screen(cards.get(txn.card_id), txn, terms, Receipt(txn.at, txn.timestamp), offset)
        cards[txn.card_id] = screened.card
        yield txn, screened
        if elsewhere:  # only now: groups of features that nobody asked for yet are found until the next payment is
            tell(TRANSACTIONS, screened.tidings)


def _heard_at(label: Label) -> Millis:
    """When `label` is learnt: never before its own payment is judged."""
    return label.known_at + (label.known_at <= label.at)


def read_lines(lines: Iterable[bytes], refuse: Callable[[int, Refused], None], *, token: bool) -> Iterator[Transaction]:
    """A payment a line, blank lines aside; those that cannot be taken go to `refuse` with their number, and the rest go on."""
    return _read(lines, partial(read_line, token=token), refuse)


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
