"""Payments decided offline, one after the other, and labels learnt between them: the same path as in a worker, over a dict."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import itemgetter
from typing import TypeVar

from msgspec.structs import replace

from aegis_app.core.card import Card
from aegis_app.core.decision import Receipt
from aegis_app.core.intake import Refused, asks_for_lines, read_label_value, read_line, unmarked
from aegis_app.core.label import Label
from aegis_app.core.payment import Millis, Transaction
from aegis_app.core.risk import risk, shared_risk
from aegis_app.core.screen import LABELS, TRANSACTIONS, Screened, learn_label, screen
from aegis_app.core.terms import Terms
from aegis_app.core.tidings import NONE, Tidings, tidings_of_verdict
from aegis_app.core.told import PERIOD_MS, Told

T = TypeVar("T")


def replay(
    payments: Iterable[Transaction],
    terms: Terms,
    labels: Iterable[Label] = (),
    *,
    elsewhere: bool = True,
    period: Millis = PERIOD_MS,
    asked_from: Millis = 0,
) -> Iterator[tuple[Transaction, Screened]]:
    """Decide and learn `payments` in their order. Offline there is no clock: each is written and decided at its own time.

    A label is learnt when it became known, before the first payment that is no earlier; one that is as old as its payment, after it.
    Labels may come in any order; all are held.
    What payments and labels tell merchants and devices is known from the end of each `period` on, in milliseconds; not `elsewhere`:
    never, which takes a third less time. What was seen of a payment is to be asked for before the next payment is. Models are asked about
    payments from `asked_from` on; before, rules alone decide.
    """
    memory = Memory(terms, elsewhere=elsewhere, period=period, asked_from=asked_from)
    waiting = deque(sorted(((_heard_at(label), label) for label in labels), key=itemgetter(0)))
    for txn in payments:
        while waiting and waiting[0][0] <= txn.at:
            memory.hear(waiting.popleft()[1])
        yield txn, memory.screen(txn)


class Memory:
    """What is remembered in one process: of cards, merchants and devices. It grows with each of them."""

    def __init__(self, terms: Terms, *, elsewhere: bool = True, period: Millis = PERIOD_MS, asked_from: Millis = 0) -> None:
        """As for `replay`."""
        self._cards: dict[str, Card] = {}
        self._merchants, self._devices = Told(risk, period), Told(shared_risk, period)
        told = {"merchants": self._merchants, "credited": self._merchants.credited, "devices": self._devices}
        self._terms = replace(terms, **told) if elsewhere else terms
        self._unasked, self._asked_from = replace(self._terms, bundle=None), asked_from
        self._elsewhere = elsewhere
        self._screened = self._heard = 0
        self._untold = NONE

    def screen(self, txn: Transaction) -> Screened:
        """Decide and learn a payment. What was seen of it is to be asked for before the next call."""
        at = txn.at
        self._pass(at)
        offset, self._screened = self._screened, self._screened + 1
        terms = self._terms if at >= self._asked_from else self._unasked
        screened = screen(self._cards.get(txn.card_id), txn, terms, Receipt(at, txn.timestamp), offset)
        self._cards[txn.card_id] = screened.card
        self._untold = screened.tidings
        return screened

    def hear(self, label: Label) -> None:
        """Learn what is said about a payment."""
        self._pass(label.known_at)
        offset, self._heard = self._heard, self._heard + 1
        found = learn_label(self._cards.get(label.card_id), label, offset)
        self._cards[label.card_id] = found.card
        if found.changed is not None:
            self._tell(LABELS, tidings_of_verdict(found.changed, label.card_id, offset))

    def _pass(self, at: Millis) -> None:
        """Let time go on; only now the last payment is told of: what nobody asked for yet was found until then."""
        self._tell(TRANSACTIONS, self._untold)
        self._untold = NONE
        self._merchants.clock = self._devices.clock = max(self._merchants.clock, at)

    def _tell(self, source: int, tidings: Tidings) -> None:
        if self._elsewhere:
            for told, events in ((self._merchants, tidings.merchants), (self._devices, tidings.devices)):
                for name, event in events:
                    told.tell(name, source, event)


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
    is_first = True
    for number, line in enumerate(unmarked(lines), start=1):
        if line.isspace():
            continue
        try:
            yield read(line)
        except Refused as refused:
            refuse(number, Refused(refused.reason, f"{refused}{asks_for_lines(line)}") if is_first else refused)
        is_first = False
