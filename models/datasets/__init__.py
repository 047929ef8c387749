"""Payments from files: Aegis JSON lines and parquet, data sets that others published, and any table by a mapping file.

A data set of its own columns is a module here and one entry in `LAYOUTS`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from aegis_app.core.fields import hinted
from aegis_app.core.intake import explained, hide_text
from models.datasets import aegis, commas, handbook, parquet, paysim, sparkov, ulb
from models.datasets.example import DatasetError, Example
from models.datasets.layout import Layout, transaction, typed
from models.datasets.mapping import read_mapping
from models.datasets.part import WHOLE, Part
from models.datasets.survey import Survey

__all__ = ["LAYOUTS", "WHOLE", "DatasetError", "Example", "Layout", "Part", "Survey", "holds_lines", "layouts", "read_payments"]

LAYOUTS: Final[tuple[Layout, ...]] = (aegis.LAYOUT, handbook.LAYOUT, *sparkov.LAYOUTS, ulb.LAYOUT, *paysim.LAYOUTS)
"""Those that are found by the columns of a file."""
_NAMED: Final = (*LAYOUTS, *paysim.LEAKY)
_JSON_LINES: Final = frozenset({".jsonl", ".ndjson", ".json"})
_MATRIX: Final = ("transaction_id", "card_id", "timestamp", "verdict", "attributes")
_MOST_NAMES: Final = 20
_TABLES: Final[dict[str, Any]] = {".parquet": parquet, ".csv": commas}


def layouts(format: str | None) -> Sequence[Layout]:
    """Those that go by a name, or that of a mapping file; those that columns tell where it is `None`. Raises `DatasetError`."""
    if format is None:
        return LAYOUTS
    if format.endswith(".toml"):
        return (read_mapping(Path(format)),)
    named = tuple(layout for layout in _NAMED if layout.name == format)
    if not named:
        names = ", ".join(dict.fromkeys(layout.name for layout in _NAMED))
        raise DatasetError(f"format {format} is not known; there are {names}, and mapping files that end in .toml")
    return named


def holds_lines(source: Path | BinaryIO, format: str | None = None) -> bool:
    """Whether it is read as Aegis JSON lines; a file without a suffix is. Raises `DatasetError` where nothing fits."""
    if isinstance(source, Path) and source.suffix in _TABLES:
        return False
    if format == aegis.LAYOUT.name:
        return True
    if isinstance(source, Path) and source.suffix and source.suffix not in _JSON_LINES:
        known = ", ".join(sorted(_JSON_LINES))
        raise DatasetError(
            f"{source}: cannot tell the format; known are {known}, .csv and .parquet; --format aegis is JSON lines in any file"
        )
    if format is not None:
        raise DatasetError(f"{getattr(source, 'name', source)}: JSON lines are Aegis's own; --format {format} is for .csv and .parquet")
    return True


def read_payments(
    source: Path | BinaryIO, *, format: str | None = None, currency: str = "EUR", part: Part = WHOLE, survey: Survey | None = None
) -> Iterator[Example]:
    """Payments of a file in its own order, read as they are asked for; which format it is, `format` says, or suffix and columns tell.

    Only those of `part`: other cards' are not made.

    An open binary file is read as Aegis JSON lines. `currency` serves data sets that do not name theirs. What cannot be read raises
    `DatasetError` with file and line or row, after the payments before it; a file that cannot be opened, `OSError`. Values out of range
    that a payment can do without are left out of it; `survey` says how many, and what was missing.
    """
    if not holds_lines(source, format):
        assert isinstance(source, Path)
        return _read_table(source, layouts(format), currency, part, Survey() if survey is None else survey)
    if isinstance(source, Path):
        return _read_lines_of(source, part, survey)
    return _read_lines(source, part, survey, getattr(source, "name", "input"))


def _read_lines_of(path: Path, part: Part, survey: Survey | None) -> Iterator[Example]:
    with path.open("rb") as lines:
        yield from _read_lines(lines, part, survey, str(path))


def _read_lines(lines: Iterable[bytes], part: Part, survey: Survey | None, name: str) -> Iterator[Example]:
    ours = part.of_lines(lines)
    return aegis.read_lines(ours if survey is None else survey.of_lines(ours), name)


def _read_table(path: Path, candidates: Sequence[Layout], currency: str, part: Part, survey: Survey) -> Iterator[Example]:
    table = _TABLES[path.suffix]
    layout = _layout(path, table, candidates)
    if layout.warning is not None:
        survey.warnings.add(layout.warning)
    columns = _columns(path, table, layout)
    types = layout.types(columns)
    if layout is aegis.LAYOUT:
        survey.unread.update(columns - types.keys())
    readers = {name: partial(typed, kind=kind) for name, kind in table.foreign(path, types).items()}
    for row in table.rows(path, layout, part, survey):
        try:
            cells = row.cells
            for name, read in readers.items():
                if cells[name] is not None:
                    cells[name] = _read(name, read, cells[name], layout, row.place, survey)
            if cells[layout.time] is None:
                raise ValueError(f"{layout.time} is never null")
            cells[layout.time] = layout.clock.read(cells[layout.time])
            fields, is_fraud = layout.payment(cells, row.number, currency)
            fraud_type = cells.get(layout.fraud_type) if is_fraud and layout.fraud_type is not None else None
            yield Example(transaction(fields, row.place, survey), is_fraud, fraud_type)
        except ValueError as error:
            # What is out of its column may be a card number.
            raise DatasetError(f"{path}, {row.place}: {hide_text(explained(str(error)))}") from None


def _read(name: str, read: Any, value: Any, layout: Layout, place: str, survey: Survey) -> Any:
    try:
        return read(value)
    except ValueError as error:
        if name not in layout.lenient:
            raise ValueError(f"{name}: {error}") from None
        survey.drop(name, place, str(error))
        return None


def _layout(path: Path, table: Any, candidates: Sequence[Layout]) -> Layout:
    if aegis.LAYOUT in candidates and set(_MATRIX) <= set(_columns(path, table, aegis.LAYOUT)):
        raise DatasetError(f"{path}: these payments are described already, by `aegis features` or `aegis ledger export`: for `aegis train`")
    for layout in candidates:
        if layout.fits(_columns(path, table, layout)):
            return layout
    if len(candidates) == 1:
        lacking = [name for name in candidates[0].required if name not in _columns(path, table, candidates[0])]
        found = _found(_columns(path, table, candidates[0]))
        raise DatasetError(f"{path}: no column {', '.join(lacking)}, as {candidates[0].title} has; {found}")
    names = _columns(path, table, aegis.LAYOUT)
    columns = set(names)
    nearest = max(candidates, key=lambda layout: len(columns & layout.required.keys()) / len(layout.required))
    lacking = [name for name in nearest.required if name not in columns]
    near = "" if len(lacking) == len(nearest.required) else f"; it is not {nearest.title}, without {', '.join(lacking)}"
    raise DatasetError(
        f"{path}: columns of no data set that `aegis datasets` lists{near}; {_found(names)}; "
        "any table is read by --format MAPPING.toml (docs/schema.md)"
    )


def _found(names: Sequence[str]) -> str:
    """The columns of a file for people. Where it has no line of names, they are a payment's values."""
    shown = [hinted(name, ()) for name in names[:_MOST_NAMES]]
    more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    between = next((each for each in (";", "\t", "|") if len(names) == 1 and each in names[0]), None)
    hint = "" if between is None else f" (what stands between columns may be {between!r}: a mapping file says so with `delimiter`)"
    return f"it has {', '.join(shown) or 'none'}{more}{hint}"


def _columns(path: Path, table: Any, layout: Layout) -> list[str]:
    names: list[str] = table.columns(path, layout.delimiter) if table is commas else table.columns(path)
    return names
