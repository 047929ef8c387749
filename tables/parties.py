"""How the memory of a merchant or a device is kept: both are the other side of a card's payments."""

from typing import Final

from aegis_app.application import ttl
from aegis_app.core.merchant import Merchant, decode_merchant, encode_merchant, risk
from aegis_app.stream.memory import Codec

codec: Final = Codec[Merchant](
    encode=encode_merchant,
    decode=decode_merchant,
    seen=lambda raw: {(source, partition): offset for source, partition, offset in decode_merchant(raw).seen},
    clock=lambda merchant: merchant.clock,
    expired=lambda raw, now: now - decode_merchant(raw).clock > ttl,
    summary=risk,
)
