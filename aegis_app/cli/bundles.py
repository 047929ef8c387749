"""`aegis bundles`."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aegis_app.cli import options

if TYPE_CHECKING:
    from aegis_app.bundles import Published
    from aegis_app.settings import Settings
    from models.bundle import Manifest
    from models.evaluation.served import Served

bundle = click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
_SHOWN = ("roc_auc", "average_precision", "recall_at_fpr_0.001", "recall_at_fpr_0.005", "recall_at_fpr_0.01")


@click.group()
def bundles() -> None:
    """Trained models. `aegis train` writes them, and workers serve them.

    Example: aegis bundles list bundles/
    """


@bundles.command("list")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@options.as_json
def list_(directory: Path, as_json: bool) -> None:
    """List the bundles in a directory, newest payments last.

    Example: aegis bundles list bundles/
    """
    from models.bundle import MANIFEST, read_manifest

    found = [(path.parent, read_manifest(path.parent)) for path in directory.glob(f"*/{MANIFEST}")]
    found.sort(key=lambda each: (each[1].windows[-1].end, each[0].name))
    if as_json:
        options.print_json([{"path": str(path), "version": each.version, "windows": each.windows} for path, each in found])
        return
    for path, each in found:
        figures = each.metrics.get("ensemble", {})
        precision = figures.get("average_precision")
        worth = "" if precision is None else f"  average precision {precision:.3f}"
        click.echo(f"{each.version}  {path}  {', '.join(layer.name for layer in each.layers)}  to {each.windows[-1].end:%Y-%m-%d}{worth}")
    if not found:
        click.echo(f"no bundles in {directory}; `aegis train` makes one", err=True)


@bundles.command()
@bundle
@options.as_json
def show(bundle: Path, as_json: bool) -> None:
    """Print what a bundle holds and how good it was. And what it was trained on.

    Example: aegis bundles show bundles/march
    """
    from models.bundle import read_manifest

    manifest = read_manifest(bundle)
    if as_json:
        options.print_json(manifest)
    else:
        describe(bundle, manifest)


@bundles.command()
@bundle
def verify(bundle: Path) -> None:
    """Check that a bundle is whole and scores. Every file has its checksum; exits with 1 and says what is wrong.

    Example: aegis bundles verify bundles/march
    """
    from models.serving import serve

    serving = serve(bundle)
    serving.check()
    click.echo(f"{bundle}: {serving.version} is whole, and scores")


@bundles.command()
@click.argument("first", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("data", type=options.existing)
@options.layout
@options.judging
@click.option("--test-start", type=options.instant, required=True, help="First day to compare on, or second; all before only teaches.")
@click.option("--label-delay", type=click.FloatRange(min=0), default=7.0, show_default=True, help="Days until a fraud is known.")
@options.maturity
@click.option("--resamples", type=click.IntRange(1), default=1000, show_default=True, help="Draws of the cards, for the intervals.")
@click.option("--policy", type=options.existing, help="Policy file; AEGIS_POLICY where not given.")
@options.as_json
def compare(
    first: Path,
    second: Path,
    data: Path,
    layout: str | None,
    labels: Path | None,
    test_start: datetime,
    label_delay: float,
    maturity: float,
    resamples: int,
    policy: Path | None,
    as_json: bool,
) -> None:
    """Compare two bundles on the same payments. By figures, and what only one of them stops. DATA says what was fraud, or --labels.

    Each decides all payments on the same path as a worker. By how much one is above the other has an interval of its own, from draws of
    the cards that serve both; it says more than the two intervals would. Choose a --test-start after the last day that either learnt from.

    Example: aegis bundles compare bundles/april bundles/march payments.jsonl --labels labels.jsonl --test-start 2026-05-01
    """
    settings = options.settings_with(policy=policy)
    import msgspec

    from aegis_app.bundles import local_bundle
    from aegis_app.core.payment import money
    from aegis_app.policies import local_terms
    from aegis_app.progress import counted
    from models.datasets import read_payments
    from models.evaluation.known import known
    from models.evaluation.report import SHOWN
    from models.evaluation.served import compare as judge
    from models.evaluation.served import score

    begin = options.instant_ms(test_start)
    told = known(read_payments(data, format=layout, currency=settings.base_currency), labels, label_delay, maturity, begin)

    def served(path: Path, unrated: Counter[str]) -> "Served":
        terms = local_terms(settings, local_bundle(msgspec.structs.replace(settings, bundle=path)))
        with options.counting(f"scoring by {path}") as count:
            examples = counted(read_payments(data, format=layout, currency=settings.base_currency), count)
            payments = (each.transaction for each in examples if each.transaction.at < told.end)
            return score(options.noting_unrated(payments, terms.rates, unrated), told.labels, terms, begin)

    unrated: Counter[str] = Counter()
    one, other = served(first, unrated), served(second, Counter())
    options.report_unrated(unrated)
    with options.counting("drawing", resamples) as count:
        found = judge(one, other, resamples, 0, count)
    if as_json:
        options.print_json(found)
        return
    payments, found_out = options.number_of(len(one.test.is_fraud), "payment"), options.number_of(int(one.test.is_fraud.sum()), "fraud")
    click.echo(f"{payments}, {found_out}; {first} against {second}")
    for name, shown in SHOWN.items():
        above, (low, high) = found.above[name]
        figures = " against ".join(f"{each[name]:.3f}" for each in found.figures)
        click.echo(f"  {shown:<8} {figures}: {above:+.3f} ({low:+.3f} to {high:+.3f})")
    ways = {"both stop": found.both, f"only {first} stops": found.first_alone, f"only {second} stops": found.second_alone}
    for who, stopped in ways.items():
        worth = money(round(stopped.money), settings.base_currency)
        caught, genuine = options.number_of(stopped.frauds, "fraud"), options.number_of(stopped.genuine, "genuine payment")
        click.echo(f"  {who} {caught} of {worth}, and {genuine}")


@bundles.command()
@click.argument("source", metavar="BUNDLE")
@click.option("--note", required=True, help="Why, for the record.")
@click.option("--dry-run", is_flag=True, help="Only load and try it, and say what would change.")
@options.by
@options.broker
@options.as_json
def publish(source: str, note: str, dry_run: bool, by: str, broker: str | None, as_json: bool) -> None:
    """Put a bundle in force. Every worker takes it up between two chunks of payments, within seconds.

    BUNDLE is its directory: a path that every worker can read, or an address (http, https) from which each downloads it. It is loaded and
    tried here first. A worker that cannot load it goes on with the bundle before, and says so in /ready, /bundle and its metrics. Which
    part of it counts is up to the policy ([models]).

    Example: aegis bundles publish bundles/march --note "labels up to February"
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.bundles import examined, is_address, signed

    if not is_address(source):
        source = str(Path(source).absolute())
    serving, checksum = examined(source, settings)
    published = signed(serving.version, checksum, source, author=by, note=note, at=datetime.now(UTC))
    _publish(settings, published, as_json, dry_run=dry_run)


@bundles.command()
@click.argument("version", required=False)
@click.option("--note", help="Why, for the record.")
@options.by
@options.broker
@options.as_json
def rollback(version: str | None, note: str | None, by: str, broker: str | None, as_json: bool) -> None:
    """Put an earlier bundle in force again. VERSION, or the one before. A second time without VERSION leads back to where you were.

    To decide by rules alone, `aegis bundles withdraw`.

    Example: aegis bundles rollback
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.bundles import read, signed
    from models.bundle import BundleError

    releases = asyncio.run(read(settings))
    earlier = releases.earlier(version)
    if earlier is None or releases.latest is None:
        wanted = "earlier bundle" if version is None else f"bundle {version}"
        raise BundleError(
            f"there is no {wanted} on {settings.topic_prefix}bundles; see `aegis bundles history`. "
            "`aegis bundles withdraw` lets rules decide alone"
        )
    why = note or f"rolled back from {releases.latest.version}"
    was = earlier.published
    _publish(settings, signed(was.version, was.checksum, was.source, author=by, note=why, at=datetime.now(UTC)), as_json)


@bundles.command()
@click.option("--note", default="withdrawn", show_default=True, help="Why, for the record.")
@options.by
@options.broker
@options.as_json
def withdraw(note: str, by: str, broker: str | None, as_json: bool) -> None:
    """Let no bundle serve: rules and lists decide alone.

    Now and everywhere, whatever AEGIS_BUNDLE says. `aegis bundles rollback` leads back.

    Example: aegis bundles withdraw --note "reviews three times as many since 14:00"
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.bundles import signed

    _publish(settings, signed(None, None, None, author=by, note=note, at=datetime.now(UTC)), as_json)


@bundles.command()
@options.broker
@options.as_json
def history(broker: str | None, as_json: bool) -> None:
    """Print the bundles that were published and withdrawn. The latest, which is in force, is last.

    Example: aegis bundles history
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.bundles import read

    past = asyncio.run(read(settings)).past
    for each in past:
        by, state = each.published, "in force" if each is past[-1] else "past"
        if as_json:
            options.print_json({"bundle": by.version, "state": state} | each.source(f"{settings.topic_prefix}bundles"))
        else:
            source = "" if by.source is None else f"  {by.source}"
            click.echo(f"{by.key:<12}  {options.moment(by.at)}  {state}{source}  {by.note}  (by {by.author})")
    if not past and not as_json:
        click.echo("no bundle was published; a worker serves that of AEGIS_BUNDLE, or decides by rules alone")


def _publish(settings: "Settings", published: "Published", as_json: bool, *, dry_run: bool = False) -> None:
    """Publish unless it is in force already, and say what that changes."""
    from aegis_app.bundles import publish as put
    from aegis_app.bundles import read

    latest = asyncio.run(read(settings)).latest
    was = None if latest is None else latest.published
    is_news = was is None or (was.version, was.checksum, was.source) != (published.version, published.checksum, published.source)
    offset = asyncio.run(put(settings, published)).offset if is_news and not dry_run else None
    if as_json:
        options.print_json({"bundle": published.version, "was": None if was is None else was.version, "offset": offset})
        return
    before = "none that was published" if was is None else was.key if was.source is None else f"{was.version}, from {was.source}"
    click.echo(f"in force was {before}")
    if not is_news:
        click.echo("that is in force already: nothing to publish")
    elif published.version is None:
        click.echo("no bundle is in force, rules decide alone; workers obey within seconds, see their /bundle")
    elif dry_run:
        click.echo(f"{published.version} loads and scores, and would be in force: nothing was published")
    else:
        click.echo(f"{published.version} is in force; workers take it up within seconds, see their /bundle")


def describe(path: Path, manifest: "Manifest") -> None:
    """Print a bundle for people."""
    click.echo(f"bundle {manifest.version} in {path}")
    for layer in manifest.layers:
        click.echo(f"  {layer.name:<17} {layer.model}, {len(layer.inputs.names)} inputs")
    for window in manifest.windows:
        days = f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}"
        click.echo(f"  {window.name:<8} {days}  {window.payments:>9,} payments, {window.labelled:,} labelled, {window.frauds:,} frauds")
    thresholds = manifest.thresholds
    block = "never blocked" if thresholds.block is None else f"blocked from {thresholds.block:.4f}"
    click.echo(
        f"  reviewed from a score of {thresholds.review:.4f}, {block}: {thresholds.by}, {thresholds.alerts_per_day:,.1f} alerts a day"
    )
    click.echo(f"  {'':<24}{'ROC-AUC':>9}{'AP':>7}  frauds found at 0.1 %, 0.5 % and 1 % false positives")
    for name, figures in manifest.metrics.items():
        if "roc_auc" in figures:
            auc, precision, *found = (figures.get(each) or 0.0 for each in _SHOWN)
            click.echo(f"  {name:<24}{auc:>9.3f}{precision:>7.3f}  {'  '.join(f'{each:.1%}' for each in found)}")
