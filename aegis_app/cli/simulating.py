"""`aegis simulate`: payments made up, and what is said about them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from aegis_app.cli import options
from aegis_app.cli.errors import Failure
from aegis_app.progress import counted

if TYPE_CHECKING:
    from aegis_app.core.payment import Outcome
    from aegis_app.simulate import Desk, Labelled


@click.command()
@click.option("--cards", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--days", type=click.FloatRange(min=0, min_open=True), default=30, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same payments.")
@click.option("--fraud-rate", type=click.FloatRange(0, 1, max_open=True), default=0.001, show_default=True, help="Share of payments.")
@click.option("--start", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), default="2026-01-01", show_default=True, help="In UTC.")
@click.option("--out", type=options.output, default="-", help="JSON lines, or parquet by its suffix; stdout where not given.")
@click.option("--truth", type=options.output, help="Write of each payment what it is: transaction_id, is_fraud, fraud_type.")
@click.option("--labels", type=options.output, help="Write what analysts and holders say, as in life: later, not of all, at times wrong.")
@click.option(
    "--decisions",
    type=options.existing,
    help="What aegis decide made of these payments, so that --labels follow: soon of what was reviewed, seldom of what was blocked.",
)
@click.option("--rates", type=options.output, help="Write the exchange rates that hold among these payments, for AEGIS_RATES.")
def simulate(
    cards: int,
    days: float,
    seed: int,
    fraud_rate: float,
    start: datetime,
    out: Path,
    truth: Path | None,
    labels: Path | None,
    decisions: Path | None,
    rates: Path | None,
) -> None:
    """Make up payments, frauds among them. Cardholders have homes and habits; payments come in order of arrival.

    Labels are in order of time; those of the last payments come months after them.

    Example: aegis simulate --cards 1000 --days 30 --seed 7 --fraud-rate 0.002 --out payments.jsonl --truth truth.jsonl
    """
    if out.suffix == ".csv":
        raise click.UsageError("--out writes JSON lines or parquet: name it .jsonl or .parquet")
    if decisions is not None and labels is None:
        raise click.UsageError("--decisions says what --labels are of; give both")
    from aegis_app.core.payment import encode_transaction
    from aegis_app.simulate import RATES_FILE, Desk
    from aegis_app.simulate import simulate as course

    if rates is not None:
        with options.writing(rates) as file:
            file.write(RATES_FILE.encode())
    desk = Desk(seed, None if decisions is None else _stopped(decisions))
    payments: Iterable[Labelled] = course(cards, days, seed, start.replace(tzinfo=UTC), fraud_rate)
    with ExitStack() as files:
        payments = counted(payments, files.enter_context(options.counting("simulating")))
        if truth is not None:
            payments = _telling(payments, files.enter_context(options.writing(truth)))
        if labels is not None:
            payments = _labelling(payments, desk, files.enter_context(options.writing(labels)))
        if out.suffix == ".parquet":
            from models.datasets.aegis import write_parquet

            write_parquet(out, (payment.transaction for payment in payments))
        else:
            file = files.enter_context(options.writing(out))
            for payment in payments:
                file.write(encode_transaction(payment.transaction) + b"\n")
    if desk.unheard_of:
        raise Failure(f"{desk.unheard_of:,} decisions in {decisions} are about none of these payments: simulate with the same options")


def _stopped(decisions: Path) -> dict[str, "Outcome"]:
    from aegis_app.simulate import read_stopped

    with decisions.open("rb") as lines:
        try:
            return read_stopped(lines)
        except ValueError as error:
            raise Failure(f"{decisions}, {error}") from error


def _telling(payments: Iterable["Labelled"], truth: BinaryIO) -> Iterator["Labelled"]:
    import msgspec

    encode = msgspec.json.Encoder().encode
    for payment in payments:
        known = {"transaction_id": payment.transaction.transaction_id, "is_fraud": payment.fraud is not None, "fraud_type": payment.fraud}
        truth.write(encode(known) + b"\n")
        yield payment


def _labelling(payments: Iterable["Labelled"], desk: "Desk", labels: BinaryIO) -> Iterator["Labelled"]:
    from aegis_app.core.label import encode_label

    for payment in payments:
        for label in desk.until(payment.arrived):
            labels.write(encode_label(label) + b"\n")
        desk.see(payment)
        yield payment
    for label in desk.rest():
        labels.write(encode_label(label) + b"\n")
