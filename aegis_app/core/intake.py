"""What comes in from strangers: a payment or a label, or a clear reason why it is none."""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from aegis_app.core.entries import with_words
from aegis_app.core.label import Label, Source, decode_label
from aegis_app.core.payment import Channel, Identifier, Kind, Millis, Outcome, Transaction, decode_transaction, looks_like_card_number

T = TypeVar("T")

FUTURE_MS: Final = 24 * 3_600_000
"""A payment, or a label, further ahead of its Kafka record than this is refused."""
HIDDEN: Final = b"[card number removed]"


class Reason(StrEnum):
    """Why a record is a dead letter; a closed set, because it labels a metric."""

    EMPTY = "empty"
    MALFORMED = "malformed"
    INVALID = "invalid"
    CARD_NUMBER = "card_number"
    KEY = "key"
    PARTITION = "partition"
    FUTURE = "future"


class Refused(ValueError):
    """A record that cannot be taken. The message never holds a card number."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Past(Struct, frozen=True, gc=False, tag_field="type", tag="payment"):
    """A payment on `history`: learnt without a decision, with the outcome it had elsewhere."""

    transaction: Transaction
    outcome: Outcome = Outcome.ALLOW


class Erase(Struct, frozen=True, gc=False, tag_field="type", tag="erase"):
    """A card to forget, on `history`: everything about it that memory holds."""

    card_id: Identifier


class _Verdict(Struct):
    is_fraud: msgspec.Raw
    labelled_at: msgspec.Raw


class _Carded(Struct):
    card_id: str


class _CardedHistory(Struct):
    card_id: str = ""
    transaction: _Carded | None = None


_decode_card: Final = msgspec.json.Decoder(_Carded).decode
_decode_history_card: Final = msgspec.json.Decoder(_CardedHistory).decode
_decode_verdict: Final = msgspec.json.Decoder(_Verdict).decode
_decode_history: Final[Callable[[bytes], Past | Erase]] = msgspec.json.Decoder(Past | Erase).decode
encode_history: Final = msgspec.json.Encoder().encode


def read_payment(value: bytes | None, key: bytes | None, written: Millis, *, token: bool) -> Transaction:
    """Read a record of `transactions`, whose Kafka timestamp is `written`. Raises `Refused`.

    `token`: card_ids may look like card numbers, because they are none.
    """
    txn = read_value(value, token=token)
    _check_key(txn.card_id, key)
    check_time("timestamp", txn.at, written)
    return txn


def read_history(value: bytes | None, key: bytes | None, written: Millis, *, token: bool) -> Past | Erase:
    """Read a record of `history`, whose Kafka timestamp is `written`. Raises `Refused`."""
    record = _decode(_decode_history, value)
    card_id = record.card_id if isinstance(record, Erase) else record.transaction.card_id
    check_card(card_id, token=token)
    _check_key(card_id, key)
    if isinstance(record, Past):
        check_time("timestamp", record.transaction.at, written)
    return record


def read_label(value: bytes | None, key: bytes | None, written: Millis, *, token: bool) -> Label:
    """Read a record of `labels`, whose Kafka timestamp is `written`. Raises `Refused`."""
    label = read_label_value(value, token=token)
    _check_key(label.card_id, key)
    check_time("labelled_at", label.known_at, written)
    return label


def read_label_value(value: bytes | None, *, token: bool) -> Label:
    """Read a label by its value alone. Raises `Refused`."""
    try:
        label = _decode(decode_label, value)
    except Refused:
        check_no_payment(value)
        raise
    check_card(label.card_id, token=token)
    return label


def read_value(value: bytes | None, *, token: bool) -> Transaction:
    """Read a payment by its value alone. Raises `Refused`."""
    txn = _decode(decode_transaction, value)
    check_card(txn.card_id, token=token)
    return txn


def read_line(line: bytes, *, token: bool) -> Transaction:
    """Read a payment in a line of a file, where no topic tells it from a label. Raises `Refused`."""
    check_no_label(line)
    return read_value(line, token=token)


def unmarked(lines: Iterable[bytes]) -> Iterator[bytes]:
    """`lines`, without the byte order mark that some programs put before the first."""
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix(BOM_UTF8)


def asks_for_lines(line: bytes) -> str:
    """What to say of the first line of a file that cannot be read, where it begins an array or an indented object; else nothing."""
    begin = line.strip()
    if not begin.startswith(b"[") and begin != b"{":
        return ""
    made_by = "jq -c '.[]' FILE" if begin.startswith(b"[") else "jq -c . FILE"
    return f"; one record a line, without brackets around them or breaks in them: {made_by} makes that"


def check_no_label(line: bytes) -> None:
    """Raise `Refused` where a line is a label: one of an amount has all that a payment needs."""
    if b'"labelled_at"' not in line:
        return
    try:
        _decode_verdict(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    raise Refused(Reason.INVALID, "this is a label, no payment: it has is_fraud and labelled_at; use `aegis send labels`, or --labels")


def check_no_payment(value: bytes | None) -> None:
    """Raise `Refused` where what should be a label is a payment."""
    try:
        decode_transaction(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if b'"labelled_at"' not in (value or b""):
        raise Refused(Reason.INVALID, "this is a payment, no label: it has no is_fraud and labelled_at; use `aegis send payments`")


def _decode(decode: Callable[[bytes], T], value: bytes | None) -> T:
    if not value:
        raise Refused(Reason.EMPTY, "the record has no value")
    try:
        return decode(value)
    except msgspec.ValidationError as error:
        raise Refused(Reason.INVALID, hide_text(explained(str(error)))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(Reason.MALFORMED, hide_text(str(error))) from None


_WORDS: Final[dict[str, type[StrEnum]]] = {"channel": Channel, "kind": Kind, "source": Source, "outcome": Outcome}
_PLACE: Final = " - at `$."


def explained(said: str) -> str:
    """What msgspec says of a field, with the words that it may have, or with how a time is written."""
    said, at, place = said.partition(_PLACE)
    said = with_words(said, place.rstrip("`").rpartition(".")[2], _WORDS)
    if said.startswith(("Invalid RFC3339", "Expected `datetime`")):
        said += ", as 2026-03-04T12:00:00Z"
    return said + at + place


def check_card(card_id: str, *, token: bool) -> None:
    """Raise `Refused` for a card number in a token's place."""
    if not token and looks_like_card_number(card_id):
        raise Refused(Reason.CARD_NUMBER, "card_id looks like a card number; send a token (or set AEGIS_CARD_ID_IS_TOKEN=true)")


def _check_key(card_id: str, key: bytes | None) -> None:
    if not key:
        raise Refused(Reason.KEY, "the record has no key; it must be the card_id")
    if key != card_id.encode():
        raise Refused(Reason.KEY, "the record's key is not the card_id")


def card_of(value: bytes, *, of_history: bool) -> str:
    """The card_id of a record that could be read: one of `history`, or a payment or label. Raises msgspec's errors of any other."""
    if not of_history:
        return _decode_card(value).card_id
    record = _decode_history_card(value)
    return record.card_id if record.transaction is None else record.transaction.card_id


def check_time(field: str, at: Millis, written: Millis) -> None:
    """Raise `Refused` for a time too far ahead of when its record was written."""
    if at - written > FUTURE_MS:
        hours = (at - written) / 3_600_000
        far = f"{hours:.1f} h" if hours <= 48 else f"{hours / 24:,.0f} days"
        raise Refused(Reason.FUTURE, f"{field} lies {far} ahead of the record's")


_DIGITS: Final = re.compile(rb"(?<!\d)(?<!\d\.)(?:\d{4}(?:\.\d{4}){3}|\d(?:[ -]*\d){11,})(?!\d|\.\d)")
"""Twelve digits and more, in groups or not; but not a number with decimals."""


def hide(text: bytes) -> bytes:
    """`text` without what can be card numbers: groups of together 12 to 19 digits whose check digit is right."""
    return _DIGITS.sub(lambda found: HIDDEN if _holds_card_number(found[0]) else found[0], text)


def hide_text(text: str) -> str:
    """The same of text for people."""
    return hide(text.encode(errors="replace")).decode(errors="replace")


def holds_card_number(text: str) -> bool:
    """Whether `hide` would take anything out of it."""
    raw = text.encode(errors="replace")
    return hide(raw) != raw


def hide_card_id(value: bytes) -> bytes:
    """A payment or label whose card_id is a card number, without it, however it was written; any other text without card numbers."""
    try:
        record = msgspec.json.decode(value)
        payment = record.get("transaction", record)
        payment["card_id"] = HIDDEN.decode()
        value = msgspec.json.encode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, AttributeError):
        value = _DIGITS.sub(HIDDEN, value)
    return hide(value)


def _holds_card_number(run: bytes) -> bool:
    groups = re.split(rb"[ .-]+", run)
    for first in range(len(groups)):
        digits = b""
        for group in groups[first:]:
            digits += group
            if 12 <= len(digits) <= 19 and _luhn(digits):
                return True
    return False


def _luhn(digits: bytes) -> bool:
    numbers = [digit - 48 for digit in digits]
    doubled = [number * 2 - 9 * (number > 4) for number in numbers[-2::-2]]
    return (sum(numbers[-1::-2]) + sum(doubled)) % 10 == 0
