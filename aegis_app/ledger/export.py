"""The ledger as a table for training: what `aegis features` writes, and beside it what was decided and what it turned out to be."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, Row, select

from aegis_app.core.features import CATALOGUE
from aegis_app.ledger.database import speaking
from aegis_app.ledger.tables import decisions, verdicts
from models.datasets.matrix import arrow_type
from models.datasets.parquet import CHUNK, pyarrow

RENAMED: Final = {"kind": "kind_name", "channel": "channel_name", "country": "country_name"}
"""Fields of a payment whose names are those of features, which are numbers."""
_TEXTS: Final = (
    "merchant_id",
    "merchant_category",
    "payee_id",
    "customer_id",
    "device_id",
    "home_country",
    "currency",
    "outcome",
    "policy",
)
_NUMBERS: Final = ("latitude", "longitude", "score", "control_probability")
_LABEL: Final = ("is_fraud", "source", "labelled_at")


def export(
    engine: Engine,
    path: Path,
    since: datetime,
    until: datetime | None,
    *,
    described: bool,
    labels: Path | None,
    show: Callable[[int], object] = lambda number: None,
) -> int:
    """Write payments from `since` to before `until` to `path`, in the order of their times; returns how many.

    `described`: only those whose features were kept. `labels`: a second file with the verdicts alone, and since when they are known.
    Raises `LedgerAwayError`.
    """
    arrow, parquet = pyarrow()
    whole, said = _schema(arrow), _label_schema(arrow)
    number = 0
    with ExitStack() as files:
        table = files.enter_context(parquet.ParquetWriter(path, whole, compression="zstd"))
        verdict_table = None if labels is None else files.enter_context(parquet.ParquetWriter(labels, said, compression="zstd"))
        for rows in files.enter_context(closing(_chunks(engine, since, until, described))):
            table.write_table(_table(arrow, whole, [_columns(row) for row in rows]))
            if verdict_table is not None:
                verdict_table.write_table(_table(arrow, said, [_columns(row) for row in rows if row.is_fraud is not None]))
            number += len(rows)
            show(len(rows))
    return number


def _chunks(engine: Engine, since: datetime, until: datetime | None, described: bool) -> Generator[list[Row[Any]]]:
    same = (verdicts.c.transaction_id == decisions.c.transaction_id) & (verdicts.c.card_id == decisions.c.card_id)
    query = select(decisions, *(verdicts.c[name] for name in _LABEL)).select_from(decisions.outerjoin(verdicts, same))
    query = query.where(decisions.c.timestamp >= since)
    if until is not None:
        query = query.where(decisions.c.timestamp < until)
    if described:
        query = query.where(decisions.c.features.is_not(None))
    query = query.order_by(decisions.c.timestamp, decisions.c.transaction_id, decisions.c.card_id)
    with speaking(engine), engine.connect() as connection:
        for rows in connection.execution_options(yield_per=CHUNK).execute(query).partitions():
            yield list(rows)


def _schema(arrow: Any) -> Any:
    moment, text = arrow.timestamp("ms", tz="UTC"), arrow.string()
    return arrow.schema(
        [
            ("transaction_id", text),
            ("card_id", text),
            ("timestamp", moment),
            ("verdict", text),
            *((name, arrow_type(arrow, kind)) for name, kind in CATALOGUE.items()),
            ("attributes", arrow.map_(text, arrow.float64())),
            ("amount_minor", arrow.int64()),
            ("base_minor", arrow.int64()),
            *((name, text) for name in (*RENAMED.values(), *_TEXTS)),
            *((name, arrow.float64()) for name in _NUMBERS),
            ("is_fraud", arrow.bool_()),
            ("source", text),
            ("labelled_at", moment),
        ]
    )


def _label_schema(arrow: Any) -> Any:
    return arrow.schema([_schema(arrow).field(name) for name in ("transaction_id", "card_id", *_LABEL)])


def _columns(row: Row[Any]) -> dict[str, Any]:
    values = {str(name): value for name, value in row._mapping.items()}
    fields = {RENAMED.get(name, name): value for name, value in values.items()}
    fields["attributes"] = list(values["attributes"].items())
    described = values["features"]
    return fields if described is None else fields | {name: described.get(name) for name in CATALOGUE}


def _table(arrow: Any, schema: Any, rows: list[dict[str, Any]]) -> Any:
    return arrow.Table.from_arrays([arrow.array([row.get(field.name) for row in rows], field.type) for field in schema], schema=schema)
