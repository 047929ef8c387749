"""`aegis dead-letters`."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from aegis_app.cli import options

if TYPE_CHECKING:
    from aegis_app.dead_letters import Filed

_SHOWN = 20


def _reason(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from aegis_app.core.intake import Reason

    if value is not None and value not in set(Reason):
        raise click.BadParameter(f"{value!r} is none; reasons are {', '.join(Reason)}")
    return value


reason_option = click.option("--reason", callback=_reason, help="Only letters of this reason, for instance partition.")


@click.group(name="dead-letters")
def dead_letters() -> None:
    """Records that could not be taken.

    Example: aegis dead-letters list
    """


@dead_letters.command(name="list")
@reason_option
@click.option("--all", "everything", is_flag=True, help="Also letters that were sent back, and those that were filed twice.")
@options.broker
@options.as_json
def list_(reason: str | None, everything: bool, broker: str | None, as_json: bool) -> None:
    """Print a line for each letter that was not sent back. It has its id, when it was filed, where its record lies, why, and how often it
    was tried.

    Example: aegis dead-letters list --reason partition
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.dead_letters import open_, read

    letters = asyncio.run(read(settings, reason))
    shown = letters if everything else open_(letters)
    for letter in shown:
        if as_json:
            options.print_json(_described(letter))
        else:
            state = "".join(f" ({word})" for word, is_so in _states(letter) if is_so)
            click.echo(
                f"{letter.id}  {_time(letter.at)}  {letter.origin}  {letter.reason}  attempt {letter.attempts}  {letter.error}{state}"
            )
    if not shown and not as_json:
        click.echo("no dead letters" + (f" are open; {len(letters):,} were sent back (--all)" if letters else ""))


@dead_letters.command()
@click.argument("letter", metavar="ID")
@click.option("--raw", is_flag=True, help="Only the record's value, byte for byte.")
@options.broker
@options.as_json
def show(letter: str, raw: bool, broker: str | None, as_json: bool) -> None:
    """Print one letter with the record in it.

    Example: aegis dead-letters show 3:17
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.dead_letters import Id
    from aegis_app.dead_letters import show as fetch

    envelope, key, value = asyncio.run(fetch(settings, Id.parse(letter)))
    described = _described(envelope) | {"key": _text(key), "value": _text(value)}
    if raw:
        click.get_binary_stream("stdout").write(value or b"")
    elif as_json:
        options.print_json(described)
    else:
        click.echo("\n".join(f"{name}: {text}" for name, text in described.items()))


@dead_letters.command()
@click.argument("letters", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every letter that can be sent back and was not yet.")
@click.option("--rekey", is_flag=True, help="Records with another key than their card_id, or none, get that as key; else they stay.")
@reason_option
@options.broker
@options.as_json
def redrive(letters: tuple[str, ...], everything: bool, rekey: bool, reason: str | None, broker: str | None, as_json: bool) -> None:
    """Send records back to their topics, to be tried again. Each goes into its card's own partition.

    A payment that was decided since is answered as before. What cannot be sent back is told with the reason: what was redacted or cut,
    events of merchants, and what would only come back: records that still cannot be read, by the settings here, and without --rekey
    those with a wrong key.

    Example: aegis dead-letters redrive --all --reason partition
    """
    if bool(letters) is everything:
        raise click.UsageError("name letters, or give --all")
    settings = options.settings_with(broker=broker)
    from aegis_app import dead_letters

    ids = [dead_letters.Id.parse(letter) for letter in letters]
    filed = asyncio.run(dead_letters.read(settings, reason))
    asked = dead_letters.open_(filed) if everything else dead_letters.chosen(filed, ids, rekey=rekey)
    kept = {letter.id: obstacle for letter in asked if (obstacle := letter.obstacle(rekey=rekey)) is not None}
    wanted = [letter for letter in asked if letter.id not in kept]
    with options.counting("redriving", len(wanted)) as sent:
        done = asyncio.run(dead_letters.redrive(settings, wanted, sent)) if wanted else 0
    if as_json:
        options.print_json({"redriven": done, "kept": {str(letter): obstacle for letter, obstacle in kept.items()}})
        return
    click.echo(f"redrove {options.number_of(done, 'letter')}" + (f"; {len(kept):,} cannot be" if kept else ""))
    for obstacle in [*kept.values()][:_SHOWN]:
        click.echo(f"  {obstacle}")
    if len(kept) > _SHOWN:
        click.echo(f"  and {len(kept) - _SHOWN:,} more, which --json names")


def _states(letter: "Filed") -> list[tuple[str, bool]]:
    return [("redacted", letter.redacted), ("cut", letter.cut is not None), ("redriven", letter.redriven)]


def _described(letter: "Filed") -> dict[str, Any]:
    return {
        "id": str(letter.id),
        "at": _time(letter.at),
        "origin": str(letter.origin),
        "reason": letter.reason,
        "attempts": letter.attempts,
        "error": letter.error,
        **{word: is_so for word, is_so in _states(letter)},
    }


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="backslashreplace")
