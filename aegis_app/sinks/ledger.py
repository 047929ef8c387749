"""Decisions and labels on their way into the ledger."""

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC
from typing import Any

import msgspec
from aiokafka.structs import ConsumerRecord, TopicPartition

from aegis_app import logs, metrics
from aegis_app.core.intake import Refused, read_label
from aegis_app.core.label import Label
from aegis_app.ledger.database import LedgerAwayError, connect
from aegis_app.ledger.rows import decode_decision, without_nul
from aegis_app.ledger.store import Batch, Store
from aegis_app.rates import load_rates
from aegis_app.settings import Settings
from aegis_app.sinks.reading import AwayError, Reader
from aegis_app.sinks.running import serve
from aegis_app.topics import Name, full_name

log = logging.getLogger("aegis")


class Ledger:
    """The sink. How far it has read stands in the database, with the rows: so nothing is missing there, and nothing double.

    A ledger that is new begins with all that Kafka has, whatever another one has read.
    """

    name = "ledger"

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._decisions = full_name(Name.DECISIONS, settings)

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
        made = [record for record in records if record.topic == self._decisions]
        said = [record for record in records if record.topic != self._decisions]
        read = {(record.topic, record.partition): record.offset + 1 for record in records}
        self._store.write(Batch(list(self._readable_decisions(made)), list(self._readable_labels(said)), read))

    def _readable_decisions(self, records: list[ConsumerRecord]) -> Iterator[Any]:
        for record in records:
            try:
                decision = decode_decision(without_nul(record.value or b""))
                decision.decided_at.astimezone(UTC)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
                place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
                log.error(
                    "%s, %d:%d is no decision and not in the ledger: %s", record.topic, record.partition, record.offset, error, extra=place
                )
                metrics.SINK_UNREADABLE.labels(self.name, Name.DECISIONS).inc()
            else:
                yield decision

    def _readable_labels(self, records: list[ConsumerRecord]) -> Iterator[Label]:
        """What workers refuse becomes a dead letter of theirs, with its reason; here it is only counted."""
        for record in records:
            try:
                value = None if record.value is None else without_nul(record.value)
                yield read_label(value, record.key, record.timestamp, token=self._settings.card_id_is_token)
            except Refused:
                metrics.SINK_UNREADABLE.labels(self.name, Name.LABELS).inc()


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
    await serve(settings, Reader(settings, ledger, [Name.DECISIONS, Name.LABELS]), port)
