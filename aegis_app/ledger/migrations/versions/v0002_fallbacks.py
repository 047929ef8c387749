"""What callers were answered without a decision, and a view of what was decided then."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
NUMBER = {"postgresql": "numeric", "sqlite": "real"}

# A row for each answer without a decision, beside the decision, if it is there.
FALLEN_BACK = """
    SELECT f.answered_at, f.timestamp, f.transaction_id, f.card_id, f.waited_ms, f.outcome AS answered, d.outcome AS decided,
        f.outcome = d.outcome AS as_answered, d.verdict, d.score, d.decided_at,
        CAST(d.base_minor AS {number}) / b.base_minor_units AS amount, v.is_fraud AS labelled
    FROM fallbacks f CROSS JOIN books b
        LEFT JOIN decisions d ON d.transaction_id = f.transaction_id AND d.card_id = f.card_id
        LEFT JOIN verdicts v ON v.transaction_id = f.transaction_id AND v.card_id = f.card_id
"""


def upgrade() -> None:
    op.create_table(
        "fallbacks",
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("card_id", sa.Text(), nullable=False),
        sa.Column("answered_at", MOMENT, nullable=False),
        sa.Column("timestamp", MOMENT, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("waited_ms", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text()),
        sa.PrimaryKeyConstraint("transaction_id", "card_id", "answered_at"),
    )
    op.create_index("fallbacks_by_time", "fallbacks", ["timestamp"])
    op.create_index("fallbacks_by_answer", "fallbacks", ["answered_at"])
    op.execute(f"CREATE VIEW fallen_back AS {FALLEN_BACK.format(number=NUMBER[op.get_bind().dialect.name])}")


def downgrade() -> None:
    op.execute("DROP VIEW fallen_back")
    op.drop_table("fallbacks")
