"""From decisions on a real Kafka to those who are told, over servers that fail and processes that are killed."""

import asyncio
import json
import os
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import stamina
from aiohttp import web
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from prometheus_client import REGISTRY

from aegis_app.access import connect
from aegis_app.core.decision import Reason
from aegis_app.core.payment import Outcome
from aegis_app.kafka.ports import free_port
from aegis_app.sinks.alerts import delivery, process
from aegis_app.sinks.alerts.raising import Raising
from aegis_app.sinks.alerts.routes import parse_routes
from aegis_app.sinks.alerts.snoozes import Snoozes
from aegis_app.sinks.alerts.waiting import Waiting
from aegis_app.sinks.reading import AwayError, Reader
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, home
from tests import receivers
from tests.deployment import PARTITIONS, Deployment
from tests.receivers import Got, Hook, until
from tests.test_alerts_routes import KEY, decision

pytestmark = pytest.mark.kafka
NUMBERS = count()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", KEY)
    monkeypatch.setattr(delivery, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(delivery, "REST_SECONDS", 0.2)
    monkeypatch.setattr(delivery, "LONGEST_REST_SECONDS", 0.4)
    monkeypatch.setattr(delivery, "SHUT_SECONDS", 1.0)


@pytest.fixture
def made(kafka: str, tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(kafka, tmp_path, f"alerts-{uuid.uuid4().hex[:8]}") as deployment:
        yield deployment


def routes(*, group: float = 0, **urls: str) -> str:
    """A routes file by which every destination is told of everything."""
    tables = [
        f'[destinations.{name}]\nkind = "webhook"\nurl = "{url}"\nkey_env = "HOOK_KEY"\ngroup_seconds = {group}\ntimeout_seconds = 30\n'
        for name, url in urls.items()
    ]
    return "".join(tables) + f"[routes.all]\nto = {json.dumps([*urls])}\n"


@asynccontextmanager
async def alerting(made: Deployment, text: str) -> AsyncIterator[None]:
    """The process of `aegis alerts run`, in here, ready."""
    port = free_port()
    task = asyncio.create_task(process.run(made.settings, parse_routes(text, "alerts.toml", "EUR"), port))
    try:
        await healthy(port, task)
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def healthy(port: int, task: "asyncio.Future[Any]") -> None:
    async with httpx.AsyncClient() as client, asyncio.timeout(60):
        while not task.done():
            with suppress(httpx.TransportError):
                if (await client.get(f"http://127.0.0.1:{port}/health")).json()["status"] == "ok":
                    return
            await asyncio.sleep(0.05)
    await task


def decide(made: Deployment, *cards: str, late: float = 1.0, **fields: Any) -> None:
    """A decision about each of `cards`, made now, `late` seconds after its payment; those of a partition in one batch."""
    now = datetime.now(UTC)
    records: dict[int, list[Outgoing]] = {partition: [] for partition in range(PARTITIONS)}
    for card in cards:
        named: dict[str, Any] = {"card_id": card, "transaction_id": f"t{next(NUMBERS)}", "timestamp": now - timedelta(seconds=late)}
        records[home(card.encode(), PARTITIONS)].append(Outgoing(card.encode(), decision(decided=now, **named, **fields)))
    for partition, batch in records.items():
        made.put(Name.DECISIONS, partition, batch)


async def decided(made: Deployment, *cards: str, **fields: Any) -> None:
    await asyncio.to_thread(decide, made, *cards, **fields)


def told(got: Iterable[Got]) -> Counter[str]:
    """How many decisions about each card were told of."""
    found: Counter[str] = Counter()
    for each in got:
        found[each.said["card_id"]] += each.said["count"]
    return found


def waiting(made: Deployment) -> list[str]:
    """Cards of which somebody is still to be told."""
    found = Waiting()
    found.apply(made.records(Name.ALERTS))
    return sorted(group.card_id for group in found.groups)


async def until_all_is_done(made: Deployment) -> None:
    """Every decision is read, and nothing waits to be told."""
    ends = await asyncio.to_thread(made.logs.ends, made.topic(Name.DECISIONS))
    async with asyncio.timeout(60):
        while await committed(made) != {partition: end for partition, end in ends.items() if end}:  # noqa: ASYNC110  # Kafka has no event
            await asyncio.sleep(0.1)
        while await asyncio.to_thread(waiting, made):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def commit(made: Deployment, tp: TopicPartition, offset: int) -> None:
    """As the group of alerts."""
    consumer = AIOKafkaConsumer(**made.settings.connection(), group_id=f"{made.settings.app_id}-alerts", enable_auto_commit=False)
    await consumer.start()
    consumer.assign([tp])
    await consumer.commit({tp: offset})
    await consumer.stop()


async def committed(made: Deployment) -> dict[int, int]:
    async with connect(made.settings) as client:
        offsets = await client.list_consumer_group_offsets(f"{made.settings.app_id}-alerts")
    return {tp.partition: found.offset for tp, found in offsets.items()}


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"aegis_alerts_{name}", labels) or 0.0


CARDS = [f"card-{number}" for number in range(12)]
ONCE = Counter(CARDS)


def test_a_burst_on_a_card_is_one_message_with_its_number_and_what_raises_nothing_is_in_none(made: Deployment) -> None:
    async def run() -> list[Got]:
        async with Hook() as hook:
            await decided(made, "before-the-first-start")
            async with alerting(made, routes(group=1.0, hook=hook.url)):
                await asyncio.to_thread(made.put, Name.DECISIONS, 0, [Outgoing(b"x", b"no decision"), Outgoing(b"x", None)])
                for flag in ("duplicate", "stale", "redriven"):
                    await decided(made, flag, **{flag: True})
                await decided(made, "allowed", verdict=Outcome.ALLOW)
                await decided(made, "replayed", late=301)
                await decided(made, *["card-1"] * 30, "card-2")
                await until(lambda: told(hook.taken).total() >= 31)
                await decided(made, "card-1")
                await until_all_is_done(made)
            return hook.taken

    taken = asyncio.run(run())

    assert sorted((each.said["card_id"], each.said["count"]) for each in taken) == [("card-1", 1), ("card-1", 30), ("card-2", 1)]
    assert len({each.said["id"] for each in taken}) == 3


def test_what_was_decided_before_alerts_began_is_not_even_read(made: Deployment) -> None:
    async def places() -> dict[int, int]:
        async with Outbox(made.settings.connection()) as outbox:
            raising = Raising(made.settings, parse_routes(routes(hook="http://127.0.0.1:1"), "alerts.toml", "EUR"), lambda: held, outbox)
            async for attempt in stamina.retry_context(on=AwayError, attempts=None, timeout=60):
                with attempt:
                    found = await raising.places([TopicPartition(made.topic(Name.DECISIONS), partition) for partition in range(PARTITIONS)])
        return {tp.partition: offset for tp, offset in found.items()}

    decide(made, *CARDS)
    held = Snoozes(token=False)
    asyncio.run(process._begin(made.settings))
    held.apply(made.records(Name.ALERTS_SNOOZED))
    before = {partition: len(records) for partition, records in enumerate(made.by_partition(Name.DECISIONS))}
    assert asyncio.run(places()) == before

    decide(made, *CARDS)
    assert asyncio.run(places()) == before

    asyncio.run(commit(made, TopicPartition(made.topic(Name.DECISIONS), 0), 1))
    assert asyncio.run(places()) == {1: before[1]}


def test_a_destination_that_fails_holds_up_no_other_is_given_a_rest_and_gets_everything_when_it_is_back(made: Deployment) -> None:
    async def run() -> tuple[list[Got], list[Got]]:
        async with Hook() as good, Hook() as bad:
            bad.answer = receivers.status(503)
            async with alerting(made, routes(good=good.url, bad=bad.url)):
                await decided(made, *CARDS)
                await until(lambda: len(good.taken) == len(CARDS))
                await until(lambda: metric("shut", destination="bad") == 1)
                assert not bad.taken
                assert metric("shut", destination="good") == 0
                assert metric("waiting", destination="bad") == len(CARDS)

                bad.answer = receivers.take
                await until_all_is_done(made)
                assert metric("shut", destination="bad") == 0
            return good.taken, bad.taken

    good, bad = asyncio.run(run())

    assert told(good) == told(bad) == ONCE


def test_what_a_destination_never_takes_holds_up_nothing_and_after_its_day_is_listed_and_can_be_redriven(
    made: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = True

    async def picky(request: web.Request) -> web.StreamResponse:
        said = msgspec.json.decode(await request.read())
        return web.Response(status=422 if refuses and said["card_id"] == CARDS[3] else 200)

    def failed() -> list[dict[str, Any]]:
        result = made.aegis("alerts", "failed", "--json")
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    async def run() -> tuple[list[Got], list[dict[str, Any]]]:
        nonlocal refuses
        async with Hook() as hook:
            hook.answer = picky
            async with alerting(made, routes(hook=hook.url)):
                await decided(made, *CARDS)
                await until(lambda: told(hook.taken) == ONCE - Counter([CARDS[3]]) and told(hook.got)[CARDS[3]] > 1)
                monkeypatch.setattr(delivery, "LONGEST", timedelta(0))
                await until_all_is_done(made)
                given_up = await asyncio.to_thread(failed)
                refuses = False
                monkeypatch.setattr(delivery, "LONGEST", timedelta(days=1))
                redriven = await asyncio.to_thread(made.aegis, "alerts", "redrive", given_up[0]["id"])
                assert redriven.stdout == "redrove 1 alert\n", redriven.output
                await until(lambda: len(hook.taken) == len(CARDS))
                await until_all_is_done(made)
            assert await asyncio.to_thread(failed) == []
            return hook.taken, given_up

    taken, given_up = asyncio.run(run())

    assert told(taken) == ONCE
    assert [(each["destination"], each["decision"]["card_id"], each["why"]) for each in given_up] == [
        ("hook", CARDS[3], "it could not be delivered within a day")
    ]


def test_no_more_than_so_many_wait_for_a_destination_and_the_rest_is_listed(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MOST_WAITING", 5)

    async def run() -> None:
        async with alerting(made, routes(nobody="http://127.0.0.1:1/hook")):
            await decided(made, *CARDS)
            await until(lambda: metric("waiting", destination="nobody") == 5)

    asyncio.run(run())

    listed = made.aegis("alerts", "failed").stdout.splitlines()
    assert len(listed) == len(CARDS) - 5
    assert all("more than 5 decisions waited for this destination" in line for line in listed)
    assert len(waiting(made)) == 5


def test_what_is_snoozed_is_not_told_until_it_wakes(made: Deployment) -> None:
    by_rule = {"reasons": [Reason("velocity_1m", "6 payments")]}

    async def say(*arguments: str) -> None:
        result = await asyncio.to_thread(made.aegis, "alerts", *arguments, "--by", "ana")
        assert result.exit_code == 0, result.output

    def snoozed() -> float:
        return metric("not_raised_total", reason="snoozed")

    async def run() -> None:
        async with Hook() as hook, asyncio.timeout(60):
            await say("snooze", "rule", "velocity_1m", "--for", "8h", "--reason", "known")
            async with alerting(made, routes(hook=hook.url)):
                before = snoozed()
                await decided(made, "by-rule", **by_rule)
                await until(lambda: snoozed() == before + 1)

                await say("snooze", "card", "card-1", "--for", "30m", "--reason", "on the phone")
                while snoozed() == before + 1:
                    await decided(made, "card-1")

                await say("wake", "rule", "velocity_1m")
                while "by-rule" not in told(hook.taken):
                    await decided(made, "by-rule", **by_rule)

    asyncio.run(run())

    (line,) = made.aegis("alerts", "snoozed").stdout.splitlines()
    assert line.startswith("card card-1 until ")
    assert line.endswith("  on the phone  (ana)")


def test_a_process_tells_of_the_partitions_that_are_its_own(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "partitions", {1})
    ours = [card for card in CARDS if home(card.encode(), PARTITIONS) == 1]

    async def run() -> list[Got]:
        async with Hook() as hook:
            async with alerting(made, routes(hook=hook.url)):
                await decided(made, *CARDS)
                await until(lambda: len(hook.taken) == len(ours))
            return hook.taken

    assert sorted(told(asyncio.run(run()))) == sorted(ours)
    assert waiting(made) == sorted(set(CARDS) - set(ours))


def test_after_kill_9_everybody_is_told_and_what_is_told_again_has_the_same_id(made: Deployment, tmp_path: Path) -> None:
    some = [f"card-{number}" for number in range(60)]
    file = tmp_path / "alerts.toml"

    async def run() -> tuple[list[Got], list[Got], int]:
        async with Hook() as hook, Hook() as gone:
            file.write_text(routes(hook=hook.url, gone=gone.url))

            async def ten(request: web.Request) -> web.StreamResponse:
                return await (receivers.take if len(hook.taken) < 10 else receivers.hang)(request)

            hook.answer, gone.answer = ten, receivers.hang
            async with started(made, file) as first:
                await decided(made, *some)
                await until(lambda: len(hook.taken) >= 10 and len(hook.got) > len(hook.taken) and gone.got)
                first.kill()
                await first.wait()
            assert len(hook.taken) < len(some)
            hook.answer = gone.answer = receivers.take
            async with started(made, file) as second:
                await until_all_is_done(made)
                second.terminate()
                return hook.got, gone.got, await second.wait()

    hook, gone, status = asyncio.run(run())

    assert status == 0
    for got in (hook, gone):
        assert set(told(got)) == set(some)
        assert len(got) > len(some), "what was on its way was sent again"
        assert len({each.said["id"] for each in got}) == len(some)


@asynccontextmanager
async def started(made: Deployment, file: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """`aegis alerts run` as a process, ready."""
    port = free_port()
    command = [sys.executable, "-m", "aegis_app", "alerts", "run", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | made.environment | {"AEGIS_ALERTS": str(file)})
    try:
        await healthy(port, asyncio.ensure_future(process.wait()))
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
