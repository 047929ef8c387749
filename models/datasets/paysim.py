"""Simulated mobile money of PaySim: Kaggle's file, and files made anew, whose money is in cents.

`step` counts hours, here from the beginning of 2019; all payments of an hour have its first moment as their time, and their order is the
file's. The balances after a payment give frauds away, so the default leaves them out, as it does `isFlaggedFraud` and
`isUnauthorizedOverdraft`, which are verdicts.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from aegis_app.core.payment import Kind
from models.datasets.amounts import minor_units
from models.datasets.layout import Cells, Clock, Layout, verdict

START: Final = datetime(2019, 1, 1, tzinfo=UTC)
KINDS: Final = {
    "PAYMENT": Kind.PURCHASE,
    "TRANSFER": Kind.TRANSFER,
    "CASH_OUT": Kind.CASH_OUT,
    "CASH_IN": Kind.CASH_IN,
    "DEBIT": Kind.CASH_OUT,  # to the holder's own bank account: out of the network, as cash is
    "DEPOSIT": Kind.CASH_IN,
}
BEFORE: Final = {"oldbalanceOrg": "balance_minor", "oldbalanceDest": "payee_balance_minor"}
AFTER: Final = {"newbalanceOrig": "balance_after_minor", "newbalanceDest": "payee_balance_after_minor"}


def _reader(suffix: str, known: dict[str, str]) -> Callable[[Cells, int, str], tuple[dict[str, Any], bool | None]]:
    def minor(amount: Any, currency: str) -> int:
        return int(amount) if suffix else minor_units(amount, currency)

    def payment(cells: Cells, number: int, currency: str) -> tuple[dict[str, Any], bool | None]:
        amount, kind = cells["amount" + suffix], cells["type"]
        if amount is None or cells["nameOrig"] is None:
            raise ValueError(f"nameOrig and amount{suffix} are never null")
        if kind not in KINDS:
            raise ValueError(f"type {kind!r} is none of {', '.join(KINDS)}")
        balances = {name: cells[column + suffix] for column, name in known.items()}
        fields = {
            "transaction_id": f"paysim-{number}",
            "card_id": cells["nameOrig"],
            "amount_minor": minor(amount, currency),
            "currency": currency,
            "timestamp": cells["step"],
            "kind": KINDS[kind],
            "payee_id": cells["nameDest"],
            "attributes": {name: float(minor(balance, currency)) for name, balance in balances.items() if balance is not None},
        }
        return fields, verdict(cells.get("isFraud"))

    return payment


def _layout(name: str, suffix: str, known: dict[str, str], warning: str | None) -> Layout:
    kind = int if suffix else Decimal
    money = {column + suffix: kind for column in ("amount", *known)}
    return Layout(
        name=name,
        title="PaySim, made anew" if suffix else "PaySim, as on Kaggle",
        required={"step": int, "type": str, "nameOrig": str, "nameDest": str, **money},
        optional={"isFraud": object},
        card="nameOrig",
        time="step",
        clock=Clock(since=START - timedelta(hours=1), unit=timedelta(hours=1)),
        payment=_reader(suffix, known),
        warning=warning,
    )


_WARNING: Final = (
    "paysim-leaky: among the attributes are balances after the payment, which are not known when it is decided, and tell fraud"
)
LAYOUTS: Final = tuple(_layout("paysim", suffix, BEFORE, None) for suffix in ("", "_cents"))
LEAKY: Final = tuple(_layout("paysim-leaky", suffix, BEFORE | AFTER, _WARNING) for suffix in ("", "_cents"))
"""To reproduce what others measured with them."""
