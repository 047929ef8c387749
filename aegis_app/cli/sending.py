"""`aegis send` and `aegis warm`: payments, or labels, from a file into a topic."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING

import click

from aegis_app.cli import options
from aegis_app.cli.errors import Failure

if TYPE_CHECKING:
    from aegis_app.core.label import Label
    from aegis_app.core.payment import Transaction
    from aegis_app.send import K, Pace
    from aegis_app.settings import Settings
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
    """Send payments to be decided. In the order of FILE: Aegis JSON lines, a table that --format tells, or - for JSON lines from stdin.

    Example: aegis simulate --cards 1000 | aegis send payments - --rate 200
    """
    if rate is not None and speed is not None:
        raise click.UsageError("--rate and --speed exclude each other")
    from aegis_app.core.payment import encode_transaction
    from aegis_app.send import at_once, at_rate, at_speed
    from aegis_app.topics import Name

    settings = options.settings_with(broker=broker)
    pace = at_once if rate is None else at_rate(rate)
    pace = pace if speed is None else at_speed(speed)
    _send(settings, Name.TRANSACTIONS, _payments(source, layout, settings), encode_transaction, pace, as_json)


@send.command()
@options.source
@options.broker
@options.as_json
def labels(source: Path, broker: str | None, as_json: bool) -> None:
    """Send what payments turned out to be. In the order of FILE: JSON lines, or - for those from stdin.

    `aegis topics schema labels` says what a line holds. Of several labels about a payment the strongest source wins (customer,
    chargeback, issuer, analyst, automatic), then the latest; so the same file may be sent twice.

    Example: aegis send labels chargebacks.jsonl
    """
    from aegis_app.core.label import encode_label
    from aegis_app.send import at_once
    from aegis_app.topics import Name

    settings = options.settings_with(broker=broker)
    _send(settings, Name.LABELS, _labels(source, settings), encode_label, at_once, as_json)


@click.command()
@options.source
@options.layout
@click.option("--outcome", type=click.Choice(OUTCOMES), default="allow", show_default=True, help="What was decided about them elsewhere.")
@click.option("--wait", is_flag=True, help="Return once the workers have learnt them.")
@options.broker
@options.as_json
def warm(source: Path, layout: str | None, outcome: str, wait: bool, broker: str | None, as_json: bool) -> None:
    """Teach cards their past. Payments of FILE are learnt without a decision, those decided before Aegis came.

    Payments to be decided come first, so they do not wait for the past that is sent before them: --wait does. Twice the same file
    is learnt twice.

    Example: aegis warm last-30-days.parquet --wait
    """
    from aegis_app.core.intake import Past, encode_history
    from aegis_app.core.payment import Outcome
    from aegis_app.send import at_once
    from aegis_app.topics import Name

    had = Outcome(outcome)
    settings = options.settings_with(broker=broker)
    past = _payments(source, layout, settings)
    _send(settings, Name.HISTORY, past, lambda txn: encode_history(Past(txn, had)), at_once, as_json, wait=wait)


def _payments(source: Path, layout: str | None, settings: "Settings") -> Iterator["Transaction"]:
    from aegis_app.core.intake import Refused, check_card, check_time
    from models.datasets import Survey, read_payments

    survey = Survey()
    examples = read_payments(options.opened(source), format=layout, currency=settings.base_currency, survey=survey)
    try:
        for number, example in enumerate(examples, 1):
            try:
                check_card(example.transaction.card_id, token=settings.card_id_is_token)
                check_time("timestamp", example.transaction.at, int(time() * 1000))
            except Refused as refused:  # here: what is on a topic stays there
                raise Refused(refused.reason, f"{source}, payment {number}: {refused}") from None
            yield example.transaction
    finally:
        options.report(survey, source)


def _labels(source: Path, settings: "Settings") -> Iterator["Label"]:
    from aegis_app.core.intake import Refused, check_time
    from aegis_app.core.replay import read_label_lines

    def refuse(number: int, refused: Refused) -> None:
        raise Refused(refused.reason, f"{source}, line {number}: {refused}")

    with options.reading(source) as lines:
        for number, label in enumerate(read_label_lines(lines, refuse, token=settings.card_id_is_token), 1):
            try:
                check_time("labelled_at", label.known_at, int(time() * 1000))
            except Refused as refused:
                raise Refused(refused.reason, f"{source}, label {number}: {refused}") from None
            yield label


def _send(
    settings: "Settings",
    name: "Name",
    records: Iterable["K"],
    encode: Callable[["K"], bytes],
    pace: "Pace",
    as_json: bool,
    *,
    wait: bool = False,
) -> None:
    from aegis_app.core.intake import Refused
    from aegis_app.send import send as send_to
    from aegis_app.send import settled
    from aegis_app.topics import Name, full_name
    from models.datasets import DatasetError

    done, begin, topic = 0, monotonic(), full_name(name, settings)
    noun = "label" if name is Name.LABELS else "payment"

    def count(number: int) -> None:
        nonlocal done
        done += number
        show(number)

    try:
        with options.counting(f"sending to {topic}") as show:
            delivered = asyncio.run(send_to(settings, topic, records, encode=encode, pace=pace, sent=count))
        if wait:
            click.echo("They are sent; waits until workers have learnt them", err=True)
            with options.counting(f"learnt from {topic}") as show:
                asyncio.run(settled(settings, topic, delivered.ends, show))
    except KeyboardInterrupt:
        # What was on its way to Kafka just then may have come there, too.
        click.echo(f"aegis: ended by Ctrl-C; at least {options.number_of(done, noun)} {'was' if done == 1 else 'were'} sent", err=True)
        raise
    except (DatasetError, Refused) as error:
        raise Failure(f"{error}; {options.number_of(done, noun)} before it {'was' if done == 1 else 'were'} sent") from error
    seconds = monotonic() - begin
    if as_json:
        options.print_json({"sent": done, "topic": topic, "seconds": round(seconds, 3)})
    else:
        click.echo(f"sent {options.number_of(done, noun)} to {topic} in {seconds:.1f} s")
