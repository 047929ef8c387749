"""What is remembered about each card. Key: card_id, as on the `transactions` topic."""

from aegis_app.application import app, decisions, sources, ttl
from aegis_app.core.card import Card, decode_card, decode_stamp, encode_card, is_idle
from aegis_app.stream.memory import Codec

cards = app.memory(
    "cards",
    Codec[Card](
        encode=encode_card,
        decode=decode_card,
        seen=lambda raw: dict(enumerate(decode_stamp(raw).seen)),
        clock=lambda card: card.clock,
        expired=lambda raw, now: is_idle(raw, now, ttl),
        late=lambda raw, learnt: all(seen <= learnt.get(topic, -1) for topic, seen in zip(sources, decode_stamp(raw).seen, strict=True)),
    ),
)

owners = app.own(cards, sources, decisions=decisions)
"""The partitions of cards that this worker holds, and the chunks that come for them."""
