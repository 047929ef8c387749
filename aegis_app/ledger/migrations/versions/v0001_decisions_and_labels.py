"""Decisions, the rules they hit, labels, verdicts, and how far each topic is in; views for boards."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
FLAGGED = sa.text("verdict <> 'allow'")

DIALECT = {
    "postgresql": {
        "number": "numeric",
        "units": "CAST(base_minor_units AS numeric)",
        "mature": "d.day <= (now() AT TIME ZONE 'UTC')::date - b.maturity_days",
        "why": "(SELECT string_agg(each ->> 'text', '; ') FROM jsonb_array_elements(d.reasons) AS each)",
    },
    "sqlite": {
        "number": "real",
        "units": "CAST(base_minor_units AS real)",
        "mature": "d.day <= date('now', '-' || b.maturity_days || ' days')",
        "why": "(SELECT group_concat(json_extract(value, '$.text'), '; ') FROM json_each(d.reasons))",
    },
}
"""What the two say each in its own way."""

VIEWS = {
    # Each decision beside what is known of its payment. A payment that nobody labelled is genuine once it is mature; but one that was
    # blocked gets no chargeback, and stays unknown.
    "judged": """
        SELECT d.transaction_id, d.card_id, d.timestamp, d.day, d.decided_at, d.kind, d.channel, d.merchant_id, d.merchant_category,
            d.country, d.latitude, d.longitude, d.amount_minor, d.currency, d.base_minor, b.base_minor_units,
            CAST(d.base_minor AS {number}) / b.base_minor_units AS amount, d.outcome, d.verdict, d.score, d.probability,
            d.isolation_forest, d.autoencoder, d.supervised, d.policy, d.bundle, d.degraded, d.stale, {mature} AS is_mature,
            v.is_fraud AS labelled, v.source AS label_source, v.labelled_at, v.fraud_type,
            CASE WHEN v.is_fraud IS NOT NULL THEN v.is_fraud WHEN {mature} AND d.outcome <> 'block' THEN false END AS is_fraud
        FROM decisions d CROSS JOIN books b
            LEFT JOIN verdicts v ON v.transaction_id = d.transaction_id AND v.card_id = d.card_id
    """,
    # A row for each day on which payments took place. Refunds and reversals are left out.
    "cohorts": """
        SELECT day, is_mature, count(*) AS payments,
            count(*) FILTER (WHERE verdict = 'review') AS reviews,
            count(*) FILTER (WHERE verdict = 'block') AS blocks,
            count(*) FILTER (WHERE is_fraud) AS frauds,
            count(*) FILTER (WHERE is_fraud AND verdict <> 'allow') AS caught,
            count(*) FILTER (WHERE is_fraud AND verdict = 'allow') AS missed,
            count(*) FILTER (WHERE NOT is_fraud AND verdict <> 'allow') AS false_alarms,
            count(*) FILTER (WHERE is_fraud IS NULL) AS unknown,
            count(*) FILTER (WHERE base_minor IS NULL) AS unpriced,
            coalesce(sum(base_minor), 0) / {units} AS money,
            coalesce(sum(base_minor) FILTER (WHERE is_fraud), 0) / {units} AS fraud_money,
            coalesce(sum(base_minor) FILTER (WHERE is_fraud AND verdict <> 'allow'), 0) / {units} AS caught_money,
            coalesce(sum(base_minor) FILTER (WHERE is_fraud AND verdict = 'allow'), 0) / {units} AS missed_money,
            coalesce(sum(base_minor) FILTER (WHERE NOT is_fraud AND verdict <> 'allow'), 0) / {units} AS false_alarm_money,
            coalesce(sum(base_minor) FILTER (WHERE outcome = 'block'), 0) / {units} AS blocked_money
        FROM judged WHERE kind NOT IN ('refund', 'reversal') GROUP BY day, is_mature, base_minor_units
    """,
    # A row for each rule, mode (on, shadow) and day.
    "rule_days": """
        SELECT h.rule, h.mode, j.day, j.is_mature, count(*) AS hits,
            count(*) FILTER (WHERE j.is_fraud) AS frauds,
            count(*) FILTER (WHERE NOT j.is_fraud) AS false_alarms,
            count(*) FILTER (WHERE j.is_fraud IS NULL) AS unknown,
            coalesce(sum(j.base_minor), 0) / {units} AS money,
            coalesce(sum(j.base_minor) FILTER (WHERE j.is_fraud), 0) / {units} AS fraud_money
        FROM judged j JOIN hits h ON h.transaction_id = j.transaction_id AND h.card_id = j.card_id
        GROUP BY h.rule, h.mode, j.day, j.is_mature, j.base_minor_units
    """,
    # Decisions that policy did not simply allow, with their reasons in one text, strongest first.
    "flagged": """
        SELECT d.timestamp, d.decided_at, d.transaction_id, d.card_id, d.merchant_id, d.channel, d.country, d.latitude, d.longitude,
            CAST(d.base_minor AS {number}) / b.base_minor_units AS amount, d.amount_minor, d.currency, d.verdict, d.outcome, d.score,
            {why} AS why, v.is_fraud AS labelled
        FROM decisions d CROSS JOIN books b
            LEFT JOIN verdicts v ON v.transaction_id = d.transaction_id AND v.card_id = d.card_id
        WHERE d.verdict <> 'allow'
    """,
}


def key() -> tuple[sa.Column[str], sa.Column[str]]:
    return sa.Column("transaction_id", sa.Text(), nullable=False), sa.Column("card_id", sa.Text(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "books",
        sa.Column("base_currency", sa.Text(), primary_key=True),
        sa.Column("base_minor_units", sa.Integer(), nullable=False),
        sa.Column("maturity_days", sa.Integer(), nullable=False),
    )
    op.create_table(
        "sources",
        sa.Column("topic", sa.Text(), primary_key=True),
        sa.Column("partition", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
    )
    make_decisions()
    make_hits()
    make_labels()
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query.format_map(DIALECT[op.get_bind().dialect.name])}")


def make_decisions() -> None:
    op.create_table(
        "decisions",
        *key(),
        sa.Column("timestamp", MOMENT, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("base_minor", sa.BigInteger()),
        sa.Column("kind", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text()) for name in ("channel", "merchant_id", "merchant_category", "payee_id", "customer_id", "device_id")),
        sa.Column("country", sa.Text()),
        sa.Column("home_country", sa.Text()),
        sa.Column("latitude", sa.Double()),
        sa.Column("longitude", sa.Double()),
        sa.Column("attributes", JSON, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("score", sa.Double()),
        sa.Column("probability", sa.Double()),
        *(sa.Column(name, JSON, nullable=False) for name in ("reasons", "rules", "shadow_rules")),
        *(sa.Column(name, sa.Double()) for name in ("isolation_forest", "autoencoder", "supervised")),
        sa.Column("policy", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text()) for name in ("bundle", "lists", "risk", "rates")),
        sa.Column("control_probability", sa.Double()),
        sa.Column("decided_at", MOMENT, nullable=False),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("duplicate", "degraded", "stale", "redriven")),
        sa.Column("features", JSON),
        sa.PrimaryKeyConstraint("transaction_id", "card_id"),
    )
    op.create_index("decisions_by_time", "decisions", ["timestamp", "transaction_id", "card_id"])
    op.create_index("decisions_by_card", "decisions", ["card_id", "timestamp"])
    op.create_index("decisions_by_merchant", "decisions", ["merchant_id", "timestamp"])
    op.create_index("decisions_by_day", "decisions", ["day"])
    op.create_index("decisions_flagged", "decisions", ["decided_at"], postgresql_where=FLAGGED, sqlite_where=FLAGGED)


def make_hits() -> None:
    op.create_table(
        "hits",
        *key(),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("timestamp", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("transaction_id", "card_id", "rule"),
    )
    op.create_index("hits_by_rule", "hits", ["rule", "timestamp", "transaction_id", "card_id"])
    op.create_index("hits_by_time", "hits", ["timestamp"])


def make_labels() -> None:
    op.create_table(
        "labels",
        *key(),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("labelled_at", MOMENT, nullable=False),
        sa.Column("is_fraud", sa.Boolean(), nullable=False),
        sa.Column("timestamp", MOMENT, nullable=False),
        *(sa.Column(name, sa.Text()) for name in ("fraud_type", "labelled_by", "note", "merchant_id")),
        sa.Column("amount_minor", sa.BigInteger()),
        *(sa.Column(name, sa.Text()) for name in ("currency", "device_id", "country")),
        sa.PrimaryKeyConstraint("transaction_id", "card_id", "source", "labelled_at", "is_fraud"),
    )
    op.create_index("labels_by_time", "labels", ["timestamp"])
    op.create_table(
        "verdicts",
        *key(),
        sa.Column("is_fraud", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("strength", sa.Integer(), nullable=False),
        sa.Column("labelled_at", MOMENT, nullable=False),
        sa.Column("timestamp", MOMENT, nullable=False),
        *(sa.Column(name, sa.Text()) for name in ("fraud_type", "labelled_by", "note")),
        sa.PrimaryKeyConstraint("transaction_id", "card_id"),
    )
    op.create_index("verdicts_by_time", "verdicts", ["timestamp"])


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    for name in ("verdicts", "labels", "hits", "decisions", "sources", "books"):
        op.drop_table(name)
