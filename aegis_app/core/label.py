"""What is said about a payment afterwards: a chargeback, an analyst's verdict, and the like."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.payment import EARLIEST, LATEST, CountryCode, CurrencyCode, Identifier, Millis, Money, millis


class Source(StrEnum):
    """Who says so; strongest first."""

    CUSTOMER = "customer"
    CHARGEBACK = "chargeback"
    ISSUER = "issuer"
    ANALYST = "analyst"
    AUTOMATIC = "automatic"


STRENGTH: Final = {source: len(Source) - place for place, source in enumerate(Source)}
"""From 1; more wins."""


class Label(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A verdict about one payment, as on the `labels` topic (key: `card_id`). Unknown fields are ignored.

    Of several about one payment the strongest source wins, then the latest `labelled_at`. A dispute that is no fraud (goods that never
    came) is a label with `is_fraud` false. A payment without a label is not known to be genuine.
    """

    transaction_id: Annotated[Identifier, Meta(description="of the payment")]
    card_id: Annotated[Identifier, Meta(description="a token, never a card number")]
    merchant_id: Annotated[Identifier, Meta(description="of the payment; without it the merchant does not hear of a fraud")] | None = None
    timestamp: Annotated[datetime, Meta(tz=True, description="when the payment took place (RFC 3339 with offset)")]
    is_fraud: bool
    fraud_type: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    labelled_at: Annotated[datetime, Meta(tz=True, description="when this became known; never before the payment")]
    source: Source
    labelled_by: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    note: Annotated[str, Meta(max_length=1000)] | None = None
    amount_minor: Annotated[Money, Meta(description="of the payment; with its currency or not at all")] | None = None
    currency: CurrencyCode | None = None
    device_id: Annotated[Identifier, Meta(description="of the payment")] | None = None
    country: CountryCode | None = None

    def __post_init__(self) -> None:
        if (self.amount_minor is None) is not (self.currency is None):
            raise ValueError("amount_minor and currency come together or not at all")
        try:
            are_near = EARLIEST <= self.timestamp < LATEST and self.labelled_at < LATEST
        except TypeError:
            raise ValueError("timestamp or labelled_at has no time zone, as datetime.now(UTC) has") from None
        if not are_near:
            raise ValueError("timestamp or labelled_at lies before the year 2000, or after 2099")
        if self.labelled_at < self.timestamp:
            raise ValueError("labelled_at lies before the payment's timestamp")
        if not (self.card_id.isprintable() and self.transaction_id.isprintable()):
            raise ValueError("card_id and transaction_id hold printable characters only")

    @property
    def at(self) -> Millis:
        """The payment's own time."""
        return millis(self.timestamp)

    @property
    def known_at(self) -> Millis:
        """When it became known."""
        return millis(self.labelled_at)


encode_label: Final = msgspec.json.Encoder().encode
decode_label: Final = msgspec.json.Decoder(Label).decode
