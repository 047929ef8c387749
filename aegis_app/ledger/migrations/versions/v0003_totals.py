"""Totals of each day by what was decided, and `cohorts` from them: it need not read every payment any more."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DIALECT = {
    "postgresql": {
        "units": "CAST(base_minor_units AS numeric)",
        "mature": "d.day <= (now() AT TIME ZONE 'UTC')::date - b.maturity_days",
        "whole": "bigint",
    },
    "sqlite": {
        "units": "CAST(base_minor_units AS real)",
        "mature": "d.day <= date('now', '-' || b.maturity_days || ' days')",
        "whole": "integer",
    },
}

# Of each day, as `judged` has them: payments in all, then those that somebody spoke about, once as they are known and once taken off again
# as those that nobody spoke about.
COHORTS = """
    SELECT day, is_mature,
        {payments} AS payments,
        {reviews} AS reviews,
        {blocks} AS blocks,
        {frauds} AS frauds,
        {caught} AS caught,
        {missed} AS missed,
        {false_alarms} AS false_alarms,
        {unknown} AS unknown,
        CAST(sum(unpriced) AS {whole}) AS unpriced,
        sum(base_minor) / {units} AS money,
        coalesce(sum(base_minor) FILTER (WHERE is_fraud), 0) / {units} AS fraud_money,
        coalesce(sum(base_minor) FILTER (WHERE is_fraud AND verdict <> 'allow'), 0) / {units} AS caught_money,
        coalesce(sum(base_minor) FILTER (WHERE is_fraud AND verdict = 'allow'), 0) / {units} AS missed_money,
        coalesce(sum(base_minor) FILTER (WHERE NOT is_fraud AND verdict <> 'allow'), 0) / {units} AS false_alarm_money,
        coalesce(sum(base_minor) FILTER (WHERE outcome = 'block'), 0) / {units} AS blocked_money
    FROM (
        SELECT d.day, d.outcome, d.verdict, d.payments, d.unpriced, d.base_minor, b.base_minor_units, {mature} AS is_mature,
            CASE WHEN d.labelled IS NOT NULL THEN d.labelled WHEN {mature} AND d.outcome <> 'block' THEN false END AS is_fraud
        FROM (
            SELECT day, outcome, verdict, CAST(NULL AS boolean) AS labelled, payments, unpriced, base_minor FROM totals
            UNION ALL
            SELECT day, outcome, verdict, CASE WHEN way = 1 THEN labelled END, way * payments, way * unpriced, way * base_minor
            FROM (
                SELECT d.day, d.outcome, d.verdict, v.is_fraud AS labelled, count(*) AS payments,
                    count(*) FILTER (WHERE d.base_minor IS NULL) AS unpriced, CAST(coalesce(sum(d.base_minor), 0) AS {whole}) AS base_minor
                FROM decisions d JOIN verdicts v ON v.transaction_id = d.transaction_id AND v.card_id = d.card_id
                WHERE d.kind NOT IN ('refund', 'reversal')
                GROUP BY d.day, d.outcome, d.verdict, v.is_fraud
            ) said CROSS JOIN (SELECT 1 AS way UNION ALL SELECT -1) ways
        ) d CROSS JOIN books b
    ) judged_days
    GROUP BY day, is_mature, base_minor_units HAVING sum(payments) > 0
"""
COUNTS = {
    "payments": "true",
    "reviews": "verdict = 'review'",
    "blocks": "verdict = 'block'",
    "frauds": "is_fraud",
    "caught": "is_fraud AND verdict <> 'allow'",
    "missed": "is_fraud AND verdict = 'allow'",
    "false_alarms": "NOT is_fraud AND verdict <> 'allow'",
    "unknown": "is_fraud IS NULL",
}
FILL = """
    INSERT INTO totals (day, outcome, verdict, shard, payments, unpriced, base_minor)
    SELECT day, outcome, verdict, 0, count(*), count(*) FILTER (WHERE base_minor IS NULL), coalesce(sum(base_minor), 0)
    FROM decisions WHERE kind NOT IN ('refund', 'reversal') GROUP BY day, outcome, verdict
"""
# As it was before.
BEFORE = """
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
"""


def upgrade() -> None:
    of = DIALECT[op.get_bind().dialect.name]
    op.create_table(
        "totals",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("payments", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("base_minor", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "outcome", "verdict", "shard"),
    )
    op.execute(FILL)
    counts = {name: f"CAST(coalesce(sum(payments) FILTER (WHERE {which}), 0) AS {of['whole']})" for name, which in COUNTS.items()}
    op.execute("DROP VIEW cohorts")
    op.execute(f"CREATE VIEW cohorts AS {COHORTS.format_map(of | counts)}")


def downgrade() -> None:
    op.execute("DROP VIEW cohorts")
    op.execute(f"CREATE VIEW cohorts AS {BEFORE.format_map(DIALECT[op.get_bind().dialect.name])}")
    op.drop_table("totals")
