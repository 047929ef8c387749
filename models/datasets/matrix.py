"""Payments described, as a table: what a data scientist works on."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from aegis_app.core.features import CATALOGUE, Features
from aegis_app.core.payment import Outcome, Transaction
from models.datasets.parquet import CHUNK, pyarrow

Row = tuple[Transaction, Outcome, Features]


Told = tuple[bool | None, str | None]
"""Whether a payment was fraud, and how it was made; `None` where that is not known."""
Tell = Callable[[str], Told]
"""Of a transaction_id."""


def write_matrix(path: Path, rows: Iterable[Row], told: Tell | None = None) -> int:
    """Write a row for each payment: its ids and time, its verdict, every feature, and its attributes as a map; returns how many.

    What is `told` of a transaction_id are columns too.

    Each is described before the next is asked for: what is known of merchants and devices moves on with the payments.
    """
    return write_tables(path, tables(rows, told), told=told is not None)


def write_tables(path: Path, parts: Iterable[Any], *, told: bool) -> int:
    """Write the `tables` of a matrix one after the other, and return how many rows they have."""
    arrow, parquet = pyarrow()
    number = 0
    with parquet.ParquetWriter(path, _schema(arrow, told), compression="zstd") as writer:
        for table in parts:
            writer.write_table(table)
            number += len(table)
    return number


def tables(rows: Iterable[Row], told: Tell | None = None, part: int = 0, of: int = 1) -> Iterator[Any]:
    """The matrix by so many payments at a time; `None` in place of those that are not of `part` among `of`, which are not described."""
    arrow, _ = pyarrow()
    schema, remaining = _schema(arrow, told is not None), iter(rows)
    with _uncollected():
        for number in count():
            if number % of == part:
                chunk = [(txn, verdict, seen.row()) for txn, verdict, seen in islice(remaining, CHUNK)]
                if not chunk:
                    return
                yield _table(arrow, schema, chunk, told)
            else:
                if not sum(1 for _ in islice(remaining, CHUNK)):
                    return
                yield None


def _schema(arrow: Any, told: bool) -> Any:
    return arrow.schema(
        [
            ("transaction_id", arrow.string()),
            ("card_id", arrow.string()),
            ("timestamp", arrow.timestamp("ms", tz="UTC")),
            ("verdict", arrow.string()),
            *((name, arrow_type(arrow, kind)) for name, kind in CATALOGUE.items()),
            ("attributes", arrow.map_(arrow.string(), arrow.float64())),
            *([("is_fraud", arrow.bool_()), ("fraud_type", arrow.string())] if told else []),
        ]
    )


def _table(arrow: Any, schema: Any, chunk: Sequence[tuple[Transaction, Outcome, tuple[Any, ...]]], told: Tell | None) -> Any:
    payments = [txn for txn, _, _ in chunk]
    columns = [
        [txn.transaction_id for txn in payments],
        [txn.card_id for txn in payments],
        [txn.timestamp for txn in payments],
        [verdict.value for _, verdict, _ in chunk],
        *zip(*(row for _, _, row in chunk), strict=True),
        [list(txn.attributes.items()) for txn in payments],
        *(zip(*(told(txn.transaction_id) for txn in payments), strict=True) if told else []),
    ]
    arrays = [arrow.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return arrow.Table.from_arrays(arrays, schema=schema)


def packed(table: Any) -> bytes:
    """A table as bytes, for another process."""
    arrow, _ = pyarrow()
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    whole: bytes = sink.getvalue().to_pybytes()
    return whole


def unpacked(whole: bytes) -> Any:
    """The table of `packed`."""
    arrow, _ = pyarrow()
    return arrow.ipc.open_stream(whole).read_all()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Memory only grows here, and holds no cycles: to look for some again and again takes 6 % of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def arrow_type(arrow: Any, annotated: Any) -> Any:
    """The column type of a feature, of `CATALOGUE`."""
    (kind, *_) = get_args(annotated)
    plain = next(each for each in get_args(kind) if each is not type(None)) if isinstance(kind, UnionType) else kind
    return {bool: arrow.bool_(), int: arrow.int64(), float: arrow.float64()}[plain]
