"""`aegis lists`."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_app.cli import options
from aegis_app.cli.bad_lines import BadLines
from aegis_app.cli.errors import Failure

if TYPE_CHECKING:
    from aegis_app.core.lists import Entry
    from aegis_app.settings import Settings

LISTS = ("deny", "watch", "allow")
KINDS = ("card", "merchant", "device", "country", "payee")

list_name = click.argument("list_name", metavar="LIST", type=click.Choice(LISTS))
kind = click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
value = click.argument("value")


@click.group()
def lists() -> None:
    """Deny, watch and allow lists. Of cards, merchants, devices, countries and payees; every worker obeys a change within 2 seconds.

    LIST is deny, watch or allow; KIND is card, merchant, device, country or payee.

    Example: aegis lists show deny
    """


@lists.command()
@list_name
@kind
@value
@click.option("--reason", required=True, help="Why, in a sentence that decisions can repeat.")
@click.option("--until", help="Last day that counts (UTC), or a time with offset; for good where not given.")
@options.by
@options.broker
@options.as_json
def add(list_name: str, kind: str, value: str, reason: str, until: str | None, by: str, broker: str | None, as_json: bool) -> None:
    """Put VALUE on a list. What the list said about it before is replaced.

    Example: aegis lists add deny card tok_83f1 --reason "reported stolen" --until 2026-12-31
    """
    settings = options.settings_with(broker=broker)
    entry = _maker(settings, by)({"list": list_name, "of": kind, "value": value, "reason": reason, "until": until})
    _publish(settings, [entry])
    _say(entry, as_json)


@lists.command()
@list_name
@kind
@value
@click.option("--reason", help="Why; what it was listed for where not given.")
@options.by
@options.broker
@options.as_json
def remove(list_name: str, kind: str, value: str, reason: str | None, by: str, broker: str | None, as_json: bool) -> None:
    """Take VALUE off a list. Who did it and when stays on record: see `aegis lists show --removed`.

    Example: aegis lists remove deny card tok_83f1 --reason "found again"
    """
    settings = options.settings_with(broker=broker)
    import msgspec

    from aegis_app.core.lists import Key, ListError, ListName, Of
    from aegis_app.lists import read

    listed = asyncio.run(read(settings)).get(Key(ListName(list_name), Of(kind), value))
    if listed is None or listed.removed:
        raise ListError(f"this {kind} is not on the {list_name} list; see `aegis lists show {list_name} {kind}`")
    told = _maker(settings, by)({"list": list_name, "of": kind, "value": value, "reason": listed.reason if reason is None else reason})
    entry = msgspec.structs.replace(told, removed=True)
    _publish(settings, [entry])
    _say(entry, as_json)


@lists.command()
@click.argument("list_name", metavar="[LIST]", type=click.Choice(LISTS), required=False)
@click.argument("kind", metavar="[KIND]", type=click.Choice(KINDS), required=False)
@click.option("--removed", is_flag=True, help="What was removed, with who did it and when, instead of what is listed.")
@options.broker
@options.as_json
def show(list_name: str | None, kind: str | None, removed: bool, broker: str | None, as_json: bool) -> None:
    """Print the entries of all lists, or of one, a line each. What expired stays, and says so.

    Example: aegis lists show deny card --json > deny-cards.jsonl
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.lists import read

    entries = sorted(asyncio.run(read(settings)).items())
    chosen = [entry for key, entry in entries if entry.removed is removed and list_name in {None, key.list} and kind in {None, key.of}]
    for entry in chosen:
        _say(entry, as_json)
    if not chosen and not as_json:
        click.echo("nothing is listed" if not removed else "nothing was removed")


@lists.command(name="import")
@options.source
@click.option("--csv", "is_csv", is_flag=True, help="FILE is CSV; known by its suffix .csv otherwise.")
@options.by
@options.broker
@options.as_json
def import_(source: Path, is_csv: bool, by: str, broker: str | None, as_json: bool) -> None:
    """Put many entries on their lists. CSV with a header, or JSON lines like those of `show --json`; - for stdin.

    Fields are list, of (a KIND), value, reason, until and, where they are known, by, at and removed. If any line is wrong, all that are
    wrong are counted, the first ten named, and nothing is imported.

    Example: aegis lists import stolen-cards.csv
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.core.lists import ListError
    from aegis_app.lists import read_file

    entries, wrong = [], BadLines(source)
    with click.open_file(str(source), "rb") as file:
        for number, found in read_file(file, _maker(settings, by), is_csv=is_csv or source.suffix.lower() == ".csv"):
            if isinstance(found, ListError):
                wrong(number, found)
            else:
                entries.append(found)
    if bad := wrong.end():
        raise Failure(f"{options.number_of(bad, 'line')} without an entry; nothing was imported")
    with options.counting("importing", len(entries)) as sent:
        _publish(settings, entries, sent)
    if as_json:
        options.print_json({"imported": len(entries)})
    else:
        click.echo(f"imported {options.number_of(len(entries), 'entry')}")


def _maker(settings: "Settings", by: str) -> Callable[[dict[str, Any]], "Entry"]:
    from functools import partial

    from aegis_app.lists import make_entry

    return partial(make_entry, by=by, at=datetime.now(UTC), token=settings.card_id_is_token)


def _publish(settings: "Settings", entries: Iterable["Entry"], sent: Callable[[int], object] = lambda number: None) -> None:
    from aegis_app.lists import publish

    asyncio.run(publish(settings, entries, sent))


def _say(entry: "Entry", as_json: bool) -> None:
    if as_json:
        options.print_json(entry)
        return
    until = "" if entry.until is None else f"  until {_last(entry.until)}"
    expired = " (expired)" if entry.until is not None and entry.until <= datetime.now(UTC) else ""
    removed = "removed by" if entry.removed else "by"
    click.echo(f"{entry.list} {entry.of} {entry.value}{until}{expired}  {entry.reason}  ({removed} {entry.by}, {options.moment(entry.at)})")


def _last(until: datetime) -> str:
    """Up to when an entry counts, as `--until` takes it: the last day, where that ends it."""
    until = until.astimezone(UTC)
    return options.moment(until) if until.time() > time.min else f"{until - timedelta(days=1):%Y-%m-%d}"
