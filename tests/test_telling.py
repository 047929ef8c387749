"""What the stream layer promises to owners of other tables, without Kafka: order, and whose changes are whose."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from aegis_app.stream.background import Background
from aegis_app.stream.memory import Codec
from aegis_app.stream.outbox import Outgoing
from aegis_app.stream.owner import IN_HAND, Holdings, Owner, Owners, Work
from aegis_app.topics import home
from tests.make import record
from tests.numbers import numbers

PARTITIONS = 4


class Recorder:
    """Stands for Kafka: notes what was published, in order, under the name of whoever did."""

    def __init__(self, name: str, log: list[tuple[str, str, int, list[bytes | None]]]) -> None:
        self._name = name
        self._log = log

    async def publish(self, topic: str, partition: int, records: list[Outgoing]) -> list[tuple[int, int]]:
        self._log.append((self._name, topic, partition, [record.key for record in records]))
        return []


@pytest.fixture
def log() -> list[tuple[str, str, int, list[bytes | None]]]:
    return []


def owner(log: list[Any], summaries: str | None = None) -> Owner[int]:
    """Of partition 0 of a table of numbers, whose database is not looked at. Nothing is to be said of numbers below 0."""
    settings = SimpleNamespace(dead_letter_share=1, dead_letter_window=1)
    app: Any = SimpleNamespace(
        settings=settings,
        background=Background(),
        partitions=PARTITIONS,
        events=Recorder("events", log),
        changes=Recorder("changes", log),
    )
    codec = Codec[int](
        encode=lambda value: b"%d" % value,
        decode=int,
        seen=lambda raw: {0: int(raw)},
        clock=lambda value: 0,
        expired=lambda raw, now: False,
        summary=None if summaries is None else lambda value: None if value < 0 else b"about %d" % value,
    )
    database = SimpleNamespace(write=lambda write: log.append(("database", "", 0, [])))
    data = SimpleNamespace(offset_key=b"\0offset", partition=lambda partition: database)
    changelog = SimpleNamespace(get_topic_name=lambda: "changelog")
    stored = [(b"k%d" % value, b"%d" % value) for value in range(5)]
    memory: Any = SimpleNamespace(
        name="numbers",
        codec=codec,
        changelog_topic=changelog,
        data=data,
        scan=lambda partition, after: iter([item for item in stored if item[0] > after]),
    )
    return Owner(Owners(app, memory, ["source"], summaries=summaries), 0)


def chunk(owner: Owner[int], offset: int) -> Work[int]:
    record: Any = SimpleNamespace(topic="source", offset=offset, timestamp=0)
    return Work(owner, [record])


def test_others_are_told_once_the_decisions_stand_and_before_memory_says_so(log: list[Any]) -> None:
    async def go() -> None:
        one = owner(log)
        work = chunk(one, 7)
        decided: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        work.learn("card", 1)
        for name in (b"m-1", b"m-2", b"m-3"):
            work.tell("events", name, b"value")
        settling = asyncio.create_task(one._settle([work], [("decisions", (decided, 1))]))
        await asyncio.sleep(0.01)
        assert log == []
        decided.set_result(SimpleNamespace(offset=0))
        await settling

    asyncio.run(go())

    names = [name for name, *_ in log]
    assert names == sorted(names, key=["events", "changes", "database"].index)
    told = {(partition, key) for name, _, partition, keys in log if name == "events" for key in keys}
    assert told == {(home(name, PARTITIONS), name) for name in (b"m-1", b"m-2", b"m-3")}


def test_a_value_that_changed_often_is_summed_up_once_and_one_that_went_is_taken_back(log: list[Any]) -> None:
    async def go() -> None:
        one = owner(log, summaries="risk")
        works = [chunk(one, offset) for offset in range(3)]
        for value, work in enumerate(works):
            work.learn("kept", value)
            work.learn("gone", value)
        works[-1].learn("gone", None)
        await one._settle(works, [])

    asyncio.run(go())

    assert log[0] == ("events", "risk", 0, [b"kept", b"k0", b"gone"])
    assert [name for name, *_ in log] == ["events", "changes", "changes", "database"]


def test_that_there_is_nothing_to_say_of_a_value_is_said_once(log: list[Any]) -> None:
    async def go() -> None:
        one = owner(log, summaries="risk")
        for offset, value in enumerate([-1, -2, 3, -4, -5]):
            work = chunk(one, offset)
            work.learn("card", value)
            await one._settle([work], [])

    asyncio.run(go())

    told = [keys.count(b"card") for _, topic, _, keys in log if topic == "risk"]
    assert told == [1, 0, 1, 1, 0]


def test_summaries_of_everything_are_told_once_after_a_partition_was_taken_over(log: list[Any]) -> None:
    async def go() -> None:
        one = owner(log, summaries="risk")
        for offset in range(9):
            work = chunk(one, offset)
            work.learn("k3" if offset == 0 else "other", offset)
            await one._settle([work], [])

    asyncio.run(go())

    told = [key for _, topic, _, keys in log if topic == "risk" for key in keys]
    assert [key for key in told if key != b"other"] == [b"k3", b"k0", b"k1", b"k2", b"k3", b"k4"]


def test_no_more_is_taken_while_too_much_is_in_hand(log: list[Any]) -> None:
    async def go() -> None:
        one = owner(log)
        work = Work(one, chunk(one, 7).records * (IN_HAND + 1))
        putting = asyncio.create_task(one.put(work))
        await asyncio.sleep(0.01)
        assert not putting.done()
        await one._settle([work], [])
        await putting

    asyncio.run(go())


def test_what_was_fetched_and_arrived_nowhere_is_read_again_when_it_is_missed_twice(log: list[Any]) -> None:
    sought: list[dict[TP, int]] = []

    async def seek_wait(places: dict[TP, int]) -> None:
        sought.append(places)

    async def go() -> None:
        one, two, none, elsewhere = (TP("source", partition) for partition in range(4))
        held = owner(log)
        fetched = {one: 20, two: 7, none: 0, elsewhere: 9}
        held.app.consumer = SimpleNamespace(
            assignment=lambda: set(fetched),
            sought={one, two, none},  # of the fourth it is not known yet where to begin
            committed={one: 3, two: 3, none: None, elsewhere: None}.get,
            fetched=fetched.__getitem__,
            is_queued=lambda _: False,
            seek_wait=seek_wait,
        )
        held.app.log = SimpleNamespace(warning=lambda *_: None)  # type: ignore[assignment]  # stands for Faust's
        holdings = Holdings(held.app)
        holdings.tables.append(held.owners)
        held.owners.closed = False
        held.owners._owners[0] = held
        held._expected["source"], held._in_hand = 10, 1
        await holdings.retrieve()
        held._in_hand = 0
        await holdings.retrieve()
        assert sought == [{two: 3}]
        await holdings.retrieve()
        assert sought[1:] == [{one: 10}, {two: 3}] or sought[1:] == [{two: 3}, {one: 10}]
        fetched[one], fetched[two] = 10, 3
        await holdings.retrieve()
        await holdings.retrieve()
        assert len(sought) == 3

    asyncio.run(go())


def test_changes_of_another_table_are_dropped(tmp_path: Path) -> None:
    memory = numbers(tmp_path)

    def event(topic: str, value: bytes) -> Any:
        return SimpleNamespace(message=SimpleNamespace(topic=topic, partition=0, value=[record(5, b"k", value)]))

    ours = memory.changelog_topic.get_topic_name()
    memory.data.apply_changelog_batch([event(ours, b"1"), event("another's", b"2")], bytes, bytes)

    assert memory.read(0, "k") == 1
    memory.data.close(0)
