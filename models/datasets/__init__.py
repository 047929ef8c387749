"""Payments from files: Aegis JSON lines and parquet, and data sets that others published.

A data set of its own columns is a module here and one entry in `_LAYOUTS`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from models.datasets import aegis, handbook, sparkov
from models.datasets.example import DatasetError, Example
from models.datasets.parquet import Layout, read_parquet
from models.datasets.part import WHOLE, Part

__all__ = ["WHOLE", "DatasetError", "Example", "Part", "read_payments"]

_LAYOUTS: tuple[Layout, ...] = (aegis.LAYOUT, handbook.LAYOUT, *sparkov.LAYOUTS)
_JSON_LINES = frozenset({".jsonl", ".ndjson", ".json"})


def read_payments(source: Path | BinaryIO, *, currency: str = "EUR", part: Part = WHOLE) -> Iterator[Example]:
    """Payments of a file in its own order, read as they are asked for; which format it is, suffix and columns tell.

    Only those of `part`: other cards' are not made.

    An open binary file is read as Aegis JSON lines. `currency` serves data sets that do not name theirs. What cannot be read raises
    `DatasetError` with file and line or row, after the payments before it; a file that cannot be opened, `OSError`.
    """
    if not isinstance(source, Path):
        return aegis.read_lines(part.of_lines(source), getattr(source, "name", "input"))
    if source.suffix == ".parquet":
        return read_parquet(source, _LAYOUTS, currency, part)
    if source.suffix in _JSON_LINES:
        return _read_lines_of(source, part)
    raise DatasetError(f"{source}: cannot tell the format; known are {', '.join(sorted(_JSON_LINES))} and .parquet")


def _read_lines_of(path: Path, part: Part) -> Iterator[Example]:
    with path.open("rb") as lines:
        yield from aegis.read_lines(part.of_lines(lines), str(path))
