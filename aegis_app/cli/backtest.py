"""`aegis backtest`: what a policy would have done to payments of which the end is known."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import click

from aegis_app.cli import options
from aegis_app.cli.bad_lines import BadLines
from aegis_app.cli.errors import Failure
from aegis_app.cli.labels import read_labels

if TYPE_CHECKING:
    from aegis_app.backtest.labels import Truth
    from aegis_app.backtest.report import Report
    from aegis_app.core.label import Label
    from aegis_app.core.terms import Terms

FRAUD = {"unknown": None, "genuine": False}


@click.command()
@options.source
@options.layout
@click.option(
    "--policy", "policies", type=options.existing, multiple=True, help="Policy file; a second one is compared. AEGIS_POLICY if none."
)
@options.bundle
@click.option("--labels", type=options.existing, help="What is fraud: JSON lines with transaction_id and is_fraud.")
@click.option("--heard", type=options.existing, help="Labels that memory hears, each when it became known, as a worker does.")
@click.option(
    "--unlabelled", type=click.Choice(list(FRAUD)), default="unknown", show_default=True, help="What a payment is that no label speaks of."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    help="How many share the work, a part of the cards each; a core each if not given. One if a rule or the bundle asks of other cards.",
)
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only learn from payments before this day (UTC): cards need a past.")
@click.option("--html", type=options.output_file, metavar="OUT", help="Write a page with pictures as well.")
@options.as_json
def backtest(
    source: Path,
    layout: str | None,
    policies: tuple[Path, ...],
    bundle: Path | None,
    labels: Path | None,
    heard: Path | None,
    unlabelled: str,
    processes: int | None,
    since: datetime | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Say what a policy is worth, or two, on the payments of FILE. Of each rule: hits, precision, money and overlaps.

    FILE is Aegis JSON lines, a table that --format tells, or - for JSON lines from stdin. Data sets such as the handbook's and Sparkov's
    say themselves what is fraud; for others, --labels does. Those judge the result and no decision sees them; --heard, which may name the
    same file, teaches memory, for rules that ask about confirmed frauds. Verdicts count, so it makes no difference whether a policy
    observes or enforces. The models of a bundle count as one more rule, as far as each policy lets them: two policies that differ in
    [models] say what it is worth. Lines that cannot be read are reported and passed over; the exit code is then 1.

    Example: aegis backtest payments.jsonl --policy now.toml --policy next.toml --labels labels.jsonl --html report.html
    """
    if len(policies) > 2:
        raise click.UsageError("--policy is given once or twice: two policies can be compared")
    import msgspec

    from aegis_app.bundles import local_bundle
    from aegis_app.packaged import POLICY
    from aegis_app.policies import local_terms

    settings = options.settings_with(bundle=bundle)
    models = local_bundle(settings)
    chosen = [msgspec.structs.replace(settings, policy=policy) for policy in policies] or [settings]
    named = [(POLICY if each.policy is None else str(each.policy), local_terms(each, models)) for each in chosen]
    for name, terms in named:
        options.report_silence(terms.policy, name, bundle=models is not None)
    if html is not None:
        from aegis_app.backtest.page import check

        check()
    begin = None if since is None else since.replace(tzinfo=UTC)
    token = settings.card_id_is_token
    with read_labels(heard, settings) as said:
        result, bad = judged(
            source, named, labels, layout, token=token, heard=tuple(said), unlabelled=unlabelled, processes=processes, since=begin
        )
    if html is not None:
        from aegis_app.backtest.page import write

        write(result, html)
    if as_json:
        options.print_json(result)
    else:
        from aegis_app.backtest.terminal import show

        show(result)
    if bad:
        raise Failure(f"{options.number_of(bad, 'line')} without a payment or label that can be taken; the others are judged")


def judged(
    source: Path,
    named: Sequence[tuple[str, "Terms"]],
    labels: Path | None,
    layout: str | None = None,
    *,
    token: bool,
    heard: tuple["Label", ...] = (),
    unlabelled: str = "unknown",
    processes: int | None = None,
    since: datetime | None = None,
) -> "tuple[Report, int]":
    """What one policy or two, by their names, make of the payments of a file; and how many lines could not be read, which are reported."""
    from aegis_app.backtest.report import report
    from aegis_app.backtest.run import Job, cores_for
    from aegis_app.backtest.run import backtest as run

    truths, bad_labels = _truths(labels)
    with ExitStack() as files:
        file = files.enter_context(_spooled()) if source == options.DASH else source
        job = Job(file, tuple(terms for _, terms in named), truths, FRAUD[unlabelled], token, since, heard, layout)
        tally = run(job, cores_for(file) if processes is None else processes, files.enter_context(options.counting("judging")))
    name = "stdin" if source == options.DASH else str(source)
    bad = BadLines(name)
    for number, reason in sorted(tally.refused):
        bad(number, reason)
    bad.end()
    options.report(tally.survey, source)
    unrated: Counter[str] = Counter()
    for cell, found in tally.cells.items():
        if not job.terms[0].rates.knows(cell.currency):
            unrated[cell.currency] += found.payments
    options.report_unrated(unrated)
    if not tally.cells:
        raise Failure(f"{name} holds no payment that can be judged")
    return report(name, tally, len(truths), [(each, terms.policy) for each, terms in named]), len(tally.refused) + bad_labels


def _truths(labels: Path | None) -> tuple[dict[str, "Truth"], int]:
    """What is known, by transaction_id, and how many lines could not be read; those are reported."""
    if labels is None:
        return {}, 0
    from aegis_app.backtest.labels import read_labels

    bad = BadLines(labels)
    with labels.open("rb") as lines:
        return read_labels(lines, bad), bad.end()


@contextmanager
def _spooled() -> Iterator[Path]:
    """Stdin as a file, because every process reads it."""
    with NamedTemporaryFile(suffix=".jsonl") as file:
        shutil.copyfileobj(click.get_binary_stream("stdin"), file)
        file.flush()
        yield Path(file.name)
