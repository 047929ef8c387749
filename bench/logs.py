"""What stands on Kafka's logs, for those who check afterwards."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from aegis_app.access import connect
from aegis_app.settings import Settings

T = TypeVar("T")


class Logs:
    """Reads topics whole, committed records only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def ends(self, topic: str) -> dict[int, int]:
        """Log end per partition."""
        return _run(self._ends(topic))

    def committed(self, topic: str) -> dict[int, int]:
        """The workers' group's offset per partition; 0 for none."""
        return _run(self._committed(topic))

    def read(self, topic: str, last: int | None = None) -> list[ConsumerRecord]:
        """Every record, or the `last` ones of each partition, in order per partition."""
        return _run(self._read(topic, last))

    async def _consumer(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._settings.connection(), enable_auto_commit=False, isolation_level="read_committed", max_partition_fetch_bytes=8 << 20
        )
        await consumer.start()
        return consumer

    async def _ends(self, topic: str) -> dict[int, int]:
        consumer = await self._consumer()
        try:
            return {tp.partition: end for tp, end in (await consumer.end_offsets(await _partitions(consumer, topic))).items()}
        finally:
            await consumer.stop()

    async def _committed(self, topic: str) -> dict[int, int]:
        async with connect(self._settings) as client:
            offsets = await client.list_consumer_group_offsets(self._settings.app_id)
        return {tp.partition: max(0, found.offset) for tp, found in offsets.items() if tp.topic == topic}

    async def _read(self, topic: str, last: int | None) -> list[ConsumerRecord]:
        consumer = await self._consumer()
        records: list[ConsumerRecord] = []
        try:
            for tp in await _partitions(consumer, topic):
                consumer.assign([tp])
                end = (await consumer.end_offsets([tp]))[tp]
                start = (await consumer.beginning_offsets([tp]))[tp]
                consumer.seek(tp, start if last is None else max(start, end - last))
                while await consumer.position(tp) < end:
                    for fetched in (await consumer.getmany(tp, timeout_ms=500, max_records=10_000)).values():
                        records += fetched
        finally:
            await consumer.stop()
        return records


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    numbers: Iterable[int] = consumer.partitions_for_topic(topic) or ()
    if not numbers:
        await consumer._client._wait_on_metadata(topic)
        numbers = consumer.partitions_for_topic(topic) or ()
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)
