"""`aegis send` and `aegis warm`: payments from a file into a topic."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from aegis_app.cli import options
from aegis_app.cli.errors import Failure

if TYPE_CHECKING:
    from aegis_app.core.payment import Transaction
    from aegis_app.send import Pace
    from aegis_app.topics import Name

OUTCOMES = ("allow", "review", "block")


@click.group()
def send() -> None:
    """Send records of a file to Kafka.

    Example: aegis send payments payments.jsonl
    """


@send.command()
@options.source
@options.layout
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Payments a second; as fast as possible where not given.")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Keep the gaps between the payments, so many times shorter.")
@options.broker
@options.as_json
def payments(source: Path, layout: str | None, rate: float | None, speed: float | None, broker: str | None, as_json: bool) -> None:
    """Send payments to be decided, in the order of FILE: Aegis JSON lines, a table that --format tells, or - for JSON lines from stdin.

    Example: aegis simulate --cards 1000 | aegis send payments - --rate 200
    """
    if rate is not None and speed is not None:
        raise click.UsageError("--rate and --speed exclude each other")
    from aegis_app.core.payment import encode_transaction
    from aegis_app.send import at_once, at_rate, at_speed
    from aegis_app.topics import Name

    pace = at_once if rate is None else at_rate(rate)
    _send(Name.TRANSACTIONS, source, layout, encode_transaction, pace if speed is None else at_speed(speed), broker, as_json)


@click.command()
@options.source
@options.layout
@click.option("--outcome", type=click.Choice(OUTCOMES), default="allow", show_default=True, help="What was decided about them elsewhere.")
@options.broker
@options.as_json
def warm(source: Path, layout: str | None, outcome: str, broker: str | None, as_json: bool) -> None:
    """Teach cards their past: payments of FILE are learnt without a decision, those decided before Aegis came.

    Twice the same file is learnt twice.

    Example: aegis warm last-30-days.parquet
    """
    from aegis_app.core.intake import Past, encode_history
    from aegis_app.core.payment import Outcome
    from aegis_app.send import at_once
    from aegis_app.topics import Name

    had = Outcome(outcome)
    _send(Name.HISTORY, source, layout, lambda txn: encode_history(Past(txn, had)), at_once, broker, as_json)


def _send(
    name: "Name",
    source: Path,
    layout: str | None,
    encode: Callable[["Transaction"], bytes],
    pace: "Pace",
    broker: str | None,
    as_json: bool,
) -> None:
    settings = options.settings_with(broker=broker)
    from aegis_app.send import send as send_to
    from aegis_app.topics import full_name
    from models.datasets import DatasetError, Example, Survey, read_payments

    def read(examples: Iterable[Example]) -> Iterator["Transaction"]:
        return (example.transaction for example in examples)

    done, begin, topic, survey = 0, monotonic(), full_name(name, settings), Survey()
    examples = read_payments(options.opened(source), format=layout, currency=settings.base_currency, survey=survey)

    def count(number: int) -> None:
        nonlocal done
        done += number
        show(number)

    try:
        with options.counting(f"sending to {topic}") as show:
            asyncio.run(send_to(settings, topic, read(examples), encode=encode, pace=pace, sent=count))
    except DatasetError as error:
        raise Failure(f"{error}; {done:,} payments before it were sent") from error
    options.report(survey, source)
    seconds = monotonic() - begin
    if as_json:
        options.print_json({"sent": done, "topic": topic, "seconds": round(seconds, 3)})
    else:
        click.echo(f"sent {done:,} payments to {topic} in {seconds:.1f} s")
