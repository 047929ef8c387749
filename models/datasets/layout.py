"""How the columns of a data set become payments, whatever kind of file holds them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final

import msgspec
from msgspec import Struct

from aegis_app.core.payment import Transaction
from models.datasets.survey import Survey

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Cells = Mapping[str, Any]
"""A row by its columns, those that are empty being `None`, the others of the types that the layout names."""


class Clock(Struct, frozen=True):
    """How a column tells time: as text or timestamps, or as numbers that count `unit`s after `since`."""

    since: datetime = EPOCH
    unit: timedelta = timedelta(seconds=1)
    zone: tzinfo = UTC
    """Of times that name none."""
    form: str | None = None
    """Of text, as for `strptime`; ISO 8601 where it is `None`."""

    def read(self, value: Any) -> datetime:
        """The point in time, in UTC. Raises `ValueError`."""
        if isinstance(value, int | float):
            return self._after(value)
        if isinstance(value, str):
            value = datetime.fromisoformat(value) if self.form is None else datetime.strptime(value, self.form)  # noqa: DTZ007  # see below
        if not isinstance(value, datetime):
            raise ValueError(f"a {type(value).__name__} is no time")
        at = value if value.tzinfo is not None else value.replace(tzinfo=self.zone)
        return at if at.tzinfo is UTC else at.astimezone(UTC)

    def _after(self, number: float) -> datetime:
        try:
            return self.since + number * self.unit
        except OverflowError:
            raise ValueError(f"{number} lies too far away") from None


class Layout(Struct, frozen=True, kw_only=True):
    """A data set's columns, and what a row of them is. Other columns are not read."""

    name: str
    """As `--format` takes it."""
    title: str
    required: Mapping[str, type]
    """Column to type: str, int, float or Decimal; `object` is whatever the file says, and then the time is the clock's."""
    optional: Mapping[str, type]
    """Columns that need not be there."""
    card: str | None
    """Equal in all rows of a card; `None` where each row is a card of its own."""
    time: str
    payment: Callable[[Cells, int, str], tuple[dict[str, Any], bool | None]]
    """Of a row, its number from 1 and the currency to use: the payment's fields, and whether it was fraud. Raises `ValueError`."""
    fraud_type: str | None = None
    """Column that says how a fraud was made, which no payment holds."""
    clock: Clock = Clock()
    delimiter: str = ","
    """Of CSV."""
    empty: frozenset[str] = frozenset({""})
    """What stands in cells of CSV that hold nothing."""
    lenient: frozenset[str] = frozenset()
    """Columns whose values are left out where they cannot be read; in others, that is an error."""
    warning: str | None = None
    """What to know before the figures are believed."""

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether a file with these columns is one of this data set."""
        return set(self.required) <= set(columns)

    def types(self, columns: Sequence[str]) -> dict[str, type]:
        """Of those of the columns that are read, their types."""
        known = {**self.required, **self.optional}
        return {name: known[name] for name in columns if name in known}


class Row(Struct, frozen=True, gc=False):
    """A row of a file. Cells are as the file has them, but for empty ones, which are `None`."""

    place: str
    """For people: `line 7`, or `row 6`."""
    number: int
    """From 1, without the header."""
    cells: dict[str, Any]


def typed(value: Any, kind: type) -> Any:
    """A cell as `kind`, which may be said in another type: text of a number, a float of an id. Raises `ValueError`."""
    if kind is object or (isinstance(value, kind) and kind is not str):
        return value
    try:
        return _READERS[kind](value)
    except (TypeError, OverflowError, InvalidOperation):
        raise ValueError(f"{value!r} is no number") from None


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value).strip())


def _whole(value: Any) -> int:
    try:
        return int(value) if isinstance(value, str | int) else _whole(str(value))
    except ValueError:
        number = float(value)
        if not number.is_integer():
            raise ValueError(f"{value!r} is no whole number") from None
        return int(number)


_READERS: Final[Mapping[type, Callable[[Any], Any]]] = {int: _whole, float: float, str: _text, Decimal: _decimal}
_VERDICTS: Final = {"0": False, "false": False, "1": True, "true": True}


def verdict(value: Any) -> bool | None:
    """A label of 0 and 1; an empty one is not known. Raises `ValueError` for any other."""
    if value is None:
        return None
    known = _VERDICTS.get(str(value).strip().lower().removesuffix(".0"))
    if known is not None:
        return known
    raise ValueError(f"the label is {value!r}, neither 0 nor 1")


def transaction(fields: dict[str, Any], place: str, survey: Survey) -> Transaction:
    """The payment. What is wrong in a field that it can do without is left out and noted; else raises `ValueError`."""
    try:
        attributes = fields.get("attributes")
        if attributes and not all(map(isfinite, attributes.values())):
            fields = {**fields, "attributes": dict(_finite(attributes, place, survey))}
        return msgspec.convert(fields, Transaction)
    except msgspec.ValidationError as error:
        sound = dict(_sound(fields, place, survey))
        if sound.keys() == fields.keys():
            raise
        try:
            return msgspec.convert(sound, Transaction)
        except msgspec.ValidationError:
            raise error from None


def _finite(attributes: Mapping[str, float], place: str, survey: Survey) -> Iterator[tuple[str, float]]:
    for name, value in attributes.items():
        if isfinite(value):
            yield name, value
        else:
            survey.drop(name, place, f"{value} is no number that can be reckoned with")


# Their absence would not be "not known", but another payment.
_NEEDED: Final = frozenset({"transaction_id", "card_id", "amount_minor", "currency", "timestamp", "kind", "attributes"})
_TYPES: Final = {each.encode_name: each.type for each in msgspec.structs.fields(Transaction)}
_TOGETHER: Final = {"latitude": "longitude", "longitude": "latitude"}


def _sound(fields: dict[str, Any], place: str, survey: Survey) -> Iterator[tuple[str, Any]]:
    wrong = {}
    for name, value in fields.items():
        if name not in _NEEDED:
            try:
                msgspec.convert(value, _TYPES[name])
            except msgspec.ValidationError as error:
                wrong[name] = str(error)
    for name, reason in wrong.items():
        survey.drop(name, place, reason)
    left_out = {*wrong, *(_TOGETHER[name] for name in wrong if name in _TOGETHER)}
    yield from ((name, value) for name, value in fields.items() if name not in left_out)
