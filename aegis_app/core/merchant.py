"""What is remembered about a merchant, or a device: a pure fold of the events that cards' owners send it."""

from typing import Final

import msgspec
from msgspec import Struct

from aegis_app.core.payment import Millis

LAYOUT: Final = 1


class Paid(Struct, frozen=True, array_like=True, gc=False, tag=0):
    """A payment was decided."""

    offset: int
    at: Millis
    kind: int
    amount: int | None
    is_small: bool
    is_verification: bool
    card: int
    first: bool
    unusual: int
    verdict: int


class Labelled(Struct, frozen=True, array_like=True, gc=False, tag=1):
    """A payment's verdict changed."""

    offset: int
    at: Millis
    labelled_at: Millis
    change: int
    amount: int | None


class Credited(Struct, frozen=True, array_like=True, gc=False, tag=2):
    """A card that was used here had a confirmed fraud."""

    offset: int
    at: Millis
    labelled_at: Millis
    change: int
    card: int


Event = Paid | Labelled | Credited


class Events(Struct, frozen=True, array_like=True, gc=False):
    """Of one chunk, in the order of their offsets."""

    source: int
    partition: int
    events: list[Event]


class Merchant(Struct, frozen=True, array_like=True, gc=False):
    """Memory of one."""

    layout: int = LAYOUT
    seen: tuple[tuple[int, int, int], ...] = ()
    clock: Millis = 0
    payments: int = 0
    refused: int = 0
    unusual: int = 0


class EventsError(ValueError):
    """No events of ours."""


encode_events: Final = msgspec.msgpack.Encoder().encode
encode_merchant: Final = msgspec.msgpack.Encoder().encode
decode_merchant: Final = msgspec.msgpack.Decoder(Merchant).decode
_decode = msgspec.msgpack.Decoder(Events).decode


def decode_events(raw: bytes) -> Events:
    """Raises `EventsError`."""
    try:
        return _decode(raw)
    except msgspec.DecodeError as error:
        raise EventsError(str(error)) from None


def unusual(amount_z: float | None, new_merchant: bool | None, hour_share: float | None, km: float | None) -> int:
    """0 to 1000."""
    return 500 if new_merchant else 0


def fold(memory: Merchant | None, events: Events) -> Merchant:
    """The memory after `events`; what it has learnt before is skipped."""
    memory = Merchant() if memory is None else memory
    seen = {(source, partition): offset for source, partition, offset in memory.seen}
    place = events.source, events.partition
    new = [event for event in events.events if event.offset > seen.get(place, -1)]
    if not new:
        return memory
    seen[place] = new[-1].offset
    paid = [event for event in new if isinstance(event, Paid)]
    return Merchant(
        LAYOUT,
        tuple((*each, offset) for each, offset in sorted(seen.items())),
        max([memory.clock, *(event.at for event in paid)]),
        memory.payments + len(paid),
        memory.refused + sum(event.verdict > 0 for event in paid),
        memory.unusual + sum(event.unusual for event in paid),
    )


def risk(memory: Merchant) -> bytes:
    """What every worker holds."""
    return msgspec.msgpack.encode((LAYOUT, memory.clock, memory.payments))
