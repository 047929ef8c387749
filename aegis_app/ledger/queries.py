"""What is read from the ledger: a decision, or a page of them, each with the verdict in force."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Engine, FromClause, Row, Select, Table, and_, select, tuple_

from aegis_app.core.answer import Fallback
from aegis_app.core.decision import Decision
from aegis_app.core.label import Label, Source
from aegis_app.core.payment import Outcome
from aegis_app.ledger.database import speaking
from aegis_app.ledger.tables import decisions, fallbacks, hits, labels, verdicts

MOST: Final = 1000
"""Decisions on a page."""


class Verdict(Struct, frozen=True, kw_only=True):
    """The label in force about a payment."""

    is_fraud: bool
    source: Source
    labelled_at: datetime
    fraud_type: str | None = None
    labelled_by: str | None = None
    note: str | None = None


class Entry(Struct, frozen=True):
    """A payment in the ledger."""

    decision: Any
    """`core.decision.Decision`: the first about this payment."""
    base_minor: int | None
    """Its amount in minor units of the base currency; `None` where that is not known."""
    known: Verdict | None
    """`None` while nobody said anything."""
    fallback: Fallback | None
    """What its caller was answered before there was a decision, the first time; `None` where that was the decision."""


class Place(Struct, frozen=True, array_like=True):
    """Where a page ended: the key of its last decision. To be handed on as it is."""

    timestamp: datetime
    transaction_id: str
    card_id: str

    def encode(self) -> str:
        """As it stands in a URL."""
        return msgspec.json.encode(self).hex()

    @classmethod
    def decode(cls, text: str) -> "Place":
        """Raises `ValueError`."""
        try:
            return msgspec.json.decode(bytes.fromhex(text), type=cls)
        except (ValueError, msgspec.MsgspecError):
            raise ValueError("this is no place that a page ended with: it is `next` of the page before, as it is") from None


class Wanted(Struct, frozen=True, kw_only=True):
    """Which decisions; what is not said does not matter."""

    outcome: Outcome | None = None
    verdict: Outcome | None = None
    card_id: str | None = None
    merchant_id: str | None = None
    rule: str | None = None
    """That was hit, with effect or in shadow."""
    reviewed: bool | None = None
    """Whether anybody said what the payment turned out to be."""
    since: datetime | None = None
    """Payments of then and later, by their own time."""
    until: datetime | None = None
    """Payments before."""


class Page(Struct, frozen=True):
    """Some decisions, the newest payment first."""

    entries: list[Entry]
    next: Place | None
    """To ask for what follows; `None` where nothing does."""


def find(engine: Engine, transaction_id: str, card_id: str | None = None) -> list[Entry]:
    """The payment of this id; more than one where several cards came with it, the oldest first. Raises `LedgerAwayError`."""
    query = _decided().where(decisions.c.transaction_id == transaction_id).order_by(decisions.c.decided_at)
    if card_id is not None:
        query = query.where(decisions.c.card_id == card_id)
    with speaking(engine), engine.connect() as connection:
        return _entries(connection, connection.execute(query).all())


def page(engine: Engine, wanted: Wanted, after: Place | None = None, limit: int = 100) -> Page:
    """Up to `limit` (1 to `MOST`) decisions behind `after`. Raises `LedgerAwayError`."""
    limit = min(max(limit, 1), MOST)
    of = decisions if wanted.rule is None else hits
    key = of.c.timestamp, of.c.transaction_id, of.c.card_id
    query = _narrowed(_decided(of), wanted, of.c.timestamp)
    if after is not None:
        query = query.where(tuple_(*key) < tuple_(after.timestamp, after.transaction_id, after.card_id))
    query = query.order_by(*(column.desc() for column in key)).limit(limit + 1)
    with speaking(engine), engine.connect() as connection:
        rows = connection.execute(query).all()
        entries = _entries(connection, rows[:limit])
    last = entries[-1].decision if len(rows) > limit else None
    return Page(entries, None if last is None else Place(last.timestamp, last.transaction_id, last.card_id))


def said(engine: Engine, transaction_id: str, card_id: str) -> list[Label]:
    """All labels about a payment, as they became known. Raises `LedgerAwayError`."""
    about = select(labels).where(labels.c.transaction_id == transaction_id, labels.c.card_id == card_id)
    with speaking(engine), engine.connect() as connection:
        return [msgspec.convert(_values(row), Label) for row in connection.execute(about.order_by(labels.c.labelled_at))]


_KNOWN: Final = [verdicts.c[name].label(f"known_{name}") for name in Verdict.__struct_fields__]


def _decided(of: Table = decisions) -> Select[Any]:
    """Decisions with their verdicts; those that rules hit, in the order of `hits`, if they are asked for.

    The joins are outer ones, though nothing is missing: PostgreSQL underrates how many rows two columns together select, and would
    read and sort the whole table for one page.
    """
    whole: FromClause = decisions if of is decisions else hits.outerjoin(decisions, _same(hits))
    return select(decisions, *_KNOWN).select_from(whole.outerjoin(verdicts, _same(verdicts)))


def _same(table: FromClause, of: FromClause = decisions) -> ColumnElement[bool]:
    return (table.c.transaction_id == of.c.transaction_id) & (table.c.card_id == of.c.card_id)


def _narrowed(query: Select[Any], wanted: Wanted, at: ColumnElement[datetime]) -> Select[Any]:
    if wanted.rule is not None:
        query = query.where(hits.c.rule == wanted.rule)
    if wanted.since is not None:
        query = query.where(at >= wanted.since)
    if wanted.until is not None:
        query = query.where(at < wanted.until)
    if wanted.rule is None or wanted.card_id is not None or wanted.merchant_id is not None:
        return query.where(*_conditions(wanted, decisions))
    each = decisions.alias()
    conditions = _conditions(wanted, each)
    if not conditions:
        return query
    # Of one hit after the other until the page is full: as conditions on a join, of which none names a card or merchant, they would have
    # PostgreSQL read all decisions.
    return query.where(select(and_(*conditions)).where(_same(hits, each)).correlate(hits).scalar_subquery())


def _conditions(wanted: Wanted, of: FromClause) -> list[ColumnElement[bool]]:
    """On decisions, as `of`."""
    values = {name: getattr(wanted, name) for name in ("outcome", "verdict", "card_id", "merchant_id")}
    found: list[ColumnElement[bool]] = [of.c[name] == str(value) for name, value in values.items() if value is not None]
    if wanted.reviewed is not None:
        known = select(verdicts.c.is_fraud).where(_same(verdicts, of)).correlate(of)
        # No join, see above; and what is missing by `exists`, or PostgreSQL believes that hardly anything is.
        found.append(known.scalar_subquery().is_not(None) if wanted.reviewed else ~known.exists())
    return found


def _entries(connection: Connection, rows: Sequence[Row[Any]]) -> list[Entry]:
    answered: dict[tuple[str, str], Fallback] = {}
    asked = select(fallbacks).where(fallbacks.c.transaction_id.in_({row.transaction_id for row in rows}))
    for row in connection.execute(asked.order_by(fallbacks.c.answered_at)) if rows else ():
        answered.setdefault((row.transaction_id, row.card_id), msgspec.convert(_values(row), Fallback))
    return [_entry(row, answered.get((row.transaction_id, row.card_id))) for row in rows]


def _entry(row: Row[Any], fallback: Fallback | None) -> Entry:
    values = _values(row)
    known = {name: values.pop(f"known_{name}") for name in Verdict.__struct_fields__}
    verdict = None if known["is_fraud"] is None else msgspec.convert(known, Verdict)
    return Entry(msgspec.convert(values, Decision), values["base_minor"], verdict, fallback)


def _values(row: Row[Any]) -> dict[str, Any]:
    """By column; SQLAlchemy's names are strings of its own."""
    return {str(name): value for name, value in row._mapping.items()}
