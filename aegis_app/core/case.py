"""A payment on its way to a decision."""

from msgspec import Struct

from aegis_app.core.payment import Millis, Transaction
from aegis_app.core.rates import Rates


class Case(Struct, frozen=True, gc=False):
    """A payment with what several steps need of it, worked out once."""

    txn: Transaction
    at: Millis
    """The payment's own time."""
    amount: int | None
    """In minor units of the base currency; `None` where there is no rate."""
    written: Millis
    """Time of its Kafka record; offline, the payment's own."""


def case(txn: Transaction, written: Millis, rates: Rates) -> Case:
    """`txn` as it came in a record `written` at that time."""
    return Case(txn, txn.at, rates.to_base(txn.amount_minor, txn.currency), written)
