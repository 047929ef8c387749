"""The same judgement in an ordinary Faust agent, for comparison: `faust -A bench.stock worker`.

BENCH_WAY=event is the agent of Faust's own tutorial; BENCH_WAY=take reads up to 256 events at a time and writes each card once.
"""

import os
import weakref
from datetime import UTC, datetime
from typing import Any

import faust
from faust.streams import _current_event

from aegis_app.core.card import decode_card, encode_card
from aegis_app.core.decision import Receipt, encode_decision
from aegis_app.core.intake import read_payment
from aegis_app.core.policy import parse_policy
from aegis_app.core.screen import screen
from aegis_app.core.terms import Terms
from aegis_app.settings import settings as read_settings
from aegis_app.topics import Name, full_name

settings = read_settings()
terms = Terms(policy=parse_policy('mode = "observe"') if settings.policy is None else parse_policy(settings.policy.read_text()))

app = faust.App(
    settings.app_id,
    broker=[f"kafka://{server}" for server in settings.brokers],
    store="rocksdb://",
    datadir=str(settings.datadir),
    topic_partitions=settings.partitions,
    topic_replication_factor=1,
    topic_disable_leader=True,
    table_standby_replicas=0,
    consumer_auto_offset_reset="earliest",
    web_port=settings.web_port,
)
RAW: Any = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
payments = app.topic(full_name(Name.TRANSACTIONS, settings), **RAW)
decisions = app.topic(full_name(Name.DECISIONS, settings), **RAW)
cards = app.Table("stock", key_type=bytes, value_type=bytes, options={"driver": "rocksdict"})


def judge(raw: bytes | None, event: Any) -> tuple[bytes, bytes]:
    """Memory after a payment, and the decision about it."""
    written = int(event.message.timestamp * 1000)
    txn = read_payment(event.value, event.message.key, written, token=False)
    receipt = Receipt(written, datetime.now(UTC))
    screened = screen(None if raw is None else decode_card(raw), txn, terms, receipt, event.message.offset)
    return encode_card(screened.card), encode_decision(txn, screened.ruling)


async def by_event(stream: Any) -> None:
    async for event in stream.events():
        card, decision = judge(cards.get(event.message.key), event)
        cards[event.message.key] = card
        await decisions.send(key=event.message.key, value=decision)


async def by_take(stream: Any) -> None:
    async for events in stream.take_events(256, within=0.01):
        latest: dict[bytes, tuple[bytes, Any]] = {}
        for event in events:
            key = event.message.key
            _current_event.set(weakref.ref(event))
            before = latest[key][0] if key in latest else cards.get(key)
            card, decision = judge(before, event)
            latest[key] = (card, event)
            await decisions.send(key=key, value=decision)
        for key, (card, event) in latest.items():
            _current_event.set(weakref.ref(event))
            cards[key] = card


app.agent(payments)(by_take if os.environ.get("BENCH_WAY") == "take" else by_event)
