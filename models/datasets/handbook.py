"""The simulated card payments of the Fraud-Detection-Handbook: a customer is a card, a terminal a merchant.

Its TX_FRAUD_SCENARIO says how a fraud was made, so it gives the label away: it is not read at all.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from aegis_app.core.payment import Transaction
from models.datasets.amounts import minor_units
from models.datasets.example import Example
from models.datasets.parquet import Layout


def _example(row: Mapping[str, Any], currency: str) -> Example:
    if row["TX_AMOUNT"] is None or row["CUSTOMER_ID"] is None or row["TRANSACTION_ID"] is None:
        raise ValueError("TRANSACTION_ID, CUSTOMER_ID and TX_AMOUNT are never null")
    fields = {
        "transaction_id": str(row["TRANSACTION_ID"]),
        "card_id": str(row["CUSTOMER_ID"]),
        "amount_minor": minor_units(row["TX_AMOUNT"], currency),
        "currency": currency,
        "timestamp": row["TX_DATETIME"],
        "merchant_id": None if row["TERMINAL_ID"] is None else str(row["TERMINAL_ID"]),
    }
    fraud = row.get("TX_FRAUD")
    return Example(msgspec.convert(fields, Transaction), None if fraud is None else bool(fraud))


LAYOUT: Final = Layout(
    name="Fraud-Detection-Handbook",
    required=("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"),
    optional=("TX_FRAUD",),
    card="CUSTOMER_ID",
    time="TX_DATETIME",
    example=_example,
)
