"""A decision or label as rows of the ledger."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from aegis_app.core.answer import Fallback
from aegis_app.core.decision import Decision
from aegis_app.core.label import STRENGTH, Label
from aegis_app.core.rates import Rates
from aegis_app.ledger.tables import decisions, fallbacks, labels, verdicts

Row = dict[str, Any]

decode_decision: Final[Callable[[bytes], Any]] = msgspec.json.Decoder(Decision).decode
_FIELDS: Final = tuple(column.name for column in decisions.columns if column.name not in {"day", "base_minor", "reasons"})
decode_fallback: Final = msgspec.json.Decoder(Fallback).decode
_FALLBACK: Final = tuple(column.name for column in fallbacks.columns)
_LABEL: Final = tuple(column.name for column in labels.columns)
_VERDICT: Final = tuple(column.name for column in verdicts.columns if column.name != "strength")
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def without_nul(value: bytes) -> bytes:
    """JSON in which the character 0, which PostgreSQL's text cannot hold, is the one for what is unreadable."""
    return _NUL.sub(rb"\1\\ufffd", value) if rb"\u0000" in value else value


def decision_row(decision: Any, rates: Rates) -> Row:
    """Of `decisions`."""
    row = _plain(decision, _FIELDS)
    row["day"] = decision.timestamp.astimezone(UTC).date()
    row["base_minor"] = _in_base(decision, rates)
    row["reasons"] = [{"code": reason.code, "text": reason.text} for reason in decision.reasons]
    return row


def hit_rows(decision: Any) -> Iterator[Row]:
    """Of `hits`."""
    key = {name: getattr(decision, name) for name in ("transaction_id", "card_id", "timestamp")}
    modes = dict.fromkeys(decision.shadow_rules, "shadow") | dict.fromkeys(decision.rules, "on")
    return (key | {"rule": rule, "mode": mode} for rule, mode in modes.items())


def fallback_row(fallback: Fallback) -> Row:
    """Of `fallbacks`."""
    return _plain(fallback, _FALLBACK)


def label_row(label: Label) -> Row:
    """Of `labels`."""
    return _plain(label, _LABEL)


def verdict_row(label: Label) -> Row:
    """Of `verdicts`, if it is in force. Moments count in milliseconds, as for the card's own memory."""
    known_at = datetime.fromtimestamp(label.known_at / 1000, UTC)
    return _plain(label, _VERDICT) | {"strength": STRENGTH[label.source], "labelled_at": known_at}


def _plain(record: Any, names: Iterable[str]) -> Row:
    values = {name: getattr(record, name) for name in names}
    return {name: value.value if isinstance(value, StrEnum) else value for name, value in values.items()}


def _in_base(decision: Any, rates: Rates) -> int | None:
    """The amount as the worker compared it, in minor units of the base currency; `None` where that cannot be told."""
    if decision.currency == rates.base:
        return int(decision.amount_minor)
    if decision.rates is not None and decision.rates == rates.version:
        return rates.to_base(decision.amount_minor, decision.currency)
    amount = None if decision.features is None else decision.features.get("amount")
    return None if amount is None else int(amount)
