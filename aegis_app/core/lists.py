"""Deny, watch and allow lists: what people know about a card, a merchant, a device, a country or a payee."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, NamedTuple, Self

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.intake import holds_card_number
from aegis_app.core.payment import Transaction, looks_like_card_number


class ListError(ValueError):
    """An entry that no list takes; the message never holds its value."""


class ListName(StrEnum):
    """What an entry asks for, strongest first."""

    DENY = "deny"
    WATCH = "watch"
    ALLOW = "allow"


class Of(StrEnum):
    """What an entry is about; the names are those of the fields of `Lists`."""

    CARD = "card"
    MERCHANT = "merchant"
    DEVICE = "device"
    COUNTRY = "country"
    PAYEE = "payee"


STRENGTH: Final[Mapping[ListName, int]] = {name: rank for rank, name in enumerate(ListName)}


class Key(NamedTuple):
    """What entries replace one another by: `deny:card:tok_1` on the topic."""

    list: ListName
    of: Of
    value: str

    def __str__(self) -> str:
        return f"{self.list}:{self.of}:{self.value}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `ValueError`."""
        name, of, value = text.split(":", 2)
        return cls(ListName(name), Of(of), value)


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line of a list, as on the `lists` topic (key: `list:of:value`). Unknown fields are ignored."""

    list: ListName
    of: Annotated[Of, Meta(description="what `value` names: card_id, merchant_id, device_id, country or payee_id of a payment")]
    value: Annotated[str, Meta(min_length=1, max_length=64, description="a token, never a card number")]
    reason: Annotated[str, Meta(min_length=1, max_length=500, description="why it is listed, or was removed")]
    until: Annotated[datetime, Meta(tz=True, description="in force for payments before this time; always where absent")] | None = None
    by: Annotated[str, Meta(min_length=1, max_length=100, description="who listed it, or removed it")]
    at: Annotated[datetime, Meta(tz=True, description="when they did")]
    removed: Annotated[bool, Meta(description="not in force any more: who removed it, and when, stays on record")] = False

    def __post_init__(self) -> None:
        if not (self.value.isprintable() and self.reason.isprintable() and self.by.isprintable()):
            raise ValueError("value, reason and by hold printable characters only")
        if self.of is Of.COUNTRY and not (len(self.value) == 2 and self.value.isascii() and self.value.isalpha() and self.value.isupper()):
            raise ValueError("a country is two capital letters (ISO 3166-1 alpha-2)")

    @property
    def key(self) -> Key:
        return Key(self.list, self.of, self.value)

    def check(self, *, token: bool) -> None:
        """Raise `ListError` where a card number stands in it. `token`: card_ids may look like card numbers, because they are none."""
        if looks_like_card_number(self.value) and not (token and self.of is Of.CARD):
            raise ListError("value looks like a card number; list its token (or set AEGIS_CARD_ID_IS_TOKEN=true, where card_ids look so)")
        for name, text in (("value", self.value), ("reason", self.reason), ("by", self.by)):
            if holds_card_number(text) and not (token and name == "value" and self.of is Of.CARD):
                raise ListError(f"{name} holds a card number; name its token")


Change = tuple[Key, Entry | None]
"""What stands under a key from now on; `None` for nothing."""
_Listed = Mapping[str | None, tuple[Entry, ...]]  # `None`, so that a payment's unknown device is just not found

_NOTHING: Final[tuple[Entry, ...]] = ()


class Lists(Struct, frozen=True):
    """All entries by what they are about. A change makes a new one: whoever holds this one keeps what it had."""

    version: str | None = None
    """What was read of the log: the offset after its last record; `None` for nothing."""
    card: _Listed = {}
    merchant: _Listed = {}
    device: _Listed = {}
    country: _Listed = {}
    payee: _Listed = {}
    counts: Mapping[tuple[ListName, Of], int] = {}
    """Entries held, those that expired included."""

    def about(self, txn: Transaction) -> Sequence[Entry]:
        """The entries in force about `txn` at its own time, strongest first."""
        if not self.counts:
            return _NOTHING
        found = (
            self.card.get(txn.card_id, _NOTHING)
            + self.merchant.get(txn.merchant_id, _NOTHING)
            + self.device.get(txn.device_id, _NOTHING)
            + self.country.get(txn.country, _NOTHING)
            + self.payee.get(txn.payee_id, _NOTHING)
        )
        if not found:
            return _NOTHING
        in_force = [entry for entry in found if entry.until is None or txn.timestamp < entry.until]
        return sorted(in_force, key=lambda entry: STRENGTH[entry.list])

    def changed(self, changes: Iterable[Change], version: str) -> "Lists":
        """These lists after `changes`, in their order. Copies what is listed of each kind that changes: give it many at once."""
        fresh: dict[Of, dict[str | None, tuple[Entry, ...]]] = {}
        counts = Counter(self.counts)
        for key, entry in changes:
            listed = fresh.get(key.of)
            if listed is None:
                listed = fresh[key.of] = dict(getattr(self, key.of))
            before = listed.pop(key.value, _NOTHING)
            after = tuple(each for each in before if each.list is not key.list)
            if entry is not None and not entry.removed:
                after = (*after, entry)
            if after:
                listed[key.value] = after
            counts[key.list, key.of] += len(after) - len(before)
        return msgspec.structs.replace(self, version=version, counts=+counts, **{of.value: listed for of, listed in fresh.items()})


encode_entry: Final = msgspec.json.Encoder().encode
decode_entry: Final = msgspec.json.Decoder(Entry).decode
