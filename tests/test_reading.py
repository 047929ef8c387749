"""What reads for a sink: nothing is passed over while the sink is away, partitions change hands, or a topic is made anew."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from time import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord, TopicPartition

from aegis_app import metrics
from aegis_app.access import connect
from aegis_app.sinks import reading
from aegis_app.sinks.reading import AwayError, Reader
from aegis_app.stream.outbox import Outgoing
from aegis_app.topics import Name
from tests.deployment import PARTITIONS, Deployment

pytestmark = pytest.mark.kafka
NUMBERS = count()


class Shelf:
    """Keeps what it is given, unless it is away."""

    name = "shelf"

    def __init__(self, places: Mapping[TopicPartition, int] | None = None) -> None:
        self.kept: list[tuple[int, int]] = []
        self.asked = 0
        self.away = False
        self.error: Exception | None = None
        self._places = places

    async def places(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return self._places or {}

    async def take(self, records: list[ConsumerRecord]) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if self.away:
            raise AwayError("the shelf is away")
        self.kept += [(record.partition, record.offset) for record in records]


@pytest.fixture
def made(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    monkeypatch.setattr(reading, "LONGEST_PAUSE_SECONDS", 0.5)
    with Deployment(kafka, tmp_path, f"shelf{next(NUMBERS)}") as deployment:
        yield deployment


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at what waits ten times a second."""
    monkeypatch.setattr(reading, "LOOK_SECONDS", 0.1)


def send(made: Deployment, number: int) -> set[tuple[int, int]]:
    """As many records into each partition of `decisions`; all that are there now."""
    for partition in range(PARTITIONS):
        made.put(Name.DECISIONS, partition, [Outgoing(b"k", b"%d" % n) for n in range(number)])
    return {(record.partition, record.offset) for record in made.records(Name.DECISIONS)}


@asynccontextmanager
async def running(made: Deployment, shelf: Shelf, batch: int = 100) -> AsyncIterator[Reader]:
    reader = Reader(made.settings, shelf, [Name.DECISIONS], batch=batch)
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        reader.stop()
        await task


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(240):
        while not is_so():  # noqa: ASYNC110  # what changes is no event of ours
            await asyncio.sleep(0.05)


async def committed(made: Deployment) -> dict[int, int]:
    async with connect(made.settings) as client:
        offsets = await client.list_consumer_group_offsets(f"{made.settings.app_id}-shelf")
    return {tp.partition: found.offset for tp, found in offsets.items()}


def both(*, at: int) -> dict[int, int]:
    return dict.fromkeys(range(PARTITIONS), at)


def test_a_batch_is_handed_over_until_it_is_taken_and_committed_only_then(made: Deployment) -> None:
    sent, shelf = send(made, 250), Shelf()

    async def run() -> Any:
        async with running(made, shelf) as reader:
            shelf.away = True
            await until(lambda: shelf.asked >= 3 and reader.lag == len(sent))
            before, why = await committed(made), reader.away
            shelf.away = False
            await until(lambda: {*shelf.kept} == sent and reader.lag == 0)
        return before, why, reader.away

    assert asyncio.run(run()) == ({}, "the shelf is away", None)
    for partition in range(PARTITIONS):
        offsets = [offset for at, offset in shelf.kept if at == partition]
        assert list(dict.fromkeys(offsets)) == list(range(250)), "in order; twice if the machine is so slow that the group gives us up"
    assert asyncio.run(committed(made)) == both(at=250)


def test_what_an_absent_sink_had_in_hand_goes_to_whoever_has_the_partition_then(made: Deployment) -> None:
    sent, first, second = send(made, 300), Shelf(), Shelf()
    first.away = True

    async def run() -> None:
        async with running(made, first) as one:
            await until(lambda: first.asked >= 1)
            async with running(made, second) as two:
                await until(lambda: one.assigned == two.assigned == 1)
                first.away = False
                await until(lambda: {*first.kept, *second.kept} == sent)
            await until(lambda: one.assigned == PARTITIONS)
            more = await asyncio.to_thread(send, made, 50)
            await until(lambda: {*first.kept, *second.kept} == more)

    asyncio.run(run())

    assert first.kept
    assert second.kept
    assert asyncio.run(committed(made)) == both(at=350)


def test_a_sink_that_knows_its_place_reads_on_there_whatever_kafka_says(made: Deployment) -> None:
    send(made, 30)
    topic = made.topic(Name.DECISIONS)
    shelf = Shelf({TopicPartition(topic, 0): 12, TopicPartition(topic, 1): 31})

    async def run() -> None:
        async with running(made, shelf):
            await until(lambda: len({*shelf.kept}) >= 18 + 30)

    asyncio.run(run())

    assert sorted({*shelf.kept}) == [*((0, n) for n in range(12, 30)), *((1, n) for n in range(30))], (
        "beyond the end, the topic was made anew"
    )


def test_an_error_of_the_sink_ends_the_reader_and_leaves_the_batch(made: Deployment) -> None:
    sent, shelf = send(made, 10), Shelf()
    shelf.error = ValueError("a bug")

    async def run() -> None:
        async with running(made, shelf):
            await until(lambda: shelf.asked > 0)

    with pytest.raises(ValueError, match="a bug"):
        asyncio.run(run())
    shelf.error = None

    async def again() -> None:
        async with running(made, shelf):
            await until(lambda: {*shelf.kept} == sent)

    asyncio.run(again())
    assert set(shelf.kept) == sent


def test_an_absent_sink_does_not_hold_up_the_end(made: Deployment) -> None:
    send(made, 10)
    shelf = Shelf()
    shelf.away = True

    async def run() -> dict[int, int]:
        async with running(made, shelf):
            await until(lambda: shelf.asked > 0)
        return await committed(made)

    assert asyncio.run(run()) == {}
    assert shelf.kept == []


def behind() -> dict[int, float]:
    """Of each partition, for how long the oldest record waits, as exported."""
    (family,) = metrics.SINK_BEHIND.collect()
    return {int(sample.labels["partition"]): sample.value for sample in family.samples if sample.labels["sink"] == "shelf"}


async def write(made: Deployment, partition: int, seconds_ago: float) -> None:
    """A record that was written so long ago."""
    async with AIOKafkaProducer(**made.settings.connection()) as producer:
        await producer.send_and_wait(made.topic(Name.DECISIONS), b"v", partition=partition, timestamp_ms=int((time() - seconds_ago) * 1000))


@pytest.mark.usefixtures("often")
def test_what_comes_after_a_pause_waits_since_it_came(made: Deployment) -> None:
    shelf = Shelf()

    async def run() -> dict[int, float]:
        await write(made, 0, 3600)
        async with running(made, shelf) as reader:
            await until(lambda: shelf.kept == [(0, 0)] and behind() == {0: 0.0, 1: 0.0})
            shelf.away = True
            await write(made, 0, 0)
            await until(lambda: reader.lag == 1)
            return behind()

    found = asyncio.run(run())

    assert 0 <= found[0] < 1800
    assert found[1] == 0


@pytest.mark.usefixtures("often")
def test_what_waits_for_a_sink_that_was_never_there_is_as_old_as_its_first_record(made: Deployment) -> None:
    shelf = Shelf()
    shelf.away = True

    async def run() -> dict[int, float]:
        await write(made, 0, 3600)
        await write(made, 0, 60)
        async with running(made, shelf) as reader:
            await until(lambda: reader.lag == 2)
            return behind()

    found = asyncio.run(run())

    assert 3600 <= found[0] < 7200
    assert found[1] == 0


@pytest.mark.usefixtures("often")
def test_markers_of_transactions_with_which_a_log_ends_wait_for_nobody(made: Deployment) -> None:
    shelf = Shelf()

    async def run() -> dict[int, float]:
        async with AIOKafkaProducer(**made.settings.connection(), transactional_id="t") as producer, producer.transaction():
            await producer.send(made.topic(Name.DECISIONS), b"v", partition=0)
        async with running(made, shelf) as reader:
            await until(lambda: shelf.kept == [(0, 0)] and reader.lag == 0)
            shelf.away = True
            await write(made, 0, 0)
            await until(lambda: reader.lag != 0)
            shelf.away = False
            await until(lambda: reader.lag == 0)
            return behind()

    assert asyncio.run(run()) == {0: 0.0, 1: 0.0}
    assert made.logs.ends(made.topic(Name.DECISIONS))[0] == 3
