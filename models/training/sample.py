"""What training works on: described payments in the order of their times, and what is known of each."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from aegis_app.core.features import CATALOGUE
from models.datasets.parquet import CHUNK, pyarrow
from models.inputs import ATTRIBUTES, Rows, Vector
from models.training.errors import TrainingError
from models.training.labels import Label, read_labels

DAY_MS: Final = 86_400_000
_OWN: Final = ("transaction_id", "card_id", "timestamp", "verdict")
_CONTROL: Final = "control_probability"


@dataclass(frozen=True)
class Sample:
    """Payments, a row each; all arrays are as long as there are payments, and sorted by time."""

    features: tuple[str, ...]
    """Columns of `rows`."""
    rows: Rows
    times: Vector
    """Milliseconds since 1970."""
    cards: Vector
    """Whose each is: numbers from 0."""
    alerted: Vector
    """Whether rules asked for review or block."""
    is_fraud: Vector
    """1 fraud, 0 genuine, NaN not known."""
    fraud_type: Vector
    """How frauds were made, where labels say; else empty. For reports: never an input."""
    known_at: Vector
    """When that became known, milliseconds since 1970."""
    weights: Vector
    """How many payments each stands for: 1, and more for those that chance let through."""
    partly_labelled: bool
    """Whether payments without a label count as genuine once they are old."""

    @property
    def has_labels(self) -> bool:
        """Whether anything is known of any payment."""
        return bool(np.isfinite(self.is_fraud).any())

    def column(self, feature: str) -> Vector:
        """The values of one feature."""
        return self.rows[:, self.features.index(feature)]


def read_sample(matrix: Path, labels: Path | None, label_delay: float, maturity: float, until: int | None = None) -> Sample:
    """The matrix that `aegis features` wrote, with labels joined by transaction_id. Times in days; `until` in milliseconds since 1970.

    A label without `labelled_at` is known `label_delay` after its payment. A payment without one is not known; but where labels are
    given it counts as genuine `maturity` after it took place, save that policy would have blocked it: nobody charges back what was
    blocked. Without a file of labels, a column `is_fraud` of the matrix serves, if there is one.
    """
    arrow, parquet = pyarrow()
    try:
        with matrix.open("rb") as begin:
            if begin.read(4) != b"PAR1":
                raise TrainingError(f"{matrix} is no matrix; make one of payments first: aegis features {matrix} --out matrix.parquet")
        file = parquet.ParquetFile(matrix)
        names = file.schema_arrow.names
        if missing := [name for name in _OWN if name not in names]:
            raise TrainingError(f"{matrix}: no column {', '.join(missing)}; make the matrix with `aegis features`")
        table = _Columns(file)
    except (arrow.ArrowException, OSError) as error:
        raise TrainingError(f"{matrix}: {' '.join(str(error).split())}") from None
    if not len(table.times):
        raise TrainingError(f"{matrix}: no payments")
    said = read_labels(labels) if labels is not None else _said(table)
    whole = _joined(table, said, label_delay * DAY_MS, maturity * DAY_MS, labels or matrix)
    return whole if until is None else _until(whole, until, matrix)


class _Columns:
    """A matrix read a chunk at a time: numbers as float32, the rest only as far as training asks."""

    def __init__(self, file: Any) -> None:
        names = file.schema_arrow.names
        described = [name for name in names if name in CATALOGUE]
        optional = [name for name in ("attributes", "is_fraud", "fraud_type", _CONTROL) if name in names]
        count = file.metadata.num_rows
        self.rows = np.empty((count, len(described)), np.float32)
        self.times = np.empty(count, np.int64)
        self.ids: list[str] = []
        numbers: dict[str, int] = {}
        self.cards = np.empty(count, np.int64)
        self.blocked = np.empty(count, bool)
        self.alerted = np.empty(count, bool)
        self.is_fraud = np.full(count, np.nan)
        self.fraud_type: Vector = np.full(count, None)
        self.control = np.full(count, np.nan)
        attributes: dict[str, Vector] = {}
        start = 0
        for batch in file.iter_batches(8 * CHUNK, columns=[*_OWN, *described, *optional]):
            part = slice(start, start + len(batch))
            for place, name in enumerate(described):
                self.rows[part, place] = _numbers(batch.column(name))
            self.ids += batch.column("transaction_id").to_pylist()
            self.cards[part] = _numbered(batch.column("card_id"), numbers)
            self.times[part] = batch.column("timestamp").to_numpy(zero_copy_only=False).astype("datetime64[ms]").astype(np.int64)
            verdicts = batch.column("verdict").to_numpy(zero_copy_only=False)
            self.blocked[part], self.alerted[part] = verdicts == "block", verdicts != "allow"
            if "is_fraud" in optional:
                self.is_fraud[part] = _numbers(batch.column("is_fraud"))
            if "fraud_type" in optional:
                self.fraud_type[part] = batch.column("fraud_type").to_numpy(zero_copy_only=False)
            if _CONTROL in optional:
                self.control[part] = _numbers(batch.column(_CONTROL))
            if "attributes" in optional:
                _spread(batch.column("attributes"), start, count, attributes)
            start += len(batch)
        self.features = (*described, *(ATTRIBUTES + name for name in sorted(attributes)))
        if attributes:
            self.rows = np.column_stack([self.rows, *(attributes[name] for name in sorted(attributes))])


def _numbered(column: Any, numbers: dict[str, int]) -> Vector:
    """The number of each name; a name that is new gets the next."""
    encoded = column.dictionary_encode()
    known = np.array([numbers.setdefault(name, len(numbers)) for name in encoded.dictionary.to_pylist()], np.int64)
    found: Vector = known[encoded.indices.to_numpy()]
    return found


def _numbers(column: Any) -> Vector:
    """Null is NaN."""
    numbers: Vector = column.cast("float64").to_numpy(zero_copy_only=False)
    return numbers


def _spread(column: Any, start: int, count: int, into: dict[str, Vector]) -> None:
    """Attributes, a map in each row, as a column each."""
    keys, items = column.keys.to_numpy(zero_copy_only=False), _numbers(column.items)
    owners = start + np.repeat(np.arange(len(column)), np.diff(column.offsets.to_numpy()))
    for name in np.unique(keys.astype(str)):
        if name not in into:
            into[name] = np.full(count, np.nan, np.float32)
        chosen = keys == name
        into[name][owners[chosen]] = items[chosen]


def _said(table: _Columns) -> dict[str, Label]:
    known = np.flatnonzero(np.isfinite(table.is_fraud))
    return {table.ids[row]: Label(table.ids[row], bool(table.is_fraud[row]), fraud_type=table.fraud_type[row]) for row in known}


def _joined(table: _Columns, said: dict[str, Label], delay: float, maturity: float, source: Path) -> Sample:
    is_fraud = np.full(len(table.times), np.nan)
    fraud_type: Vector = np.full(len(table.times), "", object)
    known_at = np.full(len(table.times), np.inf)
    for row, label in enumerate(map(said.get, table.ids)):
        if label is not None:
            is_fraud[row] = label.is_fraud
            fraud_type[row] = (label.is_fraud and label.fraud_type) or ""
            at = label.labelled_at
            known_at[row] = table.times[row] + delay if at is None else at.timestamp() * 1000
    labelled = np.isfinite(is_fraud)
    if said and not labelled.any():
        raise TrainingError(f"{source}: none of its {len(said):,} labels is of a payment in the matrix; do the transaction_ids match?")
    silent = ~labelled & ~table.blocked if labelled.any() else np.zeros_like(labelled)
    is_fraud[silent] = 0.0
    known_at[silent] = table.times[silent] + maturity
    # A matrix in the order of time, as all are that Aegis wrote, is not copied.
    order = slice(None) if (np.diff(table.times) >= 0).all() else np.argsort(table.times, kind="stable")
    weights = np.where(np.isfinite(table.control), 1.0 / table.control, 1.0)
    return Sample(
        features=table.features,
        rows=table.rows[order],
        times=table.times[order],
        cards=table.cards[order],
        alerted=table.alerted[order],
        is_fraud=is_fraud[order],
        fraud_type=fraud_type[order],
        known_at=known_at[order],
        weights=weights[order],
        partly_labelled=bool(silent.any()),
    )


def _until(sample: Sample, end: int, matrix: Path) -> Sample:
    number = int(np.searchsorted(sample.times, end))
    if not number:
        raise TrainingError(f"{matrix}: no payment before --until")
    rows = {
        name: getattr(sample, name)[:number]
        for name in ("rows", "times", "cards", "alerted", "is_fraud", "fraud_type", "known_at", "weights")
    }
    return replace(sample, **rows)
