"""Payments as other systems describe them: one flat object of JSON, the amount in whole units, and numbers of any name."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from math import inf, isfinite
from typing import Any, Final

import msgspec

from aegis_app.core.fields import hinted
from aegis_app.core.intake import Reason, Refused, check_card, explained, hide_text, holds_card_number
from aegis_app.core.payment import MOST_MONEY, Transaction, exponent

Flat = Mapping[str, Any]
ALIASES: Final = {"user_id": "card_id", "mcc": "merchant_category", "lat": "latitude", "lon": "longitude"}
"""Other names of the payment's fields; the field's own wins."""
NUMBERS: Final = frozenset({"latitude", "longitude"})
TEXTS: Final = frozenset(Transaction.__struct_fields__) - NUMBERS - {"amount_minor", "timestamp", "attributes"}
NEVER: Final = frozenset({"card_number", "pan", "cvv", "cvc"})
"""Fields that no payment may carry further."""


class Unfit(ValueError):
    """A flat object is no payment; the message never holds a card number."""

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(message if field is None else f"{field}: {message}")
        self.field = field
        """The one at fault, where it is one."""
        self.message = message


def read_flat(body: bytes) -> dict[str, Any]:
    """One JSON object, its fractions exact (`Decimal`). Raises `Refused`."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidOperation) as error:
        raise Refused(Reason.MALFORMED, hide_text(str(error))) from None


_decode: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


def adapt(
    flat: Flat, *, currency: str, new_id: Callable[[], str], now: datetime | None = None, token: bool = False, alone: bool = True
) -> Transaction:
    """The payment that `flat` describes. Raises `Unfit`, or `Refused` for a card_id that looks like a card number.

    `amount` is in whole units of its `currency`, or of the one given here, and must fit its minor units; `amount_minor` is taken as it
    is. Without an offset a `timestamp` is UTC; without one at all the payment took place `now`. Without a `transaction_id` it gets a new
    one. Names are read in either case; further numbers, and truth as 0 or 1, become attributes; further texts are left out.

    A payment without `card_id` or `user_id` may stand `alone`, on a card of its own: a row of numbers, that is. Where a text would be
    left out, that may have been the card, misspelt, and the payment is refused. `token` as for `read_value`.
    """
    given = _named(flat)
    fields: dict[str, Any] = {name: str(given[name]) if type(given[name]) is int else given[name] for name in TEXTS & given.keys()}
    if "transaction_id" not in fields:
        fields["transaction_id"] = new_id()
    if "card_id" not in fields:
        strange = left_out(flat)
        if strange or not alone:
            near = "".join(f"; {hinted(name, _OURS)} is not known" for name in strange[:5])
            raise Unfit("card_id", f"it is missing: card_id, or user_id{near}")
        fields["card_id"] = fields["transaction_id"]
    fields.setdefault("currency", currency)
    fields["amount_minor"] = _minor(given, fields["currency"])
    fields["timestamp"] = _time(given, now)
    fields |= {name: _number(name, given[name]) for name in NUMBERS & given.keys()}
    fields["attributes"] = _attributes(flat)
    try:
        txn = msgspec.convert(fields, Transaction)
    except msgspec.ValidationError as error:
        said, _, place = hide_text(explained(str(error))).partition(" - at `$.")
        raise Unfit(place.rstrip("`") or None, said) from None
    check_card(txn.card_id, token=token)
    return txn


def left_out(flat: Flat) -> list[str]:
    """What of `flat` is neither a field, nor a number that becomes an attribute."""
    return [name for name, value in flat.items() if name.lower() not in _OURS and value is not None and not isinstance(value, _NUMERIC)]


def _named(flat: Flat) -> dict[str, Any]:
    """What is known of `flat`, by the payment's own names."""
    given: dict[str, Any] = {}
    for name, value in flat.items():
        lower = name.lower()
        if lower in NEVER:
            raise Unfit(lower, "a payment never carries this; send a token as card_id")
        if value is not None:
            given[lower] = value
    return {ALIASES[name]: given[name] for name in ALIASES.keys() & given.keys()} | given


def _minor(given: Flat, currency: Any) -> int:
    if "amount_minor" in given:
        return _scaled("amount_minor", given["amount_minor"], 0, "it is no whole number")
    if "amount" not in given:
        raise Unfit("amount", "it is missing: an amount in whole units, as 1500.00")
    places = exponent(currency) if isinstance(currency, str) else 2
    return _scaled("amount", given["amount"], places, f"it has more than the {places} decimals of {currency}")


def _scaled(field: str, value: Any, places: int, otherwise: str) -> int:
    number = _decimal(field, value)
    if not 0 <= number <= MOST_MONEY or number.scaleb(places) > MOST_MONEY:
        raise Unfit(field, f"it is not between 0 and {MOST_MONEY:,} minor units")
    try:
        minor = number.scaleb(places, _EXACT)
    except Inexact:
        raise Unfit(field, otherwise) from None
    if minor != int(minor):
        raise Unfit(field, otherwise)
    return int(minor)


def _decimal(field: str, value: Any) -> Decimal:
    """A number, or one written as text, as precise as it is written: 0.1 is a tenth."""
    is_written = isinstance(value, str) and _WRITTEN.fullmatch(value)
    try:
        number = Decimal(str(value)) if is_written or (isinstance(value, _NUMERIC) and not isinstance(value, bool)) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        raise Unfit(field, "it is no number")
    return number


def _time(given: Flat, now: datetime | None) -> Any:
    value = given.get("timestamp", now)
    if value is None:
        raise Unfit("timestamp", "it is missing: when the payment took place, as 2026-03-04T12:00:00Z")
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        at = None
    if not isinstance(at, datetime):
        raise Unfit("timestamp", "it is no time as 2026-03-04T12:00:00Z")
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _attributes(flat: Flat) -> dict[str, float]:
    nested = flat.get("attributes")
    if nested is not None and not isinstance(nested, Mapping):
        raise Unfit("attributes", "it is no object of numbers")
    found = {name: _number(name, value) for name, value in (nested or {}).items()}
    for name, value in flat.items():
        if name.lower() not in _OURS and isinstance(value, _NUMERIC):
            found[name] = _number(name, value)
    return found


_NUMERIC: Final = (int, float, Decimal)
_EXACT: Final = Context(traps=[Inexact])
"""In which what is too small, or has too many digits, is an error instead of rounded."""
_WRITTEN: Final = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
"""A number as text; Python would read `1_000` and the digits of every script."""
_OURS: Final = frozenset({*Transaction.__struct_fields__, *ALIASES, "amount"})
_LIKE_A_CARD_NUMBER: Final = re.compile(r"[3-6]\d{13,18}")


def _number(field: str, value: Any) -> float:
    if not isinstance(value, int | float | Decimal):
        raise Unfit(field, "it is no number")
    try:
        number = float(value)
    except OverflowError:
        number = inf
    if not isfinite(number):
        raise Unfit(field, "it is too large")
    check_number(field, int(value))
    return number


def check_number(field: str, value: int) -> None:
    """Raise `Unfit` for a number that is a card's: of 14 to 19 digits, with the right first and the right check digit."""
    text = str(value)
    if _LIKE_A_CARD_NUMBER.fullmatch(text) and holds_card_number(text):
        raise Unfit(field, "it looks like a card number; send a token as card_id")
