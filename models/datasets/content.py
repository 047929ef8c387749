"""What a file of payments holds, in numbers."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter
from typing import Final

import msgspec
from msgspec import Struct

from aegis_app.core.payment import Transaction
from models.datasets.example import Example

OPTIONAL: Final = [each.name for each in msgspec.structs.fields(Transaction) if each.default is None]
_values: Final = attrgetter(*OPTIONAL)


class Content(Struct):
    """What a file holds."""

    payments: int = 0
    frauds: int = 0
    unlabelled: int = 0
    cards: int = 0
    merchants: int = 0
    first: datetime | None = None
    last: datetime | None = None
    in_order: bool = True
    currencies: dict[str, int] = {}
    attributes: dict[str, int] = {}
    """How many payments have each."""
    fields: dict[str, int] = {}
    """Likewise of the fields that a payment may do without."""


def content(examples: Iterable[Example]) -> Content:
    """Of all `examples`, taken one by one."""
    held = Content()
    cards: set[str] = set()
    merchants: set[str] = set()
    currencies: Counter[str] = Counter()
    attributes: Counter[str] = Counter()
    fields = [0] * len(OPTIONAL)
    before: datetime | None = None
    for example in examples:
        txn = example.transaction
        held.payments += 1
        held.frauds += example.is_fraud is True
        held.unlabelled += example.is_fraud is None
        cards.add(txn.card_id)
        if txn.merchant_id is not None:
            merchants.add(txn.merchant_id)
        held.first = txn.timestamp if held.first is None else min(held.first, txn.timestamp)
        held.last = txn.timestamp if held.last is None else max(held.last, txn.timestamp)
        held.in_order = held.in_order and (before is None or before <= txn.timestamp)
        before = txn.timestamp
        currencies[txn.currency] += 1
        attributes.update(txn.attributes.keys())
        for place, value in enumerate(_values(txn)):
            fields[place] += value is not None
    held.cards, held.merchants = len(cards), len(merchants)
    held.currencies, held.attributes = dict(currencies), dict(attributes)
    held.fields = dict(zip(OPTIONAL, fields, strict=True))
    return held
