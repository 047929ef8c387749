"""Any table by a mapping file, which says what its columns are; docs/schema.md describes it."""

import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.payment import Transaction, looks_like_card_number
from models.datasets.amounts import minor_units
from models.datasets.example import DatasetError
from models.datasets.layout import EPOCH, Cells, Clock, Layout

Column = Annotated[str, Meta(min_length=1)]
UNITS: Final = {"days": 86_400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0, "milliseconds": 1e-3}


class Time(Struct, frozen=True, forbid_unknown_fields=True):
    """How the column of `timestamp` is read; see `Clock`."""

    format: Column | None = None
    zone: Column = "UTC"
    unit: Literal["days", "hours", "minutes", "seconds", "milliseconds"] | None = None
    since: datetime = EPOCH


class Label(Struct, frozen=True, forbid_unknown_fields=True):
    """Which column says what is fraud, and in which words; an empty cell, or a word of neither, is no label and an error, respectively."""

    column: Column
    fraud: tuple[str, ...] = ("1", "true", "yes", "fraud")
    genuine: tuple[str, ...] = ("0", "false", "no", "genuine")


class Mapping_(Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file."""

    fields: dict[str, Column]
    constants: dict[str, str | int | float] = {}
    words: dict[str, dict[str, str]] = {}
    attributes: dict[Annotated[str, Meta(min_length=1, max_length=64)], Column] = {}
    label: Label | None = None
    time: Time = Time()
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    empty: tuple[str, ...] = ("",)
    card_key: Annotated[str, Meta(min_length=16, max_length=64)] | None = None
    every_row_a_card: bool = False


AMOUNT: Final = "amount"
"""Instead of `amount_minor`: in units of the currency, with decimals."""
_FIELDS: Final = {each.encode_name for each in msgspec.structs.fields(Transaction)} - {"attributes"} | {AMOUNT}
_TYPES: Final[Mapping[str, type]] = {
    "timestamp": object,
    AMOUNT: Decimal,
    "amount_minor": int,
    "latitude": float,
    "longitude": float,
}
_NEEDED: Final = frozenset({"transaction_id", "card_id", "customer_id", AMOUNT, "amount_minor", "currency", "timestamp", "kind"})
_PEOPLE: Final = ("card_id", "customer_id", "payee_id")
"""Fields in which others keep card numbers."""


def read_mapping(path: Path) -> Layout:
    """The layout that a mapping file describes. Raises `DatasetError` where it is wrong, `OSError` where it cannot be read."""
    try:
        mapping = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Mapping_)
        return _layout(path, mapping)
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise DatasetError(f"{path}: {error}") from None


def _layout(path: Path, mapping: Mapping_) -> Layout:
    fields = mapping.fields
    for name in (*fields, *mapping.constants, *mapping.words):
        _check_field(name)
    given = {*fields, *mapping.constants}
    if not mapping.every_row_a_card and "card_id" not in given:
        raise ValueError("no column is card_id; where there are no cards, say every_row_a_card = true")
    if mapping.every_row_a_card and "card_id" in given:
        raise ValueError("card_id and every_row_a_card exclude each other")
    if len({AMOUNT, "amount_minor"} & given) != 1:
        raise ValueError("one of amount (in units, with decimals) and amount_minor (in minor units) is needed")
    if "timestamp" not in fields:
        raise ValueError("no column is the timestamp")
    if mapping.label is not None and mapping.label.column in (*fields.values(), *mapping.attributes.values()):
        raise ValueError(f"{mapping.label.column} is the label, and cannot be anything else")
    types = {column: _TYPES.get(name, str) for name, column in fields.items()}
    if mapping.time.unit is not None:
        types[fields["timestamp"]] = float
    types |= {column: float for column in mapping.attributes.values() if column not in types}
    if mapping.label is not None:
        types[mapping.label.column] = str
    needed = {column for name, column in fields.items() if name in _NEEDED}
    return Layout(
        name=str(path),
        title=str(path),
        required=types,
        optional={},
        card=fields.get("card_id"),
        time=fields["timestamp"],
        payment=_Payment(mapping),
        clock=_clock(mapping.time),
        delimiter=mapping.delimiter,
        empty=frozenset(mapping.empty),
        lenient=frozenset(types) - needed - ({mapping.label.column} if mapping.label is not None else set()),
    )


def _check_field(name: str) -> None:
    if name not in _FIELDS:
        near = get_close_matches(name, _FIELDS, 1)
        raise ValueError(f"{name} is no field of a payment" + (f"; is it {near[0]}?" if near else f": {', '.join(sorted(_FIELDS))}"))


def _clock(time: Time) -> Clock:
    if time.since.tzinfo is None:
        raise ValueError("time.since wants an offset, such as 2013-09-01T00:00:00Z")
    if time.unit is not None and time.format is not None:
        raise ValueError("time.unit is for numbers and time.format for text: one of them")
    zone = UTC if time.zone == "UTC" else ZoneInfo(time.zone)
    unit = timedelta(seconds=UNITS[time.unit or "seconds"])
    return Clock(since=time.since.astimezone(UTC), unit=unit, zone=zone, form=time.format)


class _Payment:
    """Of a row, by a mapping."""

    def __init__(self, mapping: Mapping_) -> None:
        self.mapping = mapping
        self.verdicts = {} if mapping.label is None else _verdicts(mapping.label)

    def __call__(self, cells: Cells, number: int, currency: str) -> tuple[dict[str, Any], bool | None]:
        mapping = self.mapping
        fields: dict[str, Any] = {"currency": currency, "transaction_id": f"row-{number}", **mapping.constants}
        for name, column in mapping.fields.items():
            value = cells[column]
            if value is not None:
                fields[name] = self._said(name, value)
            elif name in _NEEDED and name != "kind":
                raise ValueError(f"{column} is empty, which is the {name}")
        if mapping.every_row_a_card:
            fields["card_id"] = fields["transaction_id"]
        for name in _PEOPLE:
            if name in fields:
                fields[name] = self._token(name, fields[name])
        if AMOUNT in fields:
            fields["amount_minor"] = minor_units(fields.pop(AMOUNT), fields["currency"])
        fields["attributes"] = {name: cells[column] for name, column in mapping.attributes.items() if cells[column] is not None}
        return fields, self._verdict(cells)

    def _said(self, name: str, value: Any) -> Any:
        words = self.mapping.words.get(name)
        return value if words is None else words.get(str(value), value)

    def _token(self, name: str, value: str) -> str:
        if not looks_like_card_number(value):
            return value
        if self.mapping.card_key is None:
            raise ValueError(
                f"the {name} looks like a card number; give the mapping a card_key, any secret of 16 characters or more: "
                "what is read is then a token, which nobody can guess without it"
            )
        digits = "".join(filter(str.isdigit, value))
        return "t" + blake2b(digits.encode(), key=self.mapping.card_key.encode()[:64], digest_size=12).hexdigest()

    def _verdict(self, cells: Cells) -> bool | None:
        label = self.mapping.label
        said = None if label is None else cells[label.column]
        if label is None or said is None:
            return None
        known = self.verdicts.get(said.strip().lower().removesuffix(".0"))
        if known is None:
            raise ValueError(f"{label.column} is {said!r}, which is neither fraud ({', '.join(label.fraud)}) nor genuine")
        return known


def _verdicts(label: Label) -> dict[str, bool]:
    def lower(words: Iterable[str]) -> set[str]:
        return {word.strip().lower() for word in words}

    fraud, genuine = lower(label.fraud), lower(label.genuine)
    if fraud & genuine:
        raise ValueError(f"label: {', '.join(sorted(fraud & genuine))} cannot be both fraud and genuine")
    return dict.fromkeys(fraud, True) | dict.fromkeys(genuine, False)
