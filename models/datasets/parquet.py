"""Parquet files a chunk at a time, whatever the columns. pyarrow is an extra, so it is imported here and late."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from models.datasets.example import DatasetError
from models.datasets.layout import EPOCH, Layout, Row
from models.datasets.part import Part
from models.datasets.survey import Survey

CHUNK: Final = 8192
"""Rows held at a time."""


def pyarrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet, or an error that says how to get them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DatasetError("parquet needs pyarrow: in the checkout, pip install --require-hashes -r requirements/data.txt") from None
    return pyarrow, pyarrow.parquet


def columns(path: Path) -> list[str]:
    """The names of a file's columns."""
    arrow, parquet = pyarrow()
    try:
        names: list[str] = parquet.read_schema(path).names
    except arrow.ArrowException as error:
        raise DatasetError(f"{path}: {' '.join(str(error).split())}") from None
    return names


def foreign(path: Path, types: Mapping[str, type]) -> dict[str, type]:
    """Those columns whose cells the file holds in another type than that of `types`."""
    arrow, parquet = pyarrow()
    schema = parquet.read_schema(path)
    return {name: kind for name, kind in types.items() if not _is(arrow.types, schema.field(name).type, kind)}


def _is(types: Any, held: Any, kind: type) -> bool:
    if types.is_dictionary(held):
        held = held.value_type
    if kind is str:
        return bool(types.is_string(held) or types.is_large_string(held))
    if kind is Decimal:
        return bool(types.is_floating(held) or types.is_decimal(held) or types.is_integer(held))
    return kind is object or bool({int: types.is_integer, float: types.is_floating}[kind](held))


def rows(path: Path, layout: Layout, part: Part, survey: Survey) -> Iterator[Row]:
    """Those of `part`; timestamps are aware datetimes already."""
    arrow, parquet = pyarrow()
    with path.open("rb") as file:
        try:
            table = parquet.ParquetFile(file)
            wanted, before = list(layout.types(table.schema_arrow.names)), 0
            for whole in table.iter_batches(CHUNK, columns=wanted):
                places = _places(part, whole.num_rows, before, None if layout.card is None else whole.column(layout.card))
                batch = whole if len(places) == whole.num_rows else whole.take(arrow.array(places, arrow.int64()))
                held = {name: batch.column(name) for name in wanted}
                survey.missing.update({name: column.null_count for name, column in held.items() if column.null_count})
                cells = [_values(arrow, column, layout) for column in held.values()]
                for place, *row in zip(places, *cells, strict=True):
                    number = before + place + 1
                    yield Row(f"row {number}", number, dict(zip(wanted, row, strict=True)))
                before += whole.num_rows
        except (arrow.ArrowException, OSError) as error:
            raise DatasetError(f"{path}: {' '.join(str(error).split())}") from None


def _places(part: Part, number: int, before: int, cards: Any) -> Sequence[int]:
    """The places in a batch whose card is of `part`; each card is looked at once."""
    if part.is_whole:
        return range(number)
    if cards is None:
        return [place for place in range(number) if part.holds(str(before + place + 1))]
    coded = cards if hasattr(cards, "dictionary") else cards.dictionary_encode()
    held = [part.holds(str(card)) for card in coded.dictionary.to_pylist()]
    without = part.holds(str(None))
    return [place for place, code in enumerate(coded.indices.to_pylist()) if (without if code is None else held[code])]


def _values(arrow: Any, column: Any, layout: Layout) -> list[Any]:
    if not arrow.types.is_timestamp(column.type):
        values: list[Any] = column.to_pylist()
        return values
    has_zone = column.type.tz is not None
    kind = arrow.timestamp("ms", tz="UTC") if has_zone else arrow.timestamp("ms")
    since = EPOCH if has_zone else EPOCH.replace(tzinfo=layout.clock.zone)
    milliseconds = column.cast(kind, safe=False).cast(arrow.int64()).to_pylist()
    return [None if at is None else _at(since, at) for at in milliseconds]


def _at(since: datetime, milliseconds: int) -> datetime:
    return since + timedelta(milliseconds=milliseconds)
