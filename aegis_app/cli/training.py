"""`aegis train`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import click

from aegis_app.cli import options
from aegis_app.cli.offline import describe

if TYPE_CHECKING:
    from models.training import Target

_WEIGHTS = "weighted:"


def _ensemble(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[float, float] | None:
    if value == "stacking":
        return None
    try:
        supervised, unsupervised = map(float, value.removeprefix(_WEIGHTS).split(","))
    except ValueError:
        supervised = unsupervised = -1.0
    if not value.startswith(_WEIGHTS) or min(supervised, unsupervised) < 0 or supervised + unsupervised <= 0:
        raise click.BadParameter("stacking, or two weights such as weighted:0.7,0.3")
    return supervised, unsupervised


@click.command()
@click.argument("data", metavar="MATRIX", type=options.existing)
@click.option(
    "--format",
    "layout",
    metavar="NAME",
    help="MATRIX is a table of payments instead, of this format (`aegis datasets`): describe them first, as `aegis features` does.",
)
@click.option("--labels", type=options.existing, help="JSON lines or parquet with transaction_id and is_fraud, best with labelled_at.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bundle: a directory that is not there yet.")
@click.option(
    "--supervised",
    type=click.Choice(["xgboost", "random-forest", "none"]),
    default="xgboost",
    show_default=True,
    help="none: only the layers that need no labels.",
)
@click.option(
    "--ensemble",
    metavar="stacking|weighted:S,U",
    default="stacking",
    show_default=True,
    callback=_ensemble,
    help="How layers go together: fitted, or stated weights of the supervised layer and of the others.",
)
@click.option(
    "--alerts-per-day", type=click.FloatRange(min=0, min_open=True), help="Thresholds by what a team can review, rules' included."
)
@click.option(
    "--fpr", type=click.FloatRange(0, 1), help="Thresholds by the share of genuine payments stopped; 0.005 where nothing is said."
)
@click.option(
    "--cost",
    metavar="RECOVERY,BLOCK,SHARE,REVIEW",
    help="Thresholds by cost: share of a fraud that is got back; of blocking a genuine payment, in minor units and as a share of its "
    "amount; of a review, in minor units. For example 0.1,1000,0.02,300.",
)
@click.option("--label-delay", type=click.FloatRange(min=0), default=7.0, show_default=True, help="Days until a label is known.")
@click.option("--maturity", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Days until no label means genuine.")
@click.option("--until", type=options.instant, help="Payments from this day on, or second, are left out: to be judged by, later.")
@click.option("--search", type=click.IntRange(min=0), default=0, help="Trials for better settings of XGBoost.")
@click.option("--cold-start", is_flag=True, help="Layers without labels get no input that labels tell either.")
@click.option("--trees", type=click.IntRange(min=1), default=100, show_default=True, help="Of the isolation forest.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed and data give the same models.")
@options.as_json
def train(
    data: Path,
    layout: str | None,
    labels: Path | None,
    out: Path,
    supervised: Literal["xgboost", "random-forest", "none"],
    ensemble: tuple[float, float] | None,
    alerts_per_day: float | None,
    fpr: float | None,
    cost: str | None,
    label_delay: float,
    maturity: float,
    until: datetime | None,
    search: int,
    cold_start: bool,
    trees: int,
    seed: int,
    as_json: bool,
) -> None:
    """Train models on described payments. Three layers, which are written as a bundle.

    MATRIX is what `aegis features` wrote. Its time is cut into four windows, one to fit the layers, one to put them together, one to
    choose thresholds, one to report, with the days between them that labels take: --label-delay where every payment has a label, else
    the longer of that and --maturity. So it takes more than 21 days of payments, or more than 180. Needs requirements/train.txt.
    To describe payments takes longer than to train on them: keep a matrix that is used again.

    Example: aegis train matrix.parquet --labels labels.jsonl --alerts-per-day 200 --out bundles/march
    """
    settings = options.settings_with()
    from aegis_app.cli.errors import Failure
    from models.bundle import check_is_new

    check_is_new(out)
    try:
        from models.training import Plan, read_sample
        from models.training import train as train_bundle
    except ImportError as error:
        raise Failure(f"training needs {error.name}: {options.TRAIN}") from None

    plan = Plan(
        seed=seed,
        supervised=supervised,
        weights=ensemble,
        target=_target(alerts_per_day, fpr, cost),
        label_delay=label_delay,
        maturity=maturity,
        search=search,
        cold_start=cold_start,
        trees=trees,
        base_currency=settings.base_currency,
    )
    with ExitStack() as files:
        matrix = data
        if layout is not None:
            matrix = Path(files.enter_context(TemporaryDirectory())) / "matrix.parquet"
            describe(data, layout, settings, matrix, labels=labels, label_delay=None if labels else label_delay)
        show = files.enter_context(_showing())
        show("reading", 0, 1)
        sample = read_sample(matrix, labels, label_delay, maturity, None if until is None else options.instant_ms(until))
        manifest = train_bundle(sample, plan, out, show)
    if as_json:
        options.print_json(manifest)
    else:
        from aegis_app.cli.bundles import describe as show_bundle

        show_bundle(out, manifest)


def _target(alerts_per_day: float | None, fpr: float | None, cost: str | None) -> "Target":
    from models.bundle import Cost
    from models.training import AlertsPerDay, FalsePositives

    if sum(each is not None for each in (alerts_per_day, fpr, cost)) > 1:
        raise click.UsageError("thresholds are chosen by one of --alerts-per-day, --fpr and --cost")
    if alerts_per_day is not None:
        return AlertsPerDay(alerts_per_day)
    if cost is None:
        return FalsePositives(0.005 if fpr is None else fpr)
    try:
        recovery, block, share, review = map(float, cost.split(","))
    except ValueError:
        raise click.UsageError("--cost takes four numbers: RECOVERY,BLOCK,SHARE,REVIEW, such as 0.1,1000,0.02,300") from None
    if not 0 <= recovery <= 1 or min(block, share, review) < 0:
        raise click.UsageError("--cost: RECOVERY is a share from 0 to 1, and no cost is below 0")
    return Cost(recovery=recovery, block_minor=block, block_share=share, review_minor=review)


@contextmanager
def _showing() -> Iterator[Callable[[str, int, int], object]]:
    """A bar on a terminal; elsewhere a line on stderr for each thing that is begun."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        begun: set[str] = set()

        def say(what: str, done: int, of: int) -> None:
            if what not in begun:
                begun.add(what)
                click.echo(what, err=True)

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")
        yield lambda what, done, of: progress.update(task, description=what, completed=done, total=of)
