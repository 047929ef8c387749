"""Topics on a broker: make what is missing, and say what does not fit."""

import asyncio
from time import monotonic
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code
from msgspec import Struct

from aegis_app.access import connect
from aegis_app.settings import Settings
from aegis_app.topics import TOPICS, Name, changelog, full_name

TABLES: Final = ("cards", "merchants", "devices")
MADE_SECONDS: Final = 10.0
"""Longest wait until those that we made are seen."""
VISIBLE_SECONDS: Final = 1.0
"""A topic that was only just made may take so long to be seen by every broker."""


class MissingTopicError(RuntimeError):
    """There is no such topic; the message says how to make it."""


def wanted(settings: Settings, partitions: int | None = None) -> list[NewTopic]:
    """Every topic that a deployment needs, the changelogs of its tables included; `AEGIS_PARTITIONS` of each if not said."""
    partitions = settings.partitions if partitions is None else partitions
    topics = [
        NewTopic(
            full_name(topic.name, settings),
            topic.partitions or partitions,
            settings.replication,
            topic_configs=topic.config(settings.replication),
        )
        for topic in TOPICS
    ]
    changelogs = [
        NewTopic(
            changelog(table, settings),
            partitions,
            settings.replication,
            topic_configs={
                "cleanup.policy": "compact",
                # Time to put a newer value back on top of a revived writer's, before compaction takes it away.
                "min.compaction.lag.ms": str(24 * 3_600_000),
                "min.insync.replicas": str(min(2, settings.replication)),
            },
        )
        for table in TABLES
    ]
    return topics + changelogs


class Prepared(Struct, frozen=True):
    """The topics as a worker finds them when it starts."""

    made: list[str]
    """Names of those that were missing."""
    problems: list[str]
    partitions: int
    """Of `transactions`."""


async def prepare(settings: Settings) -> Prepared:
    """Make what is missing and check the whole. Raises `AccessError` and what aiokafka raises, as all here do."""
    async with connect(settings) as client:
        made = await _create(client, settings)
        there = await _described(client, settings)
        return Prepared(made, await _problems(client, settings, there), _partitions(there, settings))


async def create(settings: Settings) -> list[str]:
    """Make the topics that are missing, with as many partitions as `transactions` has; returns their names."""
    async with connect(settings) as client:
        return await _create(client, settings)


async def check(settings: Settings) -> list[str]:
    """What does not fit, a sentence each; empty where all is well."""
    async with connect(settings) as client:
        return await _problems(client, settings, await _described(client, settings))


async def _create(client: AIOKafkaAdminClient, settings: Settings) -> list[str]:
    there = await _described(client, settings)
    missing = [topic for topic in wanted(settings, _partitions(there, settings)) if topic.name not in there]
    if not missing:
        return []
    answer = await client.create_topics(missing)
    for name, code, *message in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(f"{name}: {' '.join(filter(None, message))}")
    made = [topic.name for topic in missing]
    deadline = monotonic() + MADE_SECONDS
    while True:
        if (await _described(client, settings)).keys() >= {*made} or monotonic() > deadline:
            return made
        await asyncio.sleep(0.05)


async def _described(client: AIOKafkaAdminClient, settings: Settings) -> dict[str, list[Any]]:
    """Those of our topics that exist, with their partitions."""
    names = [topic.name for topic in wanted(settings)]
    topics = await client.describe_topics(names)
    return {topic["topic"]: topic["partitions"] for topic in topics if not topic["error_code"]}


def _partitions(there: dict[str, list[Any]], settings: Settings) -> int:
    return len(there.get(full_name(Name.TRANSACTIONS, settings), ())) or settings.partitions


async def partition_count(settings: Settings, topic: str) -> int:
    """Partitions of `topic`, its full name. Raises `MissingTopicError`."""
    deadline = monotonic() + VISIBLE_SECONDS
    async with connect(settings) as client:
        while True:
            (described,) = await client.describe_topics([topic])
            if described["partitions"]:
                return len(described["partitions"])
            if monotonic() > deadline:
                raise MissingTopicError(f"there is no topic {topic} on {settings.broker}; make it with `aegis topics create`")
            await asyncio.sleep(0.05)


async def _problems(client: AIOKafkaAdminClient, settings: Settings, there: dict[str, list[Any]]) -> list[str]:
    configured = await _configs(client, list(there))
    count = _partitions(there, settings)
    problems = []
    for topic in wanted(settings, count):
        found = there.get(topic.name)
        if found is None:
            problems.append(f"{topic.name} is missing; `aegis topics create` makes it")
            continue
        if len(found) != topic.num_partitions:
            must = f"{Name.TRANSACTIONS} has {count}: they must be equal" if topic.num_partitions == count else "it must have 1"
            problems.append(f"{topic.name} has {len(found)} partitions, {must}")
        replicas = min(len(partition["replicas"]) for partition in found)
        if replicas < settings.replication:
            problems.append(f"{topic.name} has {replicas} copies, AEGIS_REPLICATION asks for {settings.replication}")
        for name, value in topic.topic_configs.items():
            actual = configured[topic.name].get(name)
            if not _fits(name, value, actual):
                problems.append(f"{topic.name}: {name} is {actual}, should be {value}")
    return problems


async def retentions(settings: Settings) -> dict[str, int | None]:
    """For how long each log that tells of cards keeps its records, in milliseconds; -1 for ever, `None` where it is compacted."""
    of_cards = {full_name(topic.name, settings) for topic in TOPICS if not topic.compacted} | {changelog("cards", settings)}
    kept: dict[str, int | None] = {}
    async with connect(settings) as client:
        configured = await _configs(client, list(await _described(client, settings)))
    for name, config in configured.items():
        if name in of_cards:
            kept[name] = None if "compact" in str(config.get("cleanup.policy")) else int(config["retention.ms"])
    return kept


def _fits(name: str, value: str, actual: str | None) -> bool:
    if actual is None:
        return False
    if name == "cleanup.policy":
        return value in actual.split(",")
    number = int(actual)
    return number < 0 or number >= int(value)


async def _configs(client: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    configs: dict[str, dict[str, str]] = {}
    for answer in answers:
        for _code, _message, _type, name, entries in answer.resources:
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs
