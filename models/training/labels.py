"""What is known of payments, and since when: labels from JSON lines or parquet, with at least transaction_id and is_fraud."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.label import STRENGTH, Source
from aegis_app.core.payment import Identifier
from models.datasets.parquet import CHUNK, pyarrow
from models.training.errors import TrainingError


class Label(Struct, frozen=True, gc=False):
    """One verdict. Of several about a payment the strongest source wins, then the latest `labelled_at`, then the last line."""

    transaction_id: Identifier
    is_fraud: bool
    labelled_at: Annotated[datetime, Meta(tz=True)] | None = None
    """`None`: a label delay after the payment."""
    source: Source | None = None
    fraud_type: str | None = None


_decode = msgspec.json.Decoder(Label).decode


def read_labels(path: Path) -> dict[str, Label]:
    """The label that counts of each payment, by transaction_id. What cannot be read raises `TrainingError` with file and line or row."""
    best: dict[str, Label] = {}
    for label in _of_parquet(path) if path.suffix == ".parquet" else _of_lines(path):
        before = best.get(label.transaction_id)
        if before is None or _weight(before) <= _weight(label):
            best[label.transaction_id] = label
    return best


def _weight(label: Label) -> tuple[int, float]:
    strength = 0 if label.source is None else STRENGTH[label.source]
    return strength, float("-inf") if label.labelled_at is None else label.labelled_at.timestamp()


def _of_lines(path: Path) -> Iterator[Label]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.isspace():
                continue
            try:
                yield _decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise TrainingError(f"{path}, line {number}: {error}") from None


def _of_parquet(path: Path) -> Iterator[Label]:
    arrow, parquet = pyarrow()
    try:
        table = parquet.ParquetFile(path)
        names = [name for name in table.schema_arrow.names if name in Label.__struct_fields__]
        rows = (row for batch in table.iter_batches(CHUNK, columns=names) for row in batch.to_pylist())
        for number, row in enumerate(rows, start=1):
            try:
                yield msgspec.convert({name: value for name, value in row.items() if value is not None}, Label, strict=False)
            except msgspec.ValidationError as error:
                raise TrainingError(f"{path}, row {number}: {error}") from None
    except arrow.ArrowException as error:
        raise TrainingError(f"{path}: {' '.join(str(error).split())}") from None
