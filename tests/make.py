"""Builders: `payment(minute=3, amount_minor=90_00)`, what is not said being unremarkable."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aiokafka.structs import ConsumerRecord

from aegis_app.core.card import BLANK, Card, Settled, learn
from aegis_app.core.case import Case, case
from aegis_app.core.decision import Decision, Reason, Receipt, Ruling, encode_decision
from aegis_app.core.features import GROUPS, Features
from aegis_app.core.label import Label, Source
from aegis_app.core.lists import Entry, ListName, Of
from aegis_app.core.payment import Channel, Outcome, Transaction
from aegis_app.core.rates import EUROS, Rates

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
PARIS = {"latitude": 48.857, "longitude": 2.352}
TOKYO = {"latitude": 35.68, "longitude": 139.69}

decode_decision: Callable[[bytes], Any] = msgspec.json.Decoder(Decision).decode


def payment(*, minute: float = 0, seconds: float = 0, **fields: Any) -> Transaction:
    """A payment in a shop in Paris, some minutes and seconds after noon."""
    at = NOON + timedelta(minutes=minute, seconds=seconds)
    usual: dict[str, Any] = {
        "transaction_id": f"t-{at.isoformat()}",
        "card_id": "card-1",
        "amount_minor": 25_00,
        "currency": "EUR",
        "timestamp": at,
        "channel": Channel.CHIP,
        "merchant_id": "baker",
        "country": "FR",
        **PARIS,
    }
    return Transaction(**usual | fields)


def receipt(txn: Transaction) -> Receipt:
    """Written and decided at the payment's own time."""
    return Receipt(txn.at, txn.timestamp)


def decision(txn: Transaction, **fields: Any) -> Any:
    """What is on `decisions` about `txn`: blocked by one rule, if nothing else is said."""
    usual: dict[str, Any] = {
        "outcome": Outcome.BLOCK,
        "verdict": Outcome.BLOCK,
        "score": 0.9,
        "reasons": [Reason("velocity_1m", "9 attempts in a minute")],
        "rules": ["velocity_1m"],
        "policy": "81343663c9d6",
        "decided_at": txn.timestamp,
    }
    return decode_decision(encode_decision(txn, Ruling(**usual | fields)))


def allowed(txn: Transaction, **fields: Any) -> Any:
    """A decision of which nothing stands out."""
    usual: dict[str, Any] = {"outcome": Outcome.ALLOW, "verdict": Outcome.ALLOW, "score": 0.0, "reasons": [], "rules": []}
    return decision(txn, **usual | fields)


ALLOWED = Settled(Outcome.ALLOW, Outcome.ALLOW, 0.0, 0)
BLOCKED = Settled(Outcome.BLOCK, Outcome.BLOCK, 0.9, 1)


def cased(txn: Transaction, written: int | None = None, rates: Rates = EUROS) -> Case:
    """`txn` as it is judged; its record was written at the payment's own time, if not said otherwise."""
    return case(txn, txn.at if written is None else written, rates)


def remember(*payments: Transaction, card: Card = BLANK, settled: Settled = ALLOWED) -> Card:
    """The memory after `payments`, all settled alike."""
    for offset, txn in enumerate(payments, card.seen[0] + 1):
        card = learn(card, cased(txn), settled, 0, offset)
    return card


def seen(card: Card, txn: Transaction, **elsewhere: Any) -> Features:
    """`txn` described by what `card` holds; and by what is known elsewhere, as in `Terms`."""
    return Features(card, cased(txn), **elsewhere)


UNREMARKABLE: dict[str, Any] = {
    "saturated": False,
    "habit": 20,
    "habit_amounts": 20,
    "age_days": 300.0,
    "seconds_since_last": 86_400.0,
    "per_active_day": 1.4,
    "amount": 25_00,
    "typical_amount": 25_00.0,
    "amount_ratio": 1.0,
    "amount_z": 0.0,
    "amount_to_largest": 0.5,
    "amount_to_smallest_1h": None,
    "km": 0.0,
    "kmh": 0.0,
    "km_from_home": 0.0,
    "hour_share": 0.2,
    "weekday_share": 0.15,
    "new_payee": None,
    "recurring_ratio": None,
    "balance_share": None,
    "days_since_card_fraud": None,
}


def features(**known: Any) -> Features:
    """A description in which nothing stands out, but for what is given."""
    found = Features(BLANK, cased(payment()))
    for group, kind in GROUPS.items():
        names = [field.name for field in msgspec.structs.fields(kind)]
        usual = {name: UNREMARKABLE.get(name, False if name.startswith("new_") else 0) for name in names}
        vars(found)[group] = kind(**{name: known.pop(name, usual[name]) for name in names})
    assert not known, f"no such features: {known}"
    return found


def entry(name: str = "deny", of: str = "card", value: str = "card-1", **fields: Any) -> Entry:
    """An entry about the usual payment's card on the deny list."""
    usual: dict[str, Any] = {"reason": "reported stolen", "by": "ana", "at": NOON}
    return Entry(list=ListName(name), of=Of(of), value=value, **usual | fields)


def record(offset: int, key: bytes | None, value: bytes | None, topic: str = "a-topic") -> ConsumerRecord:
    """A record as a reader gets it."""
    size = len(key or b""), len(value or b"")
    return ConsumerRecord(topic, 0, offset, 0, 0, key, value, None, *size, ())


def label(txn: Transaction, *, is_fraud: bool = True, after: timedelta = timedelta(hours=6), **fields: Any) -> Label:
    """What an analyst says about `txn` some hours later."""
    usual: dict[str, Any] = {
        "transaction_id": txn.transaction_id,
        "card_id": txn.card_id,
        "merchant_id": txn.merchant_id,
        "timestamp": txn.timestamp,
        "is_fraud": is_fraud,
        "labelled_at": txn.timestamp + after,
        "source": Source.ANALYST,
    }
    return Label(**usual | fields)
