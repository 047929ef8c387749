"""`aegis alerts`."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from aegis_app.cli import options
from aegis_app.cli.errors import Failure

if TYPE_CHECKING:
    from aegis_app.sinks.alerts.failed import Untold
    from aegis_app.sinks.alerts.snoozes import Snooze

KINDS = ("card", "rule", "all")
EDGE = "in the checkout, pip install --require-hashes -r requirements/gateway.txt"
"""How to get what delivers."""

of = click.argument("of", metavar="KIND", type=click.Choice(KINDS))
value = click.argument("value", required=False, default="")


@click.group()
def alerts() -> None:
    """Tell people of decisions that are not `allow`. By webhook, e-mail, Slack, SMS and whatever else apprise reaches.

    Example: aegis alerts test
    """


@alerts.command()
def example() -> None:
    """Print a routes file to begin with. It says who is told of which decisions.

    Example: aegis alerts example > alerts.toml
    """
    from importlib.resources import files

    click.echo(files("aegis_app.sinks.alerts").joinpath("alerts.example.toml").read_text("utf-8"), nl=False)


@alerts.command()
@click.option("--port", type=click.IntRange(1, 65535), default=6068, show_default=True, help="Where /health and /metrics listen.")
@options.broker
def run(port: int, broker: str | None) -> None:
    """Tell of decisions by the routes of AEGIS_ALERTS. Runs until stopped. Start as many as you like: they share the work.

    What cannot be delivered is tried again for a day, then `aegis alerts failed` lists it.

    Example: AEGIS_ALERTS=alerts.toml aegis alerts run
    """
    settings = options.settings_with(broker=broker)
    from aegis_app import logs
    from aegis_app.sinks.alerts.routes import load_routes

    try:
        from aegis_app.sinks.alerts import process
    except ImportError as error:
        raise Failure(f"alerts need {error.name}: {EDGE}") from None

    logs.begin(settings.log)
    asyncio.run(process.run(settings, load_routes(settings), port))


@alerts.command()
@click.argument("destinations", metavar="[DESTINATION]...", nargs=-1)
@options.as_json
def test(destinations: tuple[str, ...], as_json: bool) -> None:
    """Send each destination a message that is marked as a test. Or those named; the routes of AEGIS_ALERTS are checked before.

    One attempt each. Exits with 1 if any of them does not take it.

    Example: aegis alerts test fraud-desk
    """
    settings = options.settings_with()
    from aegis_app.sinks.alerts.routes import load_routes

    try:
        from aegis_app.sinks.alerts.trial import trial
    except ImportError as error:
        raise Failure(f"alerts need {error.name}: {EDGE}") from None

    routes = load_routes(settings)
    if unknown := [name for name in destinations if name not in routes.destinations]:
        raise click.BadParameter(f"{unknown[0]!r} is none of the routes file; there are {', '.join(routes.destinations)}")
    answers = asyncio.run(trial(routes, destinations or tuple(routes.destinations)))
    for name, problem in answers.items():
        if as_json:
            options.print_json({"destination": name, "taken": problem is None, "problem": problem})
        else:
            click.echo(f"{name}: {'taken' if problem is None else problem}")
    if bad := [name for name, problem in answers.items() if problem is not None]:
        raise Failure(f"{options.number_of(len(bad), 'destination')} did not take the message")


@alerts.command()
@of
@value
@click.option("--for", "length", metavar="LENGTH", required=True, help="For how long from now: 30m, 8h, 7d.")
@click.option("--reason", required=True, help="Why, in a sentence.")
@options.by
@options.broker
@options.as_json
def snooze(of: str, value: str, length: str, reason: str, by: str, broker: str | None, as_json: bool) -> None:
    """Tell nobody of some decisions, for a time. Of those about a card, of those with a rule's reason alone, or of any.

    KIND is card, rule or all; VALUE a card_id, or a rule's name. Decisions themselves are made as ever.

    Example: aegis alerts snooze card tok_83f1 --for 8h --reason "customer is on the phone"
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.sinks.alerts import snoozes

    made = snoozes.make(snoozes.Of(of), value, snoozes.parse_length(length), reason=reason, by=by, at=datetime.now(UTC))
    asyncio.run(snoozes.publish(settings, made))
    _say(made, as_json)


@alerts.command()
@of
@value
@options.by
@options.broker
@options.as_json
def wake(of: str, value: str, by: str, broker: str | None, as_json: bool) -> None:
    """End a snooze now.

    Example: aegis alerts wake card tok_83f1
    """
    settings = options.settings_with(broker=broker)
    from datetime import timedelta

    from aegis_app.sinks.alerts import snoozes

    now = datetime.now(UTC)
    if not any((each.of, each.value) == (of, value) and each.until > now for each in asyncio.run(snoozes.read(settings))):
        raise Failure(f"{of} {value}".rstrip() + " is not snoozed; see `aegis alerts snoozed`")
    made = snoozes.make(snoozes.Of(of), value, timedelta(0), reason="woken", by=by, at=now)
    asyncio.run(snoozes.publish(settings, made))
    _say(made, as_json)


@alerts.command()
@options.broker
@options.as_json
def snoozed(broker: str | None, as_json: bool) -> None:
    """Print what is snoozed now, soonest end first.

    Example: aegis alerts snoozed
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.sinks.alerts.snoozes import read

    found = [each for each in asyncio.run(read(settings)) if each.until > datetime.now(UTC)]
    for each in found:
        _say(each, as_json)
    if not found and not as_json:
        click.echo("nothing is snoozed")


@alerts.command()
@click.option("--destination", help="Of this destination alone.")
@options.broker
@options.as_json
def failed(destination: str | None, broker: str | None, as_json: bool) -> None:
    """Print what nobody could be told of. A line for each decision and destination: its id, when it was given up, and why.

    Example: aegis alerts failed --destination fraud-desk
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.sinks.alerts.failed import read

    found = asyncio.run(read(settings, destination))
    for key, untold in found.items():
        if as_json:
            options.print_json(_described(key, untold))
        else:
            told = untold.raised.decision
            click.echo(f"{key}  {options.moment(untold.at)}  {told.verdict} {told.transaction_id} of {told.card_id}  {untold.why}")
    if not found and not as_json:
        click.echo("no failed alerts")


@alerts.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--destination", help="Of this destination alone.")
@options.broker
@options.as_json
def redrive(ids: tuple[str, ...], everything: bool, destination: str | None, broker: str | None, as_json: bool) -> None:
    """Try again for another day to tell of what could not be told. `aegis alerts run` delivers it.

    IDs are those that `aegis alerts failed` prints.

    Example: aegis alerts redrive --all --destination fraud-desk
    """
    if bool(ids) is everything:
        raise click.UsageError("name failed alerts, or give --all")
    settings = options.settings_with(broker=broker)
    from aegis_app.sinks.alerts import failed

    untold = asyncio.run(failed.read(settings, destination))
    wanted = untold if everything else failed.chosen(untold, ids)
    with options.counting("redriving", len(wanted)) as sent:
        asyncio.run(failed.redrive(settings, wanted, sent))
    if as_json:
        options.print_json({"redriven": len(wanted)})
    else:
        click.echo(f"redrove {options.number_of(len(wanted), 'alert')}")


def _say(each: "Snooze", as_json: bool) -> None:
    if as_json:
        options.print_json(each)
    else:
        click.echo(f"{each.of} {each.value}".rstrip() + f" until {options.moment(each.until)}  {each.reason}  ({each.by})")


def _described(key: str, untold: "Untold") -> dict[str, Any]:
    return {"id": key, "at": untold.at, "why": untold.why, "destination": untold.raised.destination, "decision": untold.raised.decision}
