"""The real card payments of ULB and Worldline, as on Kaggle: 28 principal components, and neither card nor merchant.

So each payment is of a card of its own, and its row is its id: equal rows are different payments. `Time` counts seconds from the first
payment, of a day in September 2013 that is not said; here, from midnight of the first.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from models.datasets.amounts import minor_units
from models.datasets.layout import Cells, Clock, Layout, verdict

COMPONENTS: Final = tuple(f"V{number}" for number in range(1, 29))


def _payment(cells: Cells, number: int, currency: str) -> tuple[dict[str, Any], bool | None]:
    if cells["Amount"] is None:
        raise ValueError("Amount is never null")
    fields = {
        "transaction_id": f"ulb-{number}",
        "card_id": f"ulb-{number}",
        "amount_minor": minor_units(cells["Amount"], currency),
        "currency": currency,
        "timestamp": cells["Time"],
        "attributes": {name: cells[name] for name in COMPONENTS if cells[name] is not None},
    }
    return fields, verdict(cells.get("Class"))


LAYOUT: Final = Layout(
    name="ulb",
    title="ULB, credit card fraud of September 2013",
    required={"Time": float, **dict.fromkeys(COMPONENTS, float), "Amount": Decimal},
    optional={"Class": object},
    card=None,
    time="Time",
    clock=Clock(since=datetime(2013, 9, 1, tzinfo=UTC)),
    payment=_payment,
)
