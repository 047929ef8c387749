"""Cards as the first layout had them, read into the present one.

Their habit kept amounts in the card's own currency, which layout 2 compares in the base currency: amounts are learnt anew. What
layout 1 did not know (money, merchants of attempts, hours, rhythm, payees, categories) starts blank.
"""

from struct import Struct as Packed
from typing import Final

import msgspec
from msgspec import Struct

from aegis_app.core.attempts import Attempts
from aegis_app.core.card import Card, Ring
from aegis_app.core.days import Days
from aegis_app.core.habit import Habit
from aegis_app.core.layout_2 import PLACE_2, read_places
from aegis_app.core.payment import Millis
from aegis_app.core.uses import use

_BUCKET: Final = Packed("<IHI")
_BUCKET_NOW: Final = Packed("<IHId")
_NAN_32: Final = Packed("<f").pack(float("nan"))
_NAN_64: Final = Packed("<d").pack(float("nan"))


class _Card(Struct, frozen=True, array_like=True, gc=False):
    layout: int
    seen: tuple[int, int, int] = (-1, -1, -1)
    clock: Millis = 0
    times: bytes = b""
    marks: bytes = b""
    buckets: bytes = b""
    days: bytes = b""
    day_counts: bytes = b""
    places: bytes = b""
    habit: int = 0
    currency: str = ""
    amounts: int = 0
    sum_log: int = 0
    sum_log_squared: int = 0
    largest: int = 0
    merchants: bytes = b""
    devices: bytes = b""
    countries: bytes = b""
    ring_ids: bytes = b""
    ring: bytes = b""


_decode: Final = msgspec.msgpack.Decoder(_Card).decode


def read(raw: bytes) -> Card:
    """A card of layout 1, in the present layout."""
    old = _decode(raw)
    number = len(old.marks)
    last = int.from_bytes(old.times[-8:], "little", signed=True)
    present_at = PLACE_2.unpack_from(old.places, len(old.places) - PLACE_2.size)[0] if old.places else 0
    buckets = b"".join(_BUCKET_NOW.pack(*bucket, float("nan")) for bucket in _BUCKET.iter_unpack(old.buckets))
    return Card(
        seen=old.seen,
        clock=old.clock,
        first=last,
        attempts=Attempts(old.times, old.marks, _NAN_32 * number, bytes(4 * number), buckets, last),
        days=Days(old.days, old.day_counts, _NAN_64 * (len(old.days) // 2)),
        habit=Habit(
            payments=old.habit,
            last=present_at,
            present_at=present_at,
            places=read_places(old.places),
            merchants=_used(old.merchants, 4),
            devices=_used(old.devices, 4),
            countries=_used(old.countries, 2),
        ),
        ring=Ring(old.ring_ids, old.ring),
    )


def _used(column: bytes, width: int) -> bytes:
    """A set of layout 1: once each."""
    used = b""
    for at in range(0, len(column), width):
        used = use(used, column[at : at + width].ljust(4, b"\0"), len(column))
    return used
