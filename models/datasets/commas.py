"""CSV files, a line at a time."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from models.datasets.example import DatasetError
from models.datasets.layout import Layout, Row
from models.datasets.part import Part
from models.datasets.survey import Survey


def columns(path: Path, delimiter: str = ",") -> list[str]:
    """The names in a file's first line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            header = next(csv.reader(file, delimiter=delimiter), [])
        except csv.Error as error:
            raise DatasetError(f"{path}, line 1: {error}") from None
        except UnicodeDecodeError:
            raise _other_bytes(path) from None
    for name in header:
        if header.count(name) > 1:
            raise DatasetError(f"{path}, line 1: two columns are named {name!r}")
    return header


def foreign(path: Path, types: Mapping[str, type]) -> dict[str, type]:
    """Those columns whose cells are not text."""
    return {name: kind for name, kind in types.items() if kind not in (str, object)}


def rows(path: Path, layout: Layout, part: Part, survey: Survey) -> Iterator[Row]:
    """Those of `part`. Blank lines are none; the line of a row is its last where a cell goes over several."""
    header = columns(path, layout.delimiter)
    wanted = [(name, header.index(name)) for name in layout.types(header)]
    card = None if layout.card is None else header.index(layout.card)
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines, number = csv.reader(file, delimiter=layout.delimiter, strict=True), 0
        try:
            next(lines, None)
            for row in lines:
                if not row:
                    continue
                number += 1
                if len(row) != len(header):
                    raise DatasetError(f"{path}, line {lines.line_num}: {len(row)} cells under {len(header)} columns")
                if not part.is_whole and not part.holds(str(number) if card is None else row[card]):
                    continue
                cells = {name: None if row[place] in layout.empty else row[place] for name, place in wanted}
                for name, cell in cells.items():
                    if cell is None:
                        survey.missing[name] += 1
                yield Row(f"line {lines.line_num}", number, cells)
        except csv.Error as error:
            raise DatasetError(f"{path}, line {lines.line_num}: {error}") from None
        except UnicodeDecodeError:
            raise _other_bytes(path) from None


def _other_bytes(path: Path) -> DatasetError:
    """Where a file is no UTF-8. It is decoded many lines at a time, so the error itself does not know."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return DatasetError(
                    f"{path}, line {number}: byte {error.start + 1}, {line[error.start]:#x}, is not UTF-8; save the file as UTF-8"
                )
    return DatasetError(f"{path}: it is not UTF-8; save the file as UTF-8")
