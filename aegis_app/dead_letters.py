"""The dead-letters topic, read and sent back: without a consumer group, so that everybody sees every letter.

A letter stays where it is. When it is redriven, a note with its id follows it on the topic; from then on it is not open any more.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from time import time
from typing import Any, Final, NamedTuple, Self

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition
from msgspec import Struct

from aegis_app.admin import partition_count
from aegis_app.core.intake import Reason, Refused, card_of, read_history, read_label, read_payment
from aegis_app.core.payment import Millis
from aegis_app.settings import Settings
from aegis_app.stream.letters import ATTEMPTS, CUT, REDACTED
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import EVENTS, REDRIVEN, SOURCES, Name, full_name, home

_READERS: Final[dict[Name, Callable[..., Any]]] = {
    Name.TRANSACTIONS: read_payment,
    Name.LABELS: read_label,
    Name.HISTORY: read_history,
}


class LetterError(ValueError):
    """There is no such letter, or it cannot be sent back; the message says what to do instead."""


class Id(NamedTuple):
    """Where a letter lies on the dead-letters topic; written `3:17`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `LetterError`."""
        partition, _, offset = text.partition(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            raise LetterError(f"{text!r} is not a letter's id: partition and offset, as `aegis dead-letters list` prints them")
        return cls(int(partition), int(offset))


class Origin(NamedTuple):
    """The record that became a letter."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


class Filed(Struct, frozen=True, kw_only=True):
    """A letter's envelope, all but the record itself."""

    id: Id
    at: Millis
    """When it became a letter."""
    origin: Origin
    reason: str
    error: str
    attempts: int
    redacted: bool
    cut: str | None
    """Size and hash of the whole, where a part is missing."""
    redriven: bool = False
    refused: Refused | None = None
    """Why a worker would not take it now, as far as key and value tell."""

    def obstacle(self, *, rekey: bool = False) -> str | None:
        """Why it cannot be sent back, the way it came or with the key that it should have; `None` where it can."""
        if self.redacted:
            return f"{self.id} held a card number and was redacted: have its producer send the payment again, with a token"
        if self.cut is not None:
            return f"{self.id} was too large and was cut ({self.cut}): have its producer send a smaller one"
        if self.origin.topic.endswith(EVENTS):
            return f"{self.id} came from {self.origin.topic}, where later events went on: it would be passed over as known"
        if self.has_wrong_key:
            return None if rekey else f"{self.id} has another key than its card_id, and would come back: redrive it with --rekey"
        if self.refused is not None:
            return (
                f"{self.id} still cannot be read, and would come back ({self.refused.reason}: {self.refused}): have its producer send it "
                "again as it should be, or upgrade Aegis"
            )
        return None

    @property
    def has_wrong_key(self) -> bool:
        return self.refused is not None and self.refused.reason is Reason.KEY


class Letter(NamedTuple):
    """An envelope and the record in it."""

    envelope: Filed
    key: bytes | None
    value: bytes | None


async def read(settings: Settings, reason: str | None = None) -> list[Filed]:
    """Every letter on the topic, as they lie in it; of one `reason` if that is given."""
    filed: dict[Id, Filed] = {}
    redriven = set()
    async for record in _records(settings):
        note = dict(record.headers).get(REDRIVEN)
        if note is not None:
            redriven.add(Id.parse(note.decode()))
        elif reason in {None, (envelope := _envelope(record)).reason}:
            filed[envelope.id] = msgspec.structs.replace(envelope, refused=_refused(settings, envelope, record))
    for letter in redriven & filed.keys():
        filed[letter] = msgspec.structs.replace(filed[letter], redriven=True)
    return list(filed.values())


async def show(settings: Settings, letter: Id) -> Letter:
    """One letter. Raises `LetterError`."""
    async with aclosing(_records(settings, letter)) as records:
        record = await anext(records, None)
    if record is not None and record.offset == letter.offset and REDRIVEN not in dict(record.headers):
        return Letter(_envelope(record), record.key, record.value)
    raise LetterError(f"there is no letter {letter}; see `aegis dead-letters list --all`")


def open_(letters: Sequence[Filed]) -> list[Filed]:
    """Those that were not sent back yet; of one record only the first, because a worker may file it twice."""
    done = {letter.origin for letter in letters if letter.redriven}
    first = {letter.origin: letter for letter in reversed(letters)}
    return [letter for letter in letters if first[letter.origin] is letter and letter.origin not in done]


def chosen(letters: Iterable[Filed], ids: Iterable[Id], *, rekey: bool = False) -> list[Filed]:
    """The letters of these ids. Raises `LetterError` when any is missing, or cannot be sent back."""
    known = {letter.id: letter for letter in letters}
    for letter in ids:
        if letter not in known:
            raise LetterError(f"there is no letter {letter}; see `aegis dead-letters list --all`")
        if (obstacle := known[letter].obstacle(rekey=rekey)) is not None:
            raise LetterError(obstacle)
    return [known[letter] for letter in ids]


async def redrive(settings: Settings, letters: Iterable[Filed], sent: Callable[[int], object] = lambda number: None) -> int:
    """Send the records of `letters` back to their topics, each into its key's own partition, and note that. Returns how many.

    Those with another key than their card_id get that as key.

    At least once: what was sent before a failure may not be noted yet.
    """
    wanted = {letter.id: letter for letter in letters}
    ours, history = {full_name(name, settings) for name in SOURCES}, full_name(Name.HISTORY, settings)
    if strange := sorted({letter.origin.topic for letter in wanted.values()} - ours):
        raise LetterError(f"{', '.join(strange)} is no topic of this deployment: check AEGIS_TOPIC_PREFIX")
    partitions = {topic: await partition_count(settings, topic) for topic in {letter.origin.topic for letter in wanted.values()}}
    async with Outbox(settings.connection()) as outbox:
        async for batch in _batches(settings, wanted):
            records: dict[tuple[str, int], list[Outgoing]] = defaultdict(list)
            notes: dict[int, list[Outgoing]] = defaultdict(list)
            for letter, record in batch:
                topic, old, _ = letter.origin
                key = record.key
                if letter.has_wrong_key:
                    key = card_of(record.value, of_history=topic == history).encode()
                partition = old if key is None else home(key, partitions[topic])
                note = (REDRIVEN, str(letter.id).encode())
                records[topic, partition].append(Outgoing(key, record.value, [note, (ATTEMPTS, b"%d" % letter.attempts)]))
                notes[letter.id.partition].append(Outgoing(None, None, [note]))
            await asyncio.gather(*(outbox.publish(*place, each) for place, each in records.items()))
            topic = full_name(Name.DEAD_LETTERS, settings)
            await asyncio.gather(*(outbox.publish(topic, partition, each) for partition, each in notes.items()))
            sent(len(batch))
    return len(wanted)


async def _batches(settings: Settings, wanted: dict[Id, Filed]) -> AsyncIterator[list[tuple[Filed, ConsumerRecord]]]:
    batch: list[tuple[Filed, ConsumerRecord]] = []
    async for record in _records(settings):
        letter = wanted.get(Id(record.partition, record.offset))
        if letter is not None:
            batch.append((letter, record))
        if len(batch) == 500:
            yield batch
            batch = []
    yield batch


async def _records(settings: Settings, start: Id | None = None) -> AsyncGenerator[ConsumerRecord]:
    """All that is on the topic now, a partition's records in their order; with `start`, from there on in its partition."""
    topic = full_name(Name.DEAD_LETTERS, settings)
    count = await partition_count(settings, topic)
    partitions = [TopicPartition(topic, partition) for partition in range(count) if start is None or partition == start.partition]
    if not partitions:
        return
    consumer = AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False, isolation_level="read_committed")
    try:
        await consumer.start()
        consumer.assign(partitions)
        ends, begins = await consumer.end_offsets(partitions), await consumer.beginning_offsets(partitions)
        for tp in partitions:
            consumer.seek(tp, begins[tp] if start is None else max(begins[tp], start.offset))
        for tp in partitions:
            while await consumer.position(tp) < ends[tp]:
                for records in (await consumer.getmany(tp, timeout_ms=1000)).values():
                    for record in records:
                        yield record
    finally:
        await consumer.stop()


def _refused(settings: Settings, letter: Filed, record: ConsumerRecord) -> Refused | None:
    """Try to read the record of a letter as a worker would, were it sent back now."""
    read_record = next((_READERS[name] for name in _READERS if full_name(name, settings) == letter.origin.topic), None)
    if read_record is None:
        return None
    try:
        read_record(record.value, record.key, int(time() * 1000), token=settings.card_id_is_token)
    except Refused as refused:
        return refused
    return None


def _envelope(record: ConsumerRecord) -> Filed:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    return Filed(
        id=Id(record.partition, record.offset),
        at=record.timestamp,
        origin=Origin(headers.get("topic", ""), int(headers.get("partition", -1)), int(headers.get("offset", -1))),
        reason=headers.get("reason", ""),
        error=headers.get("error", ""),
        attempts=int(headers.get(ATTEMPTS, 0)),
        redacted=REDACTED in headers,
        cut=headers.get(CUT),
    )
