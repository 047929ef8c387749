"""What a data set itself says of its payments, as labels that become known later."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from msgspec import Struct

from aegis_app.core.label import Label, Source
from aegis_app.core.payment import Transaction
from models.datasets.example import DatasetError, Example
from models.datasets.matrix import Told


class Truth(Struct, frozen=True):
    """Of a whole file."""

    labels: list[Label]
    """One for each fraud. None says that a payment is genuine: nobody complains about those."""
    frauds: dict[str, str | None]
    """By transaction_id, how they were made, where the file says."""
    unknown: frozenset[str]
    """Payments of which the file does not say what they were."""

    def told(self, transaction_id: str) -> Told:
        """Of one payment."""
        is_fraud = None if transaction_id in self.unknown else transaction_id in self.frauds
        return is_fraud, self.frauds.get(transaction_id)


def fraud(txn: Transaction, delay: float, fraud_type: str | None = None) -> Label:
    """That this payment was fraud, known `delay` days after it."""
    return Label(
        transaction_id=txn.transaction_id,
        card_id=txn.card_id,
        merchant_id=txn.merchant_id,
        timestamp=txn.timestamp,
        is_fraud=True,
        fraud_type=fraud_type,
        labelled_at=txn.timestamp + timedelta(days=delay),
        source=Source.CHARGEBACK,
        amount_minor=txn.amount_minor,
        currency=txn.currency,
        device_id=txn.device_id,
        country=txn.country,
    )


def read_truth(examples: Iterable[Example], delay: float, source: Path) -> Truth:
    """Of all these, each known `delay` days after its payment. Raises `DatasetError` where nothing is said of any."""
    labels, unknown, known = [], set(), False
    for example in examples:
        known = known or example.is_fraud is not None
        if example.is_fraud:
            labels.append(fraud(example.transaction, delay, example.fraud_type))
        elif example.is_fraud is None:
            unknown.add(example.transaction.transaction_id)
    if not known:
        raise DatasetError(f"{source} says of no payment whether it was fraud")
    return Truth(labels, {label.transaction_id: label.fraud_type for label in labels}, frozenset(unknown))
