"""Payments described, as a table: what a data scientist works on."""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from aegis_app.core.features import CATALOGUE, Features
from aegis_app.core.payment import Outcome, Transaction
from models.datasets.parquet import CHUNK, pyarrow

Row = tuple[Transaction, Outcome, Features]


def write_matrix(path: Path, rows: Iterable[Row], is_fraud: Callable[[str], bool | None] | None = None) -> int:
    """Write a row for each payment: its ids and time, its verdict, every feature, and its attributes as a map; returns how many.

    Where `is_fraud` tells what a transaction_id was, that is a column too.

    Each is described before the next is asked for: what is known of merchants and devices moves on with the payments.
    """
    arrow, parquet = pyarrow()
    schema = arrow.schema(
        [
            ("transaction_id", arrow.string()),
            ("card_id", arrow.string()),
            ("timestamp", arrow.timestamp("ms", tz="UTC")),
            ("verdict", arrow.string()),
            *((name, arrow_type(arrow, kind)) for name, kind in CATALOGUE.items()),
            ("attributes", arrow.map_(arrow.string(), arrow.float64())),
            *([("is_fraud", arrow.bool_())] if is_fraud else []),
        ]
    )
    remaining, number = iter(rows), 0
    with _uncollected(), parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while chunk := [(txn, verdict, seen.row()) for txn, verdict, seen in islice(remaining, CHUNK)]:
            payments = [txn for txn, _, _ in chunk]
            columns = [
                [txn.transaction_id for txn in payments],
                [txn.card_id for txn in payments],
                [txn.timestamp for txn in payments],
                [verdict.value for _, verdict, _ in chunk],
                *zip(*(row for _, _, row in chunk), strict=True),
                [list(txn.attributes.items()) for txn in payments],
                *([[is_fraud(txn.transaction_id) for txn in payments]] if is_fraud else []),
            ]
            arrays = [arrow.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            number += len(chunk)
    return number


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
