"""From decisions to what is to be told: each goes onto `alerts` once for each destination, before it is committed."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition
from msgspec import Struct

from aegis_app import metrics
from aegis_app.access import connect
from aegis_app.core.decision import STALE_MS
from aegis_app.core.payment import ALLOW, Outcome, millis
from aegis_app.settings import Settings
from aegis_app.sinks.alerts.message import Decided, Raised, decode_decided, encode_raised
from aegis_app.sinks.alerts.routes import Routes
from aegis_app.sinks.alerts.snoozes import Snoozes
from aegis_app.sinks.reading import AwayError
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name

log = logging.getLogger(__name__)

STALE: Final = timedelta(milliseconds=STALE_MS)


class _Glance(Struct, frozen=True, gc=False):
    verdict: Outcome


_glance = msgspec.json.Decoder(_Glance).decode


class Raising:
    """The sink that `decisions` are read for."""

    name = "alerts"

    def __init__(self, settings: Settings, routes: Routes, snoozes: Callable[[], Snoozes], outbox: Outbox) -> None:
        self._settings = settings
        self._topic = full_name(Name.ALERTS, settings)
        self._routes = routes
        self._snoozes = snoozes
        self._outbox = outbox
        for destination in routes.destinations:
            metrics.ALERTS_RAISED.labels(destination)
        for why in metrics.NOT_RAISED:
            metrics.ALERTS_NOT_RAISED.labels(why)

    async def places(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Where alerts began, of partitions of which nothing was committed yet: what stands before would be read for nothing."""
        began = self._snoozes().began
        try:
            async with connect(self._settings) as client:
                committed = await client.list_consumer_group_offsets(f"{self._settings.app_id}-{self.name}")
            fresh = [tp for tp in partitions if tp not in committed or committed[tp].offset < 0]
            return await _first_since(self._settings, fresh, began) if fresh and began is not None else {}
        except KafkaError as error:
            raise AwayError(f"Kafka does not say where to begin ({type(error).__name__})") from error

    async def take(self, records: list[ConsumerRecord]) -> None:
        """Return once Kafka holds what is to be told of `records`. Raises `AwayError`."""
        raised: dict[int, list[Outgoing]] = defaultdict(list)
        for record in records:
            for each in self._about(record):
                key = f"{each.destination}:{record.partition}:{record.offset}".encode()
                raised[record.partition].append(Outgoing(key, encode_raised(each)))
        try:
            await asyncio.gather(*(self._outbox.publish(self._topic, partition, each) for partition, each in raised.items()))
        except KafkaError as error:
            if not error.retriable:
                raise
            raise AwayError(f"Kafka does not take what is to be told ({type(error).__name__})") from error

    def _about(self, record: ConsumerRecord) -> list[Raised]:
        try:
            if _glance(record.value).verdict is ALLOW:
                return []
            decided = decode_decided(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError) as error:
            metrics.SINK_UNREADABLE.labels(self.name, Name.DECISIONS).inc()
            log.error("%s:%d, offset %d is no decision: %s", record.topic, record.partition, record.offset, type(error).__name__)
            return []
        why = why_not(decided, self._snoozes())
        if why is not None:
            metrics.ALERTS_NOT_RAISED.labels(why).inc()
            return []
        told, found = decided.told(), self._routes.about(decided)
        for destination in found:
            metrics.ALERTS_RAISED.labels(destination).inc()
        return [Raised(destination=each, routes=names, since=told.decided_at, decision=told) for each, names in found.items()]


async def _first_since(settings: Settings, partitions: Collection[TopicPartition], at: datetime) -> dict[TopicPartition, int]:
    """The first record of each partition that was written since, or its end."""
    consumer = AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False)
    try:
        await consumer.start()
        ends = await consumer.end_offsets(list(partitions))
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, millis(at)))
        return {tp: ends[tp] if found[tp] is None else found[tp].offset for tp in partitions}
    finally:
        await consumer.stop()


def why_not(decided: Decided, snoozes: Snoozes) -> str | None:
    """Why nobody is told, one of `metrics.NOT_RAISED`; `None` where somebody is.

    Nobody waits any more for what was decided late, and what is old by its own time is a replay.
    """
    if decided.duplicate:
        return "duplicate"
    if decided.redriven:
        return "redriven"
    if decided.stale:
        return "stale"
    if decided.decided_at - decided.timestamp > STALE:
        return "replayed"
    return "snoozed" if snoozes.silence(decided) else None
