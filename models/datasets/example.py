"""What every reader yields, and what it raises."""

from msgspec import Struct

from aegis_app.core.payment import Transaction


class Example(Struct, frozen=True, gc=False):
    """A payment and whether it was fraud; `None` where the data does not say. Nothing of the label is in the payment."""

    transaction: Transaction
    is_fraud: bool | None = None
    fraud_type: str | None = None
    """How a fraud was made, where the data says; for reports alone."""


class DatasetError(ValueError):
    """A file cannot be read as payments; the message is one line with the file, and the line or row where one is to blame."""
