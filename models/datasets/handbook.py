"""The simulated card payments of the Fraud-Detection-Handbook: a customer is a card, a terminal a merchant.

Its TX_FRAUD_SCENARIO says how a fraud was made, so it gives the label away: no payment holds it, and reports alone tell frauds by it.
"""

from decimal import Decimal
from typing import Any, Final

from models.datasets.amounts import minor_units
from models.datasets.layout import Cells, Layout, verdict


def _payment(cells: Cells, number: int, currency: str) -> tuple[dict[str, Any], bool | None]:
    if cells["TX_AMOUNT"] is None or cells["CUSTOMER_ID"] is None or cells["TRANSACTION_ID"] is None:
        raise ValueError("TRANSACTION_ID, CUSTOMER_ID and TX_AMOUNT are never null")
    fields = {
        "transaction_id": cells["TRANSACTION_ID"],
        "card_id": cells["CUSTOMER_ID"],
        "amount_minor": minor_units(cells["TX_AMOUNT"], currency),
        "currency": currency,
        "timestamp": cells["TX_DATETIME"],
        "merchant_id": cells["TERMINAL_ID"],
    }
    return fields, verdict(cells.get("TX_FRAUD"))


LAYOUT: Final = Layout(
    name="handbook",
    title="Fraud-Detection-Handbook",
    required={"TRANSACTION_ID": str, "TX_DATETIME": object, "CUSTOMER_ID": str, "TERMINAL_ID": str, "TX_AMOUNT": Decimal},
    optional={"TX_FRAUD": object, "TX_FRAUD_SCENARIO": str},
    card="CUSTOMER_ID",
    time="TX_DATETIME",
    payment=_payment,
    fraud_type="TX_FRAUD_SCENARIO",
)
