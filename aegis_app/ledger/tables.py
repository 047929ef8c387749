"""The tables of the ledger. What makes them in a database is `migrations`; a test holds the two against each other.

Columns have the names that fields have on the topics. Times are in UTC, money is in minor units. docs/ledger.md tells it all.
"""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata: Final = MetaData()
Json: Final = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Moment(TypeDecorator[datetime]):
    """An aware time: with its time zone in PostgreSQL, as text in UTC in SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _key() -> tuple[Column[Any], Column[Any]]:
    """What names a payment: two cards may come with one transaction_id, and are two payments then, as for the workers."""
    return Column("transaction_id", Text, primary_key=True), Column("card_id", Text, primary_key=True)


books: Final = Table(
    "books",
    metadata,
    Column("base_currency", Text, primary_key=True),
    Column("base_minor_units", Integer, nullable=False),
    Column("maturity_days", Integer, nullable=False),
)
"""One row: the currency of `base_minor`, its minor units to a whole one, and the days after which no label means genuine."""

sources: Final = Table(
    "sources",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
)
"""How far each partition is in the ledger, written with its rows."""

decisions: Final = Table(
    "decisions",
    metadata,
    *_key(),
    Column("timestamp", Moment, nullable=False),
    Column("day", Date, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("base_minor", BigInteger),
    Column("kind", Text, nullable=False),
    Column("channel", Text),
    Column("merchant_id", Text),
    Column("merchant_category", Text),
    Column("payee_id", Text),
    Column("customer_id", Text),
    Column("device_id", Text),
    Column("country", Text),
    Column("home_country", Text),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("attributes", Json, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("score", Double),
    Column("probability", Double),
    Column("reasons", Json, nullable=False),
    Column("rules", Json, nullable=False),
    Column("shadow_rules", Json, nullable=False),
    Column("isolation_forest", Double),
    Column("autoencoder", Double),
    Column("supervised", Double),
    Column("policy", Text, nullable=False),
    Column("bundle", Text),
    Column("lists", Text),
    Column("risk", Text),
    Column("rates", Text),
    Column("control_probability", Double),
    Column("decided_at", Moment, nullable=False),
    Column("duplicate", Boolean, nullable=False),
    Column("degraded", Boolean, nullable=False),
    Column("stale", Boolean, nullable=False),
    Column("redriven", Boolean, nullable=False),
    Column("features", Json),
)
"""The first decision of each payment."""
Index("decisions_by_time", decisions.c.timestamp, decisions.c.transaction_id, decisions.c.card_id)
Index("decisions_by_card", decisions.c.card_id, decisions.c.timestamp)
Index("decisions_by_merchant", decisions.c.merchant_id, decisions.c.timestamp)
Index("decisions_by_day", decisions.c.day)
Index("decisions_flagged", decisions.c.decided_at, postgresql_where=text("verdict <> 'allow'"), sqlite_where=text("verdict <> 'allow'"))

hits: Final = Table(
    "hits",
    metadata,
    *_key(),
    Column("rule", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("timestamp", Moment, nullable=False),
)
"""The rules that each decision hit, `on` or in `shadow`."""
Index("hits_by_rule", hits.c.rule, hits.c.timestamp, hits.c.transaction_id, hits.c.card_id)
Index("hits_by_time", hits.c.timestamp)

totals: Final = Table(
    "totals",
    metadata,
    Column("day", Date, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("verdict", Text, primary_key=True),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("payments", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("base_minor", BigInteger, nullable=False),
)
"""How many payments of a day were decided so, without refunds and reversals, and their money; the sum of all shards, see `totals.py`."""

fallbacks: Final = Table(
    "fallbacks",
    metadata,
    *_key(),
    Column("answered_at", Moment, primary_key=True),
    Column("timestamp", Moment, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("waited_ms", Integer, nullable=False),
    Column("source", Text),
)
"""What callers were answered without a decision, each time; `decisions` has what was decided all the same."""
Index("fallbacks_by_time", fallbacks.c.timestamp)
Index("fallbacks_by_answer", fallbacks.c.answered_at)

labels: Final = Table(
    "labels",
    metadata,
    *_key(),
    Column("source", Text, primary_key=True),
    Column("labelled_at", Moment, primary_key=True),
    Column("is_fraud", Boolean, primary_key=True),
    Column("timestamp", Moment, nullable=False),
    Column("fraud_type", Text),
    Column("labelled_by", Text),
    Column("note", Text),
    Column("merchant_id", Text),
    Column("amount_minor", BigInteger),
    Column("currency", Text),
    Column("device_id", Text),
    Column("country", Text),
)
"""All that was said about payments, each word once; payments that were never decided here too."""
Index("labels_by_time", labels.c.timestamp)

verdicts: Final = Table(
    "verdicts",
    metadata,
    *_key(),
    Column("is_fraud", Boolean, nullable=False),
    Column("source", Text, nullable=False),
    Column("strength", Integer, nullable=False),
    Column("labelled_at", Moment, nullable=False),
    Column("timestamp", Moment, nullable=False),
    Column("fraud_type", Text),
    Column("labelled_by", Text),
    Column("note", Text),
)
"""The label in force about each payment: the strongest source, then the latest word; at the same moment, fraud."""
Index("verdicts_by_time", verdicts.c.timestamp)
