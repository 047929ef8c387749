"""What merchants learn, and devices, which go the same way: the events of all cards that used them, whichever partition those are in."""

from typing import Any

from aegis_app.application import app, of_devices, of_merchants
from aegis_app.core.intake import Reason, Refused
from aegis_app.core.merchant import Merchant, fold
from aegis_app.core.merchant_events import Events, EventsError, decode_events
from aegis_app.stream.letters import Letter, dead_letter
from aegis_app.stream.memory import PRIVATE
from aegis_app.stream.owner import Owners, Work
from agents.refusing import bury, check_partition
from tables.devices import owners as devices_owners
from tables.merchants import owners as merchants_owners


@app.agent(of_merchants)
async def merchants(stream: Any) -> None:
    """Learn what was paid at each merchant, and what came of it; risk goes out to every worker."""
    await learn(merchants_owners, stream)


@app.agent(of_devices)
async def devices(stream: Any) -> None:
    """The same of each device."""
    await learn(devices_owners, stream)


async def learn(owners: Owners[Merchant], stream: Any) -> None:
    async for work in owners.chunks(stream):
        await fold_events(work)


async def fold_events(work: Work[Merchant]) -> None:
    """Learn a chunk of records; events learnt before are skipped, by the partition here and by each memory for itself."""
    letters: list[Letter] = []
    async with app.background as background:
        for record in work.records:
            await background.rest()
            if record.offset <= work.passed:
                continue
            try:
                name, events = read_events(record)
                before = work.recall(name)
                if before is None:
                    check_partition(record)
            except Refused as refused:
                letters.append(dead_letter(record, refused))
                continue
            work.learn(name, fold(before, events))
    bury(work, letters)


def read_events(record: Any) -> tuple[str, Events]:
    """Whose events a record holds, and which. Raises `Refused`."""
    if not record.value:
        raise Refused(Reason.EMPTY, "the record has no value")
    try:
        name, events = (record.key or b"").decode(), decode_events(record.value)
    except UnicodeDecodeError:
        raise Refused(Reason.KEY, "the record's key is no text") from None
    except EventsError as error:
        raise Refused(Reason.MALFORMED, str(error)) from None
    if not name or record.key.startswith(PRIVATE):
        raise Refused(Reason.KEY, "the record has no key, or one that begins with a zero byte")
    if events.partition >= app.partitions:
        raise Refused(Reason.INVALID, f"there is no partition {events.partition} of source {events.source}")
    return name, events
