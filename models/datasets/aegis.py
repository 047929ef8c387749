"""Our own formats: the payments of the `transactions` topic, a line of JSON each, and parquet with a column per field."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from aegis_app.core.intake import Refused, asks_for_lines, check_no_label, explained, hide_text, unmarked
from aegis_app.core.payment import Transaction, decode_transaction
from models.datasets.example import DatasetError, Example
from models.datasets.layout import Cells, Layout
from models.datasets.parquet import CHUNK, pyarrow


def read_lines(lines: Iterable[bytes], name: str) -> Iterator[Example]:
    """A payment a line, blank lines aside; `name` is the file's in errors."""
    is_first = True
    for number, line in enumerate(unmarked(lines), start=1):
        if line.isspace():
            continue
        try:
            check_no_label(line)
            yield Example(decode_transaction(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Refused) as error:
            hint = asks_for_lines(line) if is_first else ""
            raise DatasetError(f"{name}, line {number}: {hide_text(explained(str(error)))}{hint}") from None
        is_first = False


def write_parquet(path: Path, payments: Iterable[Transaction]) -> None:
    """Write `payments` in chunks; times are whole milliseconds, UTC."""
    arrow, parquet = pyarrow()
    schema = arrow.schema(
        [
            arrow.field(field.encode_name, _arrow_type(arrow, field.encode_name), nullable=not field.required)
            for field in msgspec.structs.fields(Transaction)
        ]
    )
    remaining = iter(payments)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while chunk := list(islice(remaining, CHUNK)):
            columns = {name: [getattr(txn, name) for txn in chunk] for name in schema.names}
            columns["attributes"] = [list(txn.attributes.items()) for txn in chunk]
            writer.write_table(arrow.Table.from_pydict(columns, schema=schema))


def _arrow_type(arrow: Any, field: str) -> Any:
    match field:
        case "amount_minor":
            return arrow.int64()
        case "timestamp":
            return arrow.timestamp("ms", tz="UTC")
        case "latitude" | "longitude":
            return arrow.float64()
        case "attributes":
            return arrow.map_(arrow.string(), arrow.float64())
        case _:
            return arrow.string()


def _payment(cells: Cells, number: int, currency: str) -> tuple[dict[str, Any], bool | None]:
    known = {name: value for name, value in cells.items() if value is not None}
    if "attributes" in known:
        known["attributes"] = dict(known["attributes"])
    return known, None


_NUMBERS: Final = {"amount_minor": int, "latitude": float, "longitude": float, "timestamp": object, "attributes": object}
_FIELDS: Final = msgspec.structs.fields(Transaction)

LAYOUT: Final = Layout(
    name="aegis",
    title="Aegis",
    required={each.encode_name: _NUMBERS.get(each.encode_name, str) for each in _FIELDS if each.required},
    optional={each.encode_name: _NUMBERS.get(each.encode_name, str) for each in _FIELDS if not each.required},
    card="card_id",
    time="timestamp",
    payment=_payment,
)
