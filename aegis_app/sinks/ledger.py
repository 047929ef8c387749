"""Decisions and labels on their way into the ledger."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC
from typing import Any, Final, TypeVar

import msgspec
from aiokafka.structs import ConsumerRecord, TopicPartition

from aegis_app import logs, metrics
from aegis_app.core.answer import Fallback
from aegis_app.core.intake import Refused, read_label
from aegis_app.core.label import Label
from aegis_app.ledger.database import LedgerAwayError, connect
from aegis_app.ledger.rows import decode_decision, decode_fallback, without_nul
from aegis_app.ledger.store import Batch, Store
from aegis_app.rates import load_rates
from aegis_app.settings import Settings
from aegis_app.sinks.reading import AwayError, Reader
from aegis_app.sinks.running import serve
from aegis_app.topics import Name, full_name

log = logging.getLogger("aegis")

TOPICS: Final = (Name.DECISIONS, Name.LABELS, Name.FALLBACKS)
T = TypeVar("T")


class Ledger:
    """The sink. How far it has read stands in the database, with the rows: so nothing is missing there, and nothing double.

    A ledger that is new begins with all that Kafka has, whatever another one has read.
    """

    name = "ledger"

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._topics = [full_name(name, settings) for name in TOPICS]

    async def places(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        try:
            found = await asyncio.to_thread(self._places, partitions)
        except LedgerAwayError as error:
            raise AwayError(str(error)) from error
        return {tp: found.get((tp.topic, tp.partition), 0) for tp in partitions}

    def _places(self, partitions: Collection[TopicPartition]) -> Mapping[tuple[str, int], int]:
        self._store.open()
        return self._store.places({(tp.topic, tp.partition) for tp in partitions})

    async def take(self, records: list[ConsumerRecord]) -> None:
        try:
            await asyncio.to_thread(self._take, records)
        except LedgerAwayError as error:
            raise AwayError(str(error)) from error

    def _take(self, records: list[ConsumerRecord]) -> None:
        came = {topic: [record for record in records if record.topic == topic] for topic in self._topics}
        made, said, answered = (came[topic] for topic in self._topics)
        read = {(record.topic, record.partition): record.offset + 1 for record in records}
        fallbacks = list(self._readable(answered, Name.FALLBACKS, _decode_fallback))
        self._store.write(
            Batch(list(self._readable(made, Name.DECISIONS, _decode_decision)), list(self._readable_labels(said)), read, fallbacks)
        )

    def _readable(self, records: list[ConsumerRecord], name: Name, decode: Callable[[bytes], T]) -> Iterator[T]:
        """What nobody but the ledger would tell of: it is logged with its place."""
        for record in records:
            try:
                yield decode(without_nul(record.value or b""))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
                place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
                log.error(
                    "%s, %d:%d cannot be read and is not in the ledger: %s",
                    record.topic,
                    record.partition,
                    record.offset,
                    error,
                    extra=place,
                )
                metrics.SINK_UNREADABLE.labels(self.name, name).inc()

    def _readable_labels(self, records: list[ConsumerRecord]) -> Iterator[Label]:
        """What workers refuse becomes a dead letter of theirs, with its reason; here it is only counted."""
        for record in records:
            try:
                value = None if record.value is None else without_nul(record.value)
                yield read_label(value, record.key, record.timestamp, token=self._settings.card_id_is_token)
            except Refused:
                metrics.SINK_UNREADABLE.labels(self.name, Name.LABELS).inc()


def _decode_decision(value: bytes) -> Any:
    decision = decode_decision(value)
    decision.decided_at.astimezone(UTC)
    return decision


def _decode_fallback(value: bytes) -> Fallback:
    fallback = decode_fallback(value)
    fallback.answered_at.astimezone(UTC)
    fallback.timestamp.astimezone(UTC)
    return fallback


def run(settings: Settings, port: int) -> None:
    """Keep the ledger until SIGTERM or SIGINT; one that is away is waited for. Raises `LedgerError` where it cannot be kept as it is."""
    logs.begin(settings.log)
    engine = connect(settings, name="aegis-ledger")
    store = Store(engine, load_rates(settings))
    try:
        store.open()
    except LedgerAwayError as error:
        log.warning("%s; it is waited for", error)
    try:
        asyncio.run(_run(settings, Ledger(settings, store), port))
    finally:
        engine.dispose()


async def _run(settings: Settings, ledger: Ledger, port: int) -> None:
    await serve(settings, Reader(settings, ledger, TOPICS), port)
