"""`aegis decide` and `aegis features`: payments without Kafka."""

import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from aegis_app.cli import options
from aegis_app.cli.bad_lines import BadLines
from aegis_app.cli.errors import Failure
from aegis_app.cli.labels import read_labels
from aegis_app.progress import counted

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

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
    """Decide payments without Kafka. The same path as in a worker, over a memory that begins empty and ends with the command.

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
    options.report_silence(terms.policy, str(settings.policy), bundle=terms.bundle is not None)
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
    help="FILE, a table, says itself what was fraud: learn that so many days after each, and keep it as columns is_fraud and fraud_type.",
)
@click.option("--processes", type=click.IntRange(min=1), help="As many as there are cores, where not given and the file is large.")
@options.bundle
@click.option("--out", type=options.output_file, required=True, help="A parquet file: a row for each payment.")
def features(
    source: Path,
    layout: str | None,
    policy: Path | None,
    labels: Path | None,
    label_delay: float | None,
    processes: int | None,
    bundle: Path | None,
    out: Path,
) -> None:
    """Describe payments as they were when they were decided. Each by what was known before it, and by nothing else.

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
    number = describe(source, layout, settings, out, labels=labels, label_delay=label_delay, processes=processes)
    click.echo(f"{options.number_of(number, 'payment')} described", err=True)


class _Job(NamedTuple):
    """A file of payments, and what tells frauds: a file of `labels`, or itself, `label_delay` days after each."""

    source: Path
    layout: str | None
    settings: "Settings"
    labels: Path | None
    label_delay: float | None


def describe(
    source: Path,
    layout: str | None,
    settings: "Settings",
    out: Path,
    *,
    labels: Path | None = None,
    label_delay: float | None = None,
    processes: int | None = None,
) -> int:
    """Write the matrix of a file of payments, and return how many it describes; frauds are told by `labels`, or by the file itself.

    Every process decides and learns all payments, since merchants hear of all, and describes its share of them, which takes longer.
    """
    from aegis_app.backtest.run import cores_for
    from models.datasets.matrix import write_tables

    job = _Job(source, layout, settings, labels, label_delay)
    of = 1 if source == options.DASH else processes or cores_for(source)
    with ExitStack() as running:
        others = [running.enter_context(_other(job, part, of)) for part in range(1, of)]
        with _tables(job, 0, of) as made:
            return write_tables(out, _complete(made, others), told=label_delay is not None)


@contextmanager
def _tables(job: _Job, part: int, of: int) -> Iterator[Iterator[Any]]:
    """Those of `part`, and `None` for those that others make."""
    from aegis_app.bundles import local_bundle
    from aegis_app.core.replay import replay
    from aegis_app.policies import local_terms
    from models.datasets.matrix import tables

    source, layout, settings, labels, delay = job
    terms = local_terms(settings, local_bundle(settings))
    options.report_silence(terms.policy, str(settings.policy), bundle=terms.bundle is not None)
    truth = None if delay is None else _truth(source, layout, settings, delay)
    with read_labels(labels, settings) as read, _payments(source, layout, settings, terms.rates, "describing") as payments:
        said = read if truth is None else truth.labels
        screened = replay(payments, terms, said)
        rows = ((txn, each.ruling.verdict, each.seen) for txn, each in screened if each.seen is not None)
        yield tables(rows, None if truth is None else truth.told, part, of)


def _complete(made: Iterator[Any], others: Sequence["Connection[Any, Any]"]) -> Iterator[Any]:
    """All tables in their order, each from whose it is."""
    from models.datasets.matrix import unpacked

    for number, table in enumerate(made):
        if table is not None:
            yield table
            continue
        try:
            whole = others[number % (1 + len(others)) - 1].recv_bytes()
        except EOFError:
            raise Failure("a process that describes ended early; is there memory for all of them? --processes 1 needs the least") from None
        yield unpacked(whole)


@contextmanager
def _other(job: _Job, part: int, of: int) -> Iterator["Connection[Any, Any]"]:
    """From where the tables of a process come that makes those of `part`."""
    # Not fork: a progress bar and pyarrow have threads, which a forked child would miss.
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_tables, args=(job, part, of, sender), daemon=True)
    child.start()
    sender.close()
    try:
        yield receiver
    finally:
        child.terminate()
        child.join()


def _send_tables(job: _Job, part: int, of: int, sender: "Connection[Any, Any]") -> None:
    from models.datasets import DatasetError
    from models.datasets.matrix import packed

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its children
    # What is wrong with the file, the parent finds as well, and says.
    with suppress(Failure, DatasetError, OSError), redirect_stderr(StringIO()), _tables(job, part, of) as made:
        for table in made:
            if table is not None:
                sender.send_bytes(packed(table))


def _truth(source: Path, layout: str | None, settings: "Settings", delay: float) -> "Truth":
    """What a table itself says of its payments."""
    from models.datasets import holds_lines, read_payments
    from models.datasets.truth import read_truth

    if source == options.DASH or holds_lines(source, layout):
        raise click.UsageError(f"{source}: JSON lines do not say what was fraud, as tables do (--label-delay); give --labels")
    with options.counting("reading labels") as count:
        return read_truth(counted(read_payments(source, format=layout, currency=settings.base_currency), count), delay, source)


@contextmanager
def _payments(source: Path, layout: str | None, settings: "Settings", rates: "Rates", doing: str) -> Iterator[Iterator["Transaction"]]:
    """The payments of a file, counted on a terminal. Those without a rate are reported; lines that hold none too, and in the end raise
    `Failure`.
    """
    from aegis_app.core.replay import read_lines
    from models.datasets import Survey, holds_lines, read_payments

    bad, survey = BadLines(source), Survey()
    unrated: Counter[str] = Counter()

    with ExitStack() as files:
        if not holds_lines(source, layout):
            examples = read_payments(source, format=layout, currency=settings.base_currency, survey=survey)
            payments: Iterator[Transaction] = (example.transaction for example in examples)
        else:
            lines = survey.of_lines(files.enter_context(options.reading(source)))
            payments = read_lines(lines, bad, token=settings.card_id_is_token)
        yield counted(options.noting_unrated(payments, rates, unrated), files.enter_context(options.counting(doing)))
    bad.end()
    options.report(survey, source)
    options.report_unrated(unrated)
    if bad.number:
        raise Failure(f"{options.number_of(bad.number, 'line')} without a payment that can be taken; what became of the others is written")
