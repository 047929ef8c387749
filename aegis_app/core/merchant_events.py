"""What happened at a merchant, or on a device, as it travels to whoever remembers it: on `merchant-events` and `device-events`.

One record holds what one chunk of one source partition has to say about one merchant, all events of an offset together.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct
from xxhash import xxh32_intdigest

from aegis_app.core.payment import EARLIEST, LATEST, Millis

Offset = Annotated[int, Meta(ge=0)]
"""Of a record in its source partition."""
Moment = Annotated[Millis, Meta(ge=int(EARLIEST.timestamp() * 1000), lt=int(LATEST.timestamp() * 1000))]
CardHash = Annotated[int, Meta(ge=0, lt=2**32)]
Change = Literal[-1, 1]
"""A fraud was confirmed, or that was taken back."""


class Paid(Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A card paid, or tried to."""

    offset: Offset
    at: Moment
    """The payment's own time; where that is ahead of its record, the record's."""
    kind: Annotated[int, Meta(ge=0, lt=256)]
    """As `encoding.kind_code`."""
    amount: Annotated[int, Meta(ge=0, le=2**53)] | None
    """In minor units of the base currency; `None` where there is no rate."""
    small: bool
    """As `payment.is_small`."""
    card: CardHash
    first: bool
    """The card had never been here, as far as it remembers."""
    unusual: Annotated[int, Meta(ge=0, le=1000)] | None
    """As `unusual.unusual`."""
    verdict: Annotated[int, Meta(ge=0, le=2)]
    """As `payment.SEVERITY`."""


class Labelled(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A payment made here turned out to be fraud, or not to be after all."""

    offset: Offset
    at: Moment
    """Of the payment."""
    labelled_at: Moment
    """When that became known."""
    change: Change


class Credited(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A card that was used here in the 30 days before had a fraud confirmed: a point of compromise, perhaps."""

    offset: Offset
    labelled_at: Moment
    change: Change
    card: CardHash


Event = Paid | Labelled | Credited


class Events(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A record; its tag is the layout. Events come in the order of their offsets."""

    source: Annotated[int, Meta(ge=0, le=2)]
    """Place in `topics.SOURCES`."""
    partition: Annotated[int, Meta(ge=0, lt=10_000)]
    """Of that source."""
    events: Annotated[list[Event], Meta(min_length=1)]


class EventsError(ValueError):
    """Bytes that are no record of events; the message says why."""


encode_events: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Events).decode


def decode_events(raw: bytes) -> Events:
    """Read a record as `encode_events` wrote it. Raises `EventsError`."""
    try:
        return _decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EventsError(f"not a record of events: {error}") from None


def card_hash(card_id: str) -> int:
    """32 bits that stand for a card."""
    return xxh32_intdigest(card_id.encode())
