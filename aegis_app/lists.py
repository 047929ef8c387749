"""The `lists` topic: read by workers, written by commands."""

import codecs
import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import IO, Any, Final

import msgspec
from aiokafka.structs import ConsumerRecord

from aegis_app.broadcast import UnreadableError, read_once, readable
from aegis_app.core.intake import hide_text
from aegis_app.core.lists import Change, Entry, Key, ListError, Lists, decode_entry, encode_entry
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name

BATCH: Final = 1000
"""Entries sent between two words about how far it is."""


class Listed:
    """The lists in force, for a worker. `token`: card_ids may look like card numbers."""

    def __init__(self, *, token: bool) -> None:
        self.lists = Lists()
        self._read = partial(_read, token=token)

    def apply(self, records: list[ConsumerRecord]) -> None:
        self.lists = self.lists.changed(readable(Name.LISTS, records, self._read), str(records[-1].offset + 1))


def _read(record: ConsumerRecord, *, token: bool) -> Change:
    if record.value is None:
        return _key(record), None
    try:
        entry = decode_entry(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UnreadableError("it is no entry of a list") from None
    key = entry.key
    if str(key).encode() != record.key:
        raise UnreadableError("its key is not that of its entry, list:of:value")
    try:
        entry.check(token=token)
    except ListError as error:
        raise UnreadableError(str(error)) from None
    return key, entry


def _key(record: ConsumerRecord) -> Key:
    try:
        return Key.parse(record.key.decode())
    except ValueError:
        raise UnreadableError("its key is not list:of:value") from None


async def read(settings: Settings) -> dict[Key, Entry]:
    """The latest about every entry there ever was, the removed ones included. Raises `KafkaError`."""
    entries: dict[Key, Entry] = {}
    records = await read_once(settings, Name.LISTS)
    for key, entry in readable(Name.LISTS, records, partial(_read, token=settings.card_id_is_token)):
        if entry is None:
            entries.pop(key, None)
        else:
            entries[key] = entry
    return entries


async def publish(settings: Settings, entries: Iterable[Entry], sent: Callable[[int], object] = lambda number: None) -> None:
    """Put `entries` on the topic, in their order; those that are `removed` take others out. `sent` hears of each batch."""
    rest = iter(entries)
    async with Outbox(settings.connection()) as outbox:
        while batch := [Outgoing(str(entry.key).encode(), encode_entry(entry)) for entry in islice(rest, BATCH)]:
            await outbox.publish(full_name(Name.LISTS, settings), 0, batch)
            sent(len(batch))


def make_entry(fields: Mapping[str, Any], *, by: str, at: datetime, token: bool) -> Entry:
    """An entry from the fields of a line or of a command; `by` and `at` where they do not say. Raises `ListError`."""
    if unknown := sorted(fields.keys() - set(Entry.__struct_fields__)):
        name = hide_text(repr(unknown[0]))
        raise ListError(f"{name} is no field of an entry; fields are {', '.join(Entry.__struct_fields__)}")
    until = fields.get("until")
    try:
        given = {**fields, "until": parse_until(until) if isinstance(until, str) else until}
        entry = msgspec.convert({"by": by, "at": at} | given, Entry, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise ListError(hide_text(str(error))) from None
    if entry.until is not None and entry.until <= entry.at:
        raise ListError("until lies before the entry itself was made")
    entry.check(token=token)
    return entry


def parse_until(text: str) -> datetime:
    """A time (RFC 3339 with offset), or a date, whose whole day in UTC still counts. Raises `ValueError`."""
    at = datetime.fromisoformat(text)
    if len(text) <= len("2026-12-31"):
        return at.replace(tzinfo=UTC) + timedelta(days=1)
    if at.tzinfo is None:
        raise ValueError(f"until {text!r} has no offset from UTC: end it with Z, or with one like +01:00")
    return at


def read_file(file: IO[bytes], make: Callable[[dict[str, Any]], Entry], *, is_csv: bool) -> Iterator[tuple[int, Entry | ListError]]:
    """The entries of JSON lines, or of CSV with a header, and the numbers of their lines; or what is wrong with a line."""
    if is_csv:
        numbered: Iterator[tuple[int, Any]] = _rows(file)
        fields: Callable[[Any], dict[str, Any]] = _filled
    else:
        numbered = ((number, line) for number, line in enumerate(file, 1) if not line.isspace())
        fields = msgspec.json.Decoder(dict[str, Any]).decode
    for number, row in numbered:
        try:
            yield number, make(fields(row))
        except ListError as error:
            yield number, error
        except (msgspec.DecodeError, UnicodeDecodeError):
            yield number, ListError("it is no JSON object")


def _rows(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(codecs.iterdecode(file, "utf-8-sig"), restkey="", strict=True)
    try:
        for row in rows:
            yield rows.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise ListError(f"after line {rows.line_num}: no CSV in UTF-8: {error}") from None


def _filled(row: dict[str, Any]) -> dict[str, str]:
    if "" in row:
        raise ListError("it has more cells than the header")
    return {name: cell for name, cell in row.items() if cell}
