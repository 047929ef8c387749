"""The way of one payment, and of one label, the same live and offline: recall, describe, check, decide, learn."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from aegis_app.core.card import BLANK, Card, Settled, believe, content_hash, holds, id_hash, learn, overrule, recall, settled, skip
from aegis_app.core.case import Case, case
from aegis_app.core.decision import Receipt, Ruling, decide, explained, repeat
from aegis_app.core.features import Features
from aegis_app.core.intake import Past
from aegis_app.core.label import Label
from aegis_app.core.payment import ALLOW, GIVES_BACK, Millis, Transaction
from aegis_app.core.reported import Report, keep, report_on, supplement, without
from aegis_app.core.scores import Scored
from aegis_app.core.terms import Terms
from aegis_app.core.tidings import NONE, Changed, Tidings, tidings
from aegis_app.core.verdicts import Ignored, verdict_on, weigh
from aegis_app.core.visited import visited_before


class Screened(Struct, frozen=True, gc=False):
    """A payment, judged."""

    ruling: Ruling
    card: Card
    """The memory after it."""
    seen: Features | None
    """How it was described; `None` for a repeat, which is answered as before."""
    tidings: Tidings = NONE
    """For its merchant and its device."""
    scored: Scored | None = None
    """What models said; `None` where they were not asked."""
    unexplained: bool = False
    """The models could not say why, though somebody will ask."""


class Described(Struct, frozen=True, gc=False):
    """A payment, described by what was known before it."""

    card: Card
    case: Case
    seen: Features
    receipt: Receipt
    offset: int


class Learnt(NamedTuple):
    """A payment, learnt without judging it."""

    card: Card
    """The memory after it."""
    tidings: Tidings = NONE
    """For its merchant and its device; none of a repeat."""


class Heard(Struct, frozen=True, gc=False):
    """A label, weighed."""

    card: Card
    """The memory after it."""
    ignored: Ignored | None = None
    """Why it changed no verdict."""
    changed: Changed | None = None
    """What others are to hear: of a fraud that is new, or none any more, or of which it is only now known where it was."""
    corrected: bool = False
    """It turned an earlier verdict round."""
    not_held: bool = False
    """A fraud that is not among the card's last 32 payments: habit keeps it, or is still to learn it."""


TRANSACTIONS: Final = 0
LABELS: Final = 1
HISTORY: Final = 2
"""Places of a source's last offset in `Card.seen`, as in `topics.SOURCES`."""


def screen(card: Card | None, txn: Transaction, terms: Terms, receipt: Receipt, offset: int) -> Screened:
    """Judge `txn` by what `card` remembers, and learn it. A repeated transaction_id is answered as before."""
    found = describe(card, txn, terms, receipt, offset)
    return found if isinstance(found, Screened) else next(judge([found], terms))


def describe(card: Card | None, txn: Transaction, terms: Terms, receipt: Receipt, offset: int) -> Described | Screened:
    """`txn` as `card` knows it, to be judged; a repeat is answered at once."""
    payment = case(txn, receipt.written, terms.rates)
    card = _recall(card, payment, terms)
    known = settled(card, txn.transaction_id)
    if known is not None:
        before, content = known
        return Screened(repeat(before, terms, receipt, conflict=content != content_hash(txn)), skip(card, TRANSACTIONS, offset), None)
    return Described(card, payment, Features(card, payment, terms.merchants, terms.credited, terms.devices), receipt, offset)


def judge(described: Sequence[Described], terms: Terms) -> Iterator[Screened]:
    """Decide and learn payments of different cards, in their order; models are asked once for all of them."""
    models = terms.models
    asked = () if models is None else [place for place, each in enumerate(described) if each.case.txn.kind not in GIVES_BACK]
    if models is None or not asked:
        for each in described:
            yield _learnt(each, decide(each.case, each.seen, terms, each.receipt))
        return
    said = models.ask([(described[place].case, described[place].seen) for place in asked])
    scored = dict(zip(asked, said.scored, strict=True))
    rulings = [decide(each.case, each.seen, terms, each.receipt, scored.get(place)) for place, each in enumerate(described)]
    wanted = [number for number, place in enumerate(asked) if rulings[place].verdict is not ALLOW or described[place].receipt.explain]
    causes = said.causes(wanted) if wanted else ()
    why = {} if causes is None else {asked[number]: found for number, found in zip(wanted, causes, strict=True)}
    for place, (each, ruling) in enumerate(zip(described, rulings, strict=True)):
        told = explained(ruling, why[place]) if place in why else ruling
        yield _learnt(each, told, scored.get(place), causes is None and ruling.verdict is not ALLOW)


def _learnt(each: Described, ruling: Ruling, scored: Scored | None = None, unexplained: bool = False) -> Screened:
    news = tidings(each.case, each.seen, ruling.verdict, each.offset)
    card = learn(each.card, each.case, ruling.settled(), TRANSACTIONS, each.offset)
    return Screened(ruling, card, each.seen, news, scored=scored, unexplained=unexplained)


def adopt(card: Card | None, txn: Transaction, terms: Terms, ruling: Ruling, written: Millis, offset: int) -> Learnt:
    """Learn `txn`, about which `ruling` stands on the log already."""
    payment = case(txn, written, terms.rates)
    card = _recall(card, payment, terms)
    if ruling.duplicate:
        return Learnt(skip(card, TRANSACTIONS, offset))
    if settled(card, txn.transaction_id) is not None:  # of `history`, where it stands too, and which was taken up first this time
        return Learnt(skip(overrule(card, txn, ruling.settled()), TRANSACTIONS, offset))
    news = tidings(payment, Features(card, payment), ruling.verdict, offset)
    return Learnt(learn(card, payment, ruling.settled(), TRANSACTIONS, offset), news)


def learn_past(card: Card | None, past: Past, terms: Terms, written: Millis, offset: int) -> Learnt:
    """Learn a payment that was decided elsewhere. One among the card's last 32 is known already, and teaches nothing."""
    payment = case(past.transaction, written, terms.rates)
    card = _recall(card, payment, terms)
    if settled(card, past.transaction.transaction_id) is not None:
        return Learnt(skip(card, HISTORY, offset))
    news = tidings(payment, Features(card, payment), past.outcome, offset)
    return Learnt(learn(card, payment, Settled(past.outcome, past.outcome, None, 0), HISTORY, offset), news)


def learn_label(card: Card | None, label: Label, offset: int) -> Heard:
    """Weigh what is said about a payment, whether or not it or its card was ever seen."""
    card = skip(BLANK if card is None else card, LABELS, offset)
    payment = id_hash(label.transaction_id)
    before, found = verdict_on(card.verdicts, payment), weigh(card.verdicts, payment, label)
    ignored = found if isinstance(found, Ignored) else None
    if not isinstance(found, Ignored):
        card = believe(card, found)
    was_fraud = before is not None and before.is_fraud
    is_fraud = was_fraud if ignored is not None else label.is_fraud
    report = report_on(card.reports, payment)
    if is_fraud is was_fraud:
        if report is None or (more := supplement(report, label)) == report:
            return Heard(card, ignored)
        # It is fraud as before; now it is known where.
        merchant, device = more.merchant_id if report.merchant_id is None else None, more.device_id if report.device_id is None else None
        card = replace(card, reports=keep(card.reports, more))
        return Heard(card, ignored, Changed(merchant, device, report.at, True, label.known_at, []))
    said = Report(payment, label.at, label.merchant_id, label.device_id) if is_fraud or report is None else report
    visited = [name for name in visited_before(card.visited, said.at) if name != said.merchant_id]
    card = replace(card, reports=keep(card.reports, said) if is_fraud else without(card.reports, payment))
    changed = Changed(said.merchant_id, said.device_id, said.at, is_fraud, label.known_at, visited)
    return Heard(card, changed=changed, corrected=before is not None, not_held=is_fraud and not holds(card, payment))


def _recall(card: Card | None, payment: Case, terms: Terms) -> Card:
    return BLANK if card is None else recall(card, payment.at, payment.written, terms.ttl)
