"""`aegis decide` and `aegis features`: payments without Kafka."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aegis_app.cli import options
from aegis_app.cli.errors import Failure
from aegis_app.cli.labels import read_labels
from aegis_app.progress import counted

if TYPE_CHECKING:
    from aegis_app.core.intake import Refused
    from aegis_app.core.payment import Transaction
    from aegis_app.core.rates import Rates
    from aegis_app.settings import Settings
    from models.datasets.truth import Truth


@click.command()
@options.source
@options.layout
@click.option("--policy", type=options.existing, help="Policy file; AEGIS_POLICY where not given.")
@options.bundle
@click.option("--out", type=options.output, default="-", help="Decisions as JSON lines; stdout where not given.")
def decide(source: Path, layout: str | None, policy: Path | None, bundle: Path | None, out: Path) -> None:
    """Decide payments without Kafka: the same path as in a worker, over a memory that begins empty and ends with the command.

    FILE is Aegis JSON lines, a table that --format tells, or - for JSON lines from stdin. Lines that hold no payment are reported and
    passed over; the exit code is then 1. Nothing is enforced here, so the decisions are what a worker under this policy would have said.

    Example: aegis simulate --cards 1000 | aegis decide - --policy policy.toml > decisions.jsonl
    """
    settings = options.settings_with(policy=policy, bundle=bundle)
    from aegis_app.bundles import local_bundle
    from aegis_app.core.decision import encode_decision
    from aegis_app.core.replay import replay
    from aegis_app.policies import local_terms

    terms = local_terms(settings, local_bundle(settings))
    tally: Counter[str] = Counter()
    with _payments(source, layout, settings, terms.rates, "deciding") as payments, options.writing(out) as file:
        for txn, screened in replay(payments, terms):
            file.write(encode_decision(txn, screened.ruling) + b"\n")
            tally[screened.ruling.verdict] += 1
        verdicts = ", ".join(f"{tally[name]:,} {name}" for name in ("allow", "review", "block"))
        click.echo(f"{options.number_of(tally.total(), 'payment')}; verdicts: {verdicts}", err=True)


@click.command()
@options.source
@options.layout
@click.option("--policy", type=options.existing, help="Policy file; AEGIS_POLICY where not given.")
@click.option("--labels", type=options.existing, help="What was said about them: JSON lines, each learnt from its labelled_at on.")
@click.option(
    "--label-delay",
    type=click.FloatRange(min=0),
    help="FILE, a table, says itself what was fraud: learn that so many days after each, and keep it as a column is_fraud.",
)
@options.bundle
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A parquet file: a row for each payment.")
def features(
    source: Path,
    layout: str | None,
    policy: Path | None,
    labels: Path | None,
    label_delay: float | None,
    bundle: Path | None,
    out: Path,
) -> None:
    """Describe payments as they were described when they were decided: each by what was known before it, and by nothing else.

    FILE is Aegis JSON lines, a table that --format tells, or - for JSON lines from stdin. A row has transaction_id, card_id, timestamp,
    the verdict, every feature (docs/features.md) and the payment's attributes. Policy and bundle matter, because only what they allow
    becomes habit. Repeats of a transaction_id have no row. Labels count too: a confirmed fraud leaves habit when it became known, as in a
    worker. Lines that hold no payment, or no label, are reported and passed over; the exit code is then 1. Of data sets that say what was
    fraud, --label-delay makes all that `aegis train` takes.

    Example: aegis features payments.jsonl --labels labels.jsonl --out features.parquet
    """
    if labels is not None and label_delay is not None:
        raise click.UsageError("frauds are told by --labels, or by FILE itself with --label-delay")
    settings = options.settings_with(policy=policy, bundle=bundle)
    number = describe(source, layout, settings, out, labels=labels, label_delay=label_delay)
    click.echo(f"{options.number_of(number, 'payment')} described", err=True)


def describe(
    source: Path, layout: str | None, settings: "Settings", out: Path, *, labels: Path | None = None, label_delay: float | None = None
) -> int:
    """Write the matrix of a file of payments, and return how many it describes; frauds are told by `labels`, or by the file itself."""
    from aegis_app.bundles import local_bundle
    from aegis_app.core.replay import replay
    from aegis_app.policies import local_terms
    from models.datasets.matrix import write_matrix

    terms = local_terms(settings, local_bundle(settings))
    truth = None if label_delay is None else _truth(source, layout, settings, label_delay)
    with read_labels(labels, settings) as read, _payments(source, layout, settings, terms.rates, "describing") as payments:
        said = read if truth is None else truth.labels
        rows = (
            (txn, screened.ruling.verdict, screened.seen) for txn, screened in replay(payments, terms, said) if screened.seen is not None
        )
        return write_matrix(out, rows, None if truth is None else truth.is_fraud)


def _truth(source: Path, layout: str | None, settings: "Settings", delay: float) -> "Truth":
    """What a table itself says of its payments."""
    from models.datasets import holds_lines, read_payments
    from models.datasets.truth import read_truth

    if str(source) == "-" or holds_lines(source, layout):
        raise click.UsageError("--label-delay is for tables, which say what was fraud; of JSON lines --labels does")
    with options.counting("reading labels") as count:
        return read_truth(counted(read_payments(source, format=layout, currency=settings.base_currency), count), delay, source)


@contextmanager
def _payments(source: Path, layout: str | None, settings: "Settings", rates: "Rates", doing: str) -> Iterator[Iterator["Transaction"]]:
    """The payments of a file, counted on a terminal. Those without a rate are reported; lines that hold none too, and in the end raise
    `Failure`.
    """
    from aegis_app.core.replay import read_lines
    from models.datasets import Survey, holds_lines, read_payments

    bad, survey = 0, Survey()
    unrated: Counter[str] = Counter()

    def noting(payments: "Iterator[Transaction]") -> "Iterator[Transaction]":
        for txn in payments:
            if not rates.knows(txn.currency):
                unrated[txn.currency] += 1
            yield txn

    def refuse(number: int, refused: "Refused") -> None:
        nonlocal bad
        bad += 1
        click.echo(f"{source}, line {number}: {refused}", err=True)

    with ExitStack() as files:
        if not holds_lines(source, layout):
            examples = read_payments(source, format=layout, currency=settings.base_currency, survey=survey)
            payments: Iterator[Transaction] = (example.transaction for example in examples)
        else:
            payments = read_lines(files.enter_context(options.reading(source)), refuse, token=settings.card_id_is_token)
        yield counted(noting(payments), files.enter_context(options.counting(doing)))
    options.report(survey, source)
    options.report_unrated(unrated)
    if bad:
        raise Failure(f"{options.number_of(bad, 'line')} without a payment that can be taken; what became of the others is written")
