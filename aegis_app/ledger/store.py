"""Rows into the ledger, a batch at a time: all of it, with how far its topics were read, or nothing.

Whatever is written twice is known by what it is. So of several writers, of which one still believes to have a partition, none does harm.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from random import randrange
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Engine, Table, delete, select, text, tuple_

from aegis_app.core.answer import Fallback
from aegis_app.core.label import Label
from aegis_app.core.payment import exponent
from aegis_app.core.rates import Rates
from aegis_app.ledger.database import INSERT, LedgerError, speaking
from aegis_app.ledger.migrating import writing
from aegis_app.ledger.rows import Row, decision_row, fallback_row, hit_rows, label_row, verdict_row
from aegis_app.ledger.tables import books, decisions, fallbacks, hits, labels, sources, verdicts
from aegis_app.ledger.totals import COUNTED, SHARDS, count

Place = tuple[str, int]
"""A topic's full name, and a partition."""
MATURITY_DAYS: Final = 60
PRUNED_AT_ONCE: Final = 5000
"""Most rows deleted in a transaction: the writer waits for no more."""
_KEY: Final = ("transaction_id", "card_id")
_ABOUT_PAYMENTS: Final = (hits, decisions, labels, verdicts, fallbacks)


class Batch(NamedTuple):
    """What is written in one transaction."""

    decisions: Sequence[Any]
    """`core.decision.Decision`, those of a partition in its order."""
    labels: Sequence[Label]
    read: dict[Place, int]
    """The next offset of each partition."""
    fallbacks: Sequence[Fallback] = ()


class Store:
    """The writing side of a migrated ledger. Its methods raise `LedgerAwayError` where the database does not answer.

    They raise `LedgerError` where the ledger is not migrated, or was migrated by a newer version meanwhile.
    """

    def __init__(self, engine: Engine, rates: Rates) -> None:
        self._engine = engine
        self._rates = rates
        self._shard = randrange(SHARDS)
        self._insert = INSERT[engine.dialect.name]

    def open(self) -> None:
        """Raises `LedgerError` where the ledger is in another currency."""
        with writing(self._engine) as connection:
            row = {"base_currency": self._rates.base, "base_minor_units": 10 ** exponent(self._rates.base), "maturity_days": MATURITY_DAYS}
            if connection.execute(select(books)).first() is None:
                connection.execute(self._insert(books).on_conflict_do_nothing(), row)
            kept_in = connection.execute(select(books.c.base_currency)).scalar_one()
            if kept_in != self._rates.base:
                raise LedgerError(
                    f"the ledger is kept in {kept_in}, AEGIS_BASE_CURRENCY is {self._rates.base}: a base currency never changes"
                )

    def places(self, partitions: Collection[Place]) -> dict[Place, int]:
        """The next offset of each of `partitions` of which anything was read."""
        with speaking(self._engine), self._engine.connect() as connection:
            found = connection.execute(select(sources))
            return {(row.topic, row.partition): row.next_offset for row in found if (row.topic, row.partition) in partitions}

    def write(self, batch: Batch) -> None:
        """Add what is not there yet: the first decision of a payment stands, the heaviest label is in force."""
        with writing(self._engine) as connection:
            if batch.decisions:
                self._decide(connection, batch.decisions)
            if batch.labels:
                self._label(connection, batch.labels)
            self._add(connection, fallbacks, [fallback_row(each) for each in batch.fallbacks])
            if batch.read:
                rows = [
                    {"topic": topic, "partition": partition, "next_offset": at} for (topic, partition), at in sorted(batch.read.items())
                ]
                statement = self._insert(sources)
                new = {"next_offset": statement.excluded.next_offset}
                connection.execute(statement.on_conflict_do_update(index_elements=["topic", "partition"], set_=new), rows)

    def _decide(self, connection: Connection, made: Iterable[Any]) -> None:
        first: dict[tuple[str, str], Any] = {}
        for decision in made:
            first.setdefault((decision.transaction_id, decision.card_id), decision)
        known = self._known(connection, {transaction_id for transaction_id, _ in first})
        new = [decision for key, decision in first.items() if key not in known]
        added = self._add(connection, decisions, [decision_row(decision, self._rates) for decision in new], COUNTED)
        count(connection, added, self._shard)
        self._add(connection, hits, [row for decision in new for row in hit_rows(decision)])

    def _known(self, connection: Connection, transaction_ids: set[str]) -> set[tuple[str, str]]:
        asked = select(decisions.c.transaction_id, decisions.c.card_id).where(decisions.c.transaction_id.in_(transaction_ids))
        return {(row.transaction_id, row.card_id) for row in connection.execute(asked)}

    def _label(self, connection: Connection, said: Sequence[Label]) -> None:
        self._add(connection, labels, [label_row(label) for label in said])
        statement = self._insert(verdicts)
        new = statement.excluded
        heavier = tuple_(new.strength, new.labelled_at, new.is_fraud) > tuple_(
            verdicts.c.strength, verdicts.c.labelled_at, verdicts.c.is_fraud
        )
        changed = {column.name: new[column.name] for column in verdicts.columns if column.name not in _KEY}
        connection.execute(
            statement.on_conflict_do_update(index_elements=_KEY, set_=changed, where=heavier), [verdict_row(label) for label in said]
        )

    def _add(self, connection: Connection, table: Table, rows: list[Row], told: Sequence[Column[Any]] = ()) -> Sequence[Any]:
        """Those that are not there yet; returns `told` of them."""
        if not rows:
            return ()
        if connection.dialect.name == "postgresql":
            # One parameter for all rows: a quarter of the time that a parameter for each cell takes.
            names = ", ".join(f'"{column.name}"' for column in table.columns)
            sent = f"SELECT {names} FROM json_populate_recordset(NULL::{table.name}, CAST(:rows AS json))"
            returning = f" RETURNING {', '.join(column.name for column in told)}" if told else ""
            statement = text(f"INSERT INTO {table.name} ({names}) {sent} ON CONFLICT DO NOTHING{returning}")
            done = connection.execute(statement, {"rows": msgspec.json.encode(rows).decode()})
        else:
            adding = self._insert(table).on_conflict_do_nothing()
            done = connection.execute(adding.returning(*told) if told else adding, rows)
        return done.all() if told else ()


def prune(engine: Engine, before: datetime) -> Iterator[int]:
    """Delete all about payments older than `before`, step by step; the number of rows of each. Raises `LedgerAwayError`."""
    for table in _ABOUT_PAYMENTS:
        key = [table.c[column.name] for column in table.primary_key]
        old = select(*key).where(table.c.timestamp < before).order_by(table.c.timestamp).limit(PRUNED_AT_ONCE)
        while True:
            with writing(engine) as connection:
                gone = _delete(connection, table, tuple_(*key).in_(old))
            if gone == 0:
                break
            yield gone


def erase(engine: Engine, card_id: str) -> int:
    """Delete all about a card; returns the number of rows. Raises `LedgerAwayError`."""
    with writing(engine) as connection:
        return sum(_delete(connection, table, table.c.card_id == card_id) for table in _ABOUT_PAYMENTS)


def _delete(connection: Connection, table: Table, which: ColumnElement[bool]) -> int:
    gone = delete(table).where(which)
    if table is not decisions:
        return connection.execute(gone).rowcount
    rows = connection.execute(gone.returning(*COUNTED)).all()
    count(connection, rows, randrange(SHARDS), -1)
    return len(rows)
