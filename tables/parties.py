"""How the memory of a merchant or a device is kept: both are the other side of a card's payments."""

from collections.abc import Callable
from typing import Final

from aegis_app.application import ttl
from aegis_app.core.merchant import MOST_DAYS, Merchant, decode_merchant, decode_stamp, encode_merchant
from aegis_app.core.payment import DAY_MS
from aegis_app.stream.memory import Codec

PATIENCE: Final = 0.4
"""Seconds for which changes are gathered. No decision waits for them, and what is known of a party may be a second old."""

IDLE_MS: Final = max(ttl, MOST_DAYS * DAY_MS)
"""Not before a memory holds nothing any more but its age: so it hardly matters when exactly it goes."""


def seen(raw: bytes) -> dict[tuple[int, int], int]:
    """The last offset learnt of each source's partitions."""
    sources = enumerate(decode_stamp(raw).seen)
    return {(source, partition): offset for source, offsets in sources for partition, offset in enumerate(offsets)}


def codec(summary: Callable[[Merchant], bytes | None]) -> Codec[Merchant]:
    """`summary` is what every worker is told."""
    return Codec(
        encode=encode_merchant,
        decode=decode_merchant,
        seen=seen,
        clock=lambda merchant: merchant.latest,
        expired=lambda raw, now: now - decode_stamp(raw).latest > IDLE_MS,
        summary=summary,
    )
