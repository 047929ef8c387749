"""Payments of each day by what was decided, kept in the transaction of their rows: boards need not read all of them, each time anew.

What was decided never changes. What payments turned out to be does, and is looked up when somebody asks: those are few.
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, func, insert, literal, select

from aegis_app.core.payment import GIVES_BACK
from aegis_app.ledger.database import INSERT
from aegis_app.ledger.migrating import writing
from aegis_app.ledger.tables import decisions, totals

COUNTED: Final = (decisions.c.day, decisions.c.kind, decisions.c.outcome, decisions.c.verdict, decisions.c.base_minor)
"""What is to be known of a decision that comes or goes."""
SHARDS: Final = 16
_LEFT_OUT: Final = frozenset(kind.value for kind in GIVES_BACK)


def count(connection: Connection, rows: Iterable[Any], shard: int, sign: int = 1) -> None:
    """Add `rows` of `COUNTED`, or take them off (`sign` -1). Writers with different shards (below `SHARDS`) do not wait for each other."""
    found: dict[tuple[Any, str, str], list[int]] = {}
    for day, kind, outcome, verdict, base_minor in rows:
        if kind not in _LEFT_OUT:
            total = found.setdefault((day, outcome, verdict), [0, 0, 0])
            total[0] += sign
            total[1] += sign * (base_minor is None)
            total[2] += sign * (0 if base_minor is None else base_minor)
    if not found:
        return
    statement = INSERT[connection.dialect.name](totals)
    names = ("payments", "unpriced", "base_minor")
    grown = {name: totals.c[name] + statement.excluded[name] for name in names}
    key = ("day", "outcome", "verdict")
    connection.execute(
        statement.on_conflict_do_update(index_elements=[*key, "shard"], set_=grown),
        [{**dict(zip(key, of, strict=True)), "shard": shard, **dict(zip(names, found[of], strict=True))} for of in sorted(found)],
    )


def recount(engine: Engine) -> tuple[int, int]:
    """Count all rows anew, while no writer adds any; returns how many payments were counted before, and now. Raises `LedgerError`.

    For a ledger into which a version wrote that knew nothing of totals.
    """
    key, kept = (decisions.c.day, decisions.c.outcome, decisions.c.verdict), select(func.coalesce(func.sum(totals.c.payments), 0))
    unpriced = func.count().filter(decisions.c.base_minor.is_(None))
    found = select(*key, literal(0), func.count(), unpriced, func.coalesce(func.sum(decisions.c.base_minor), 0))
    found = found.where(decisions.c.kind.not_in(_LEFT_OUT)).group_by(*key)
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE decisions IN SHARE ROW EXCLUSIVE MODE")
        before = connection.execute(kept).scalar_one()
        connection.execute(delete(totals))
        connection.execute(insert(totals).from_select(totals.columns.keys(), found))
        return int(before), int(connection.execute(kept).scalar_one())
