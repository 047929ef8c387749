"""The way of a payment: recall, describe, check, score, decide, publish, tell, learn. And of labels and a card's history, learnt alone."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, NamedTuple

from aiokafka.structs import ConsumerRecord
from msgspec.structs import replace

from aegis_app import application, metrics
from aegis_app.application import app, decisions, history, labels, payments, settings, transactions
from aegis_app.core.card import Card
from aegis_app.core.decision import STALE_MS, Receipt, Ruling, encode_decision, standing
from aegis_app.core.fields import unknown_fields
from aegis_app.core.intake import Erase, Refused, read_history, read_label, read_payment
from aegis_app.core.payment import Transaction
from aegis_app.core.screen import (
    HISTORY,
    LABELS,
    TRANSACTIONS,
    Described,
    Screened,
    adopt,
    describe,
    judge,
    learn_label,
    learn_past,
)
from aegis_app.core.tidings import Tidings, tidings_of_verdict
from aegis_app.stream.letters import Letter, dead_letter
from aegis_app.stream.owner import SOURCE, Work
from aegis_app.topics import EXPLAIN, REDRIVEN
from aegis_app.unknown import Unknown
from agents.refusing import bury, check_partition
from agents.telling import Telling
from agents.timed import Timed
from tables.cards import owners

unknown = Unknown(metrics.UNKNOWN_FIELDS)


@app.agent(payments)
async def screening(stream: Any) -> None:
    """Decide each payment, publish the decision, learn the payment; settled when Kafka holds all of it."""
    async for work in owners.chunks(stream):
        if work.topic == transactions:
            screen_payments(work)
        elif work.topic == labels:
            learn_labels(work)
        elif work.topic == history:
            learn_history(work)


def screen_payments(work: Work[Card]) -> None:
    """Decide and learn a chunk of payments; what was learnt before is skipped, what was decided before is adopted."""
    chunk = Chunk(work)
    for each in chunk.rounds():
        chunk.screen(each)
    again = {record.offset for record in work.records if has(record, REDRIVEN)}  # an operator's, of which no producer is judged
    if work.owner.latch.trips(len(work.records) - len(again), len(chunk.letters.keys() - again)):
        owners.latch(work, work.owner.latch.sentence)
        return
    chunk.hand_over()


class Payment(NamedTuple):
    """A payment, and how it came."""

    record: ConsumerRecord
    txn: Transaction


class Chunk:
    """Payments on their way, and what came of each: handed over in the order of offsets, in whatever order they were decided."""

    def __init__(self, work: Work[Card]) -> None:
        self.letters: dict[int, Letter] = {}
        """Dead letters by the offsets of their records; likewise what follows."""
        self._decided: dict[int, tuple[Payment, Screened]] = {}
        self._tidings: dict[int, Tidings] = {}
        self._work = work
        terms = application.terms()
        self._models = None if terms.models is None else Timed(terms.models)
        self._terms = terms if self._models is None else replace(terms, bundle=self._models)
        self._now = datetime.now(UTC)
        self._now_ms = self._now.timestamp() * 1000
        self._tally = metrics.Tally(self._terms.rates.base)
        self._spent = dict.fromkeys(metrics.PARTS, 0.0)

    def rounds(self) -> list[list[Payment]]:
        """The first payment of each card, then the second of each, and so on: what is known of a card depends on the verdict before."""
        begun = perf_counter()
        found: list[list[Payment]] = []
        before: dict[str, int] = {}
        for payment in self._read():
            number = before.get(payment.txn.card_id, 0)
            before[payment.txn.card_id] = number + 1
            if number == len(found):
                found.append([])
            found[number].append(payment)
        if found:
            unknown.count(unknown_fields(found[0][0].record.value))
        self._spent["parse"] += perf_counter() - begun
        return found

    def _read(self) -> Iterator[Payment]:
        """What can be read of the chunk."""
        for record in self._work.records:
            try:
                yield Payment(record, read_payment(record.value, record.key, record.timestamp, token=settings.card_id_is_token))
            except Refused as refused:
                self.letters[record.offset] = dead_letter(record, refused)

    def screen(self, together: Iterable[Payment]) -> None:
        """Decide and learn payments of different cards."""
        begun = perf_counter()
        waiting: list[tuple[Payment, Described]] = []
        for payment in together:
            found = self._begin(payment)
            if isinstance(found, Described):
                waiting.append((payment, found))
            elif found is not None:
                self._learn(payment, found)
        recalled = perf_counter()
        for (payment, _), screened in zip(waiting, judge([each for _, each in waiting], self._terms), strict=True):
            self._learn(payment, screened)
        self._spent["recall"] += recalled - begun
        self._spent["decide"] += perf_counter() - recalled

    def _begin(self, payment: Payment) -> Described | Screened | None:
        """The payment described; the answer to a repeat; `None` for what is not to be decided."""
        record, txn = payment
        work, terms = self._work, self._terms
        try:
            card = recall(work, record, txn.card_id)
        except Refused as refused:
            self.letters[record.offset] = dead_letter(record, refused)
            return None
        if is_learnt(work, record, card, TRANSACTIONS):
            self._tally.skipped += 1
            return None
        ruling = standing(work.owner.recorded.get(record.offset, ()), txn)
        if ruling is not None:
            adopted = adopt(card, txn, terms, ruling, record.timestamp, record.offset)
            work.learn(txn.card_id, adopted.card)
            self._tidings[record.offset] = adopted.tidings
            self._tally.adopted += 1
            return None
        stale = self._now_ms - record.timestamp > STALE_MS
        receipt = Receipt(record.timestamp, self._now, stale, has(record, REDRIVEN), has(record, EXPLAIN))
        return describe(card, txn, terms, receipt, record.offset)

    def _learn(self, payment: Payment, screened: Screened) -> None:
        offset = payment.record.offset
        self._work.learn(payment.txn.card_id, screened.card)
        self._decided[offset] = payment, screened
        self._tidings[offset] = screened.tidings

    def hand_over(self) -> None:
        """Publish all of it, and count it."""
        begun = perf_counter()
        for _, ((record, txn), screened) in sorted(self._decided.items()):
            publish(self._work, record, txn, screened.ruling)
            self._tally.add(screened, txn)
        bury(self._work, [letter for _, letter in sorted(self.letters.items())])
        told = Telling(TRANSACTIONS)
        for _, tidings in sorted(self._tidings.items()):
            told.add(tidings)
        told.send(self._work)
        self._tally.count()
        self._spent["write"] = perf_counter() - begun
        for part, seconds in self._spent.items():
            metrics.PARTS[part].observe(seconds)
        if self._models is not None:
            metrics.SCORING.observe(self._models.seconds)


def learn_labels(work: Work[Card]) -> None:
    """Weigh what is said about payments, seen here or not; what changes is learnt."""
    tally = metrics.LabelTally()
    told = Telling(LABELS)
    letters: list[Letter] = []
    for record in work.records:
        try:
            label = read_label(record.value, record.key, record.timestamp, token=settings.card_id_is_token)
            card = recall(work, record, label.card_id)
        except Refused as refused:
            letters.append(dead_letter(record, refused))
            continue
        if is_learnt(work, record, card, LABELS):
            continue
        heard = learn_label(card, label, record.offset)
        work.learn(label.card_id, heard.card)
        if heard.changed is not None:
            told.add(tidings_of_verdict(heard.changed, label.card_id, record.offset))
        tally.add(label, heard)
    bury(work, letters)
    told.send(work)
    tally.count()


def learn_history(work: Work[Card]) -> None:
    """Learn payments that were decided elsewhere, and forget cards."""
    terms = application.terms()
    told = Telling(HISTORY)
    letters: list[Letter] = []
    learnt = erased = 0
    for record in work.records:
        try:
            past = read_history(record.value, record.key, record.timestamp, token=settings.card_id_is_token)
            card_id = record.key.decode()
            card = recall(work, record, card_id)
        except Refused as refused:
            letters.append(dead_letter(record, refused))
            continue
        if is_learnt(work, record, card, HISTORY):
            continue
        if isinstance(past, Erase):
            work.learn(card_id, None)
            erased += 1
        else:
            known = learn_past(card, past, terms, record.timestamp, record.offset)
            work.learn(card_id, known.card)
            told.add(known.tidings)
            learnt += 1
    bury(work, letters)
    told.send(work)
    metrics.LEARNT_HISTORY.inc(learnt)
    metrics.ERASED.inc(erased)


def has(record: ConsumerRecord, mark: str) -> bool:
    """Whether the record carries a header of that name."""
    return bool(record.headers) and any(name == mark for name, _ in record.headers)


def recall(work: Work[Card], record: ConsumerRecord, card_id: str) -> Card | None:
    """What is remembered of the card; `None` for nothing. Raises `Refused` where it is not at home in this partition."""
    card = work.recall(card_id)
    if card is None:
        check_partition(record)
    return card


def is_learnt(work: Work[Card], record: ConsumerRecord, card: Card | None, source: int) -> bool:
    """Whether the record was dealt with before: as the card knows or, where that is forgotten, the partition."""
    offset: int = record.offset
    return offset <= work.passed or (card is not None and offset <= card.seen[source])


def publish(work: Work[Card], record: ConsumerRecord, txn: Transaction, ruling: Ruling) -> None:
    source = b"%d:%d" % (record.partition, record.offset)
    work.publish(decisions, record.key, encode_decision(txn, ruling), [(SOURCE, source)])
