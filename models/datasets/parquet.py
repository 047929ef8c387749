"""Parquet files a chunk at a time, whatever the columns. pyarrow is an extra, so it is imported here and late."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from models.datasets.example import DatasetError, Example
from models.datasets.part import Part

CHUNK: Final = 8192
"""Rows held at a time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Layout(Struct, frozen=True):
    """A data set's columns, which of them are card and time, and what a row of them is. Other columns are not read."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    card: str
    """Equal in all rows of a card."""
    time: str
    """A timestamp, one without time zone being UTC; or whole seconds since 1970."""
    example: Callable[[Mapping[str, Any], str], Example]
    """Of a row, with the time as an aware datetime, and the currency to use. Raises `ValueError` on a bad row."""

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether a file with these columns is one of this data set."""
        return set(self.required) <= set(columns)


def pyarrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet, or an error that says how to get them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DatasetError("parquet needs pyarrow: pip install pyarrow") from None
    return pyarrow, pyarrow.parquet


def read_parquet(path: Path, layouts: Sequence[Layout], currency: str, part: Part) -> Iterator[Example]:
    """The rows of a file that are of `part`, in the first of `layouts` that fits its columns; rows count from 1 in errors."""
    arrow, parquet = pyarrow()
    with path.open("rb") as file:
        try:
            table = parquet.ParquetFile(file)
            layout = _layout(path, table.schema_arrow.names, layouts)
            wanted = [name for name in table.schema_arrow.names if name in layout.required or name in layout.optional]
            before = 0
            for whole in table.iter_batches(CHUNK, columns=wanted):
                rows = _rows_of(part, whole.column(layout.card))
                batch = whole if len(rows) == whole.num_rows else whole.take(arrow.array(rows, arrow.int64()))
                columns = {name: batch.column(name) for name in wanted}
                times = _times(arrow, columns.pop(layout.time))
                values = [column.to_pylist() for column in columns.values()]
                for row, time, *cells in zip(rows, times, *values, strict=True):
                    yield _example(layout, path, before + row + 1, dict(zip(columns, cells, strict=True)) | {layout.time: time}, currency)
                before += whole.num_rows
        except (arrow.ArrowException, OSError) as error:
            raise DatasetError(f"{path}: {' '.join(str(error).split())}") from None


def _layout(path: Path, columns: Sequence[str], layouts: Sequence[Layout]) -> Layout:
    for layout in layouts:
        if layout.fits(columns):
            return layout
    known = "; ".join(f"{layout.name}: {', '.join(layout.required)}" for layout in layouts)
    raise DatasetError(f"{path}: columns of no known data set ({known})")


def _rows_of(part: Part, cards: Any) -> Sequence[int]:
    """The places in a batch whose card is of `part`; each card is looked at once."""
    if part.is_whole:
        return range(len(cards))
    coded = cards if hasattr(cards, "dictionary") else cards.dictionary_encode()
    held = [part.holds(str(card)) for card in coded.dictionary.to_pylist()]
    without = part.holds(str(None))
    return [row for row, code in enumerate(coded.indices.to_pylist()) if (without if code is None else held[code])]


def _times(arrow: Any, column: Any) -> list[datetime | None]:
    if arrow.types.is_integer(column.type):
        column = column.cast(arrow.int64()).cast(arrow.timestamp("s"))
    zone = arrow.timestamp("ms", tz="UTC") if getattr(column.type, "tz", None) else arrow.timestamp("ms")
    milliseconds = column.cast(zone, safe=False).cast(arrow.int64()).to_pylist()
    return [None if at is None else _EPOCH + timedelta(milliseconds=at) for at in milliseconds]


def _example(layout: Layout, path: Path, row: int, cells: Mapping[str, Any], currency: str) -> Example:
    try:
        return layout.example(cells, currency)
    except ValueError as error:
        raise DatasetError(f"{path}, row {row}: {error}") from None
