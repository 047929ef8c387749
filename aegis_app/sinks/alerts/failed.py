"""What nobody could be told of, on `alerts-failed`, and the way back: once redriven it is not listed any more."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Final

import msgspec
from aiokafka.structs import ConsumerRecord
from msgspec import Struct

from aegis_app.admin import partition_count
from aegis_app.broadcast import UnreadableError, read_once, readable
from aegis_app.settings import Settings
from aegis_app.sinks.alerts.message import Raised, encode_raised
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name, home

BATCH: Final = 500


class UntoldError(ValueError):
    """There is no such failed alert; the message says what to do instead."""


class Untold(Struct, frozen=True, kw_only=True):
    """A decision that a destination was not told of, as on `alerts-failed` (key: as on `alerts`)."""

    raised: Raised
    why: str
    at: datetime


def record(key: bytes, raised: Raised, why: str, at: datetime) -> Outgoing:
    return Outgoing(key, msgspec.json.encode(Untold(raised=raised, why=why, at=at)))


async def read(settings: Settings, destination: str | None = None) -> dict[str, Untold]:
    """All that were not redriven, by key; of one destination if that is given. Raises `KafkaError`, `MissingTopicError`."""
    untold: dict[str, Untold] = {}
    for key, found in readable(Name.ALERTS_FAILED, await read_once(settings, Name.ALERTS_FAILED), _read):
        untold.pop(key, None)
        if found is not None and destination in {None, found.raised.destination}:
            untold[key] = found
    return untold


def _read(record: ConsumerRecord) -> tuple[str, Untold | None]:
    try:
        key = (record.key or b"").decode()
        return key, None if record.value is None else msgspec.json.decode(record.value, type=Untold)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UnreadableError("it is no failed alert") from None


def chosen(untold: dict[str, Untold], keys: Iterable[str]) -> dict[str, Untold]:
    """Those of these keys. Raises `UntoldError`."""
    for key in keys:
        if key not in untold:
            raise UntoldError(f"there is no failed alert {key}; see `aegis alerts failed`")
    return {key: untold[key] for key in keys}


async def redrive(settings: Settings, untold: dict[str, Untold], sent: Callable[[int], object] = lambda number: None) -> None:
    """Have another day of attempts at each. At least once: what was put back before a failure may not be noted yet."""
    now, topic = datetime.now(UTC), full_name(Name.ALERTS, settings)
    partitions = await partition_count(settings, topic)
    async with Outbox(settings.connection()) as outbox:
        rest = iter(untold.items())
        while some := list(islice(rest, BATCH)):
            records: dict[int, list[Outgoing]] = defaultdict(list)
            for key, each in some:
                again = msgspec.structs.replace(each.raised, since=now)
                partition = home(each.raised.decision.card_id.encode(), partitions)
                records[partition].append(Outgoing(key.encode(), encode_raised(again)))
            for partition, batch in records.items():
                await outbox.publish(topic, partition, batch)
            await outbox.publish(full_name(Name.ALERTS_FAILED, settings), 0, [Outgoing(key.encode(), None) for key, _ in some])
            sent(len(some))
