"""`aegis evaluate`: how good the layers are, on weeks that they have not seen."""

from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from aegis_app.cli import options
from aegis_app.cli.errors import Failure
from aegis_app.progress import counted

_day = click.DateTime(["%Y-%m-%d"])
_LAYERS = ("rules", "isolation_forest", "autoencoder", "supervised", "unsupervised", "unsupervised_label_free", "ensemble")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).toordinal()


@click.group()
def evaluate() -> None:
    """Measure the layers on data of which the end is known. Wants requirements/train.txt.

    Example: aegis evaluate handbook --data handbook.parquet --train-start 2018-06-09 --train-days 53 --test-start 2018-08-08
    """


def _number(day: datetime) -> int:
    """Days since 1970."""
    return day.toordinal() - _EPOCH


@evaluate.command()
@click.option("--data", "source", type=options.existing, required=True, help="The handbook's payments, or any with its columns.")
@click.option("--train-start", type=_day, required=True, help="First day of training; cards learn their past from all days before it.")
@click.option("--train-days", type=click.IntRange(1), required=True, help="Days that training covers.")
@click.option("--test-start", type=_day, required=True, help="First day of the test; the days since training are the delay of labels.")
@click.option("--weeks", type=click.IntRange(1), default=1, show_default=True, help="Weeks of test, each after a training of its own.")
@click.option("--resamples", type=click.IntRange(1), default=1000, show_default=True, help="Draws of the cards, for the intervals.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@click.option("--policy", type=options.existing, help="Policy file; AEGIS_POLICY where not given.")
@click.option(
    "--layer", "layers", type=click.Choice(_LAYERS), multiple=True, help="Measure this one; may be given again. All if not given."
)
@click.option(
    "--matrix",
    type=options.output_file,
    help="Keep the described payments in this parquet file, and take them from there if it is there: it saves most of the time.",
)
@click.option("--scores", type=options.output_file, help="Also write the scores of the payments tested: parquet.")
@click.option("--json", "out", type=options.output, help="Also write the figures as JSON; - is stdout, and then they are not shown.")
def handbook(
    source: Path,
    train_start: datetime,
    train_days: int,
    test_start: datetime,
    weeks: int,
    resamples: int,
    seed: int,
    policy: Path | None,
    layers: tuple[str, ...],
    matrix: Path | None,
    scores: Path | None,
    out: Path | None,
) -> None:
    """Follow the protocol of the Fraud-Detection-Handbook. Train, wait until frauds are known, test on a week without cards known by then.

    The days between training and test are the delay with which each fraud becomes known, to cards and merchants too.

    With --weeks more weeks follow, and training moves along. Figures are of each layer there is, with 95 % intervals from draws of the
    cards; docs/evaluation.md says what they mean. It takes minutes: the handbook has 1.4 million payments. A file of --matrix serves any
    weeks of the same payments, under the same policy and the same delay of labels.

    Example: aegis evaluate handbook --data handbook.parquet --train-start 2018-07-25 --train-days 7 --test-start 2018-08-08 --json out.json
    """
    settings = options.settings_with(policy=policy)
    import msgspec

    if not (find_spec("keras") and find_spec("xgboost")):
        raise Failure(f"an evaluation trains models: {options.TRAIN}")
    from aegis_app.policies import local_terms
    from models.datasets import read_payments
    from models.evaluation import consecutive, resample
    from models.evaluation.handbook import describe, frauds, judge, reach, read_described, write_scores
    from models.evaluation.report import as_json, lines

    first, last = _number(train_start), _number(test_start)
    windows = list(consecutive(first, train_days, last, weeks))
    read = partial(read_payments, source, format="handbook", currency=settings.base_currency)
    with options.counting("reading labels") as count:
        labels = list(frauds(counted(read(), count), windows[0].delay, reach(windows)))
    with ExitStack() as files:
        if matrix is None:
            described_in, wanted = Path(files.enter_context(TemporaryDirectory())) / "matrix.parquet", reach(windows)
        else:
            described_in, wanted = matrix, None
        if not described_in.exists():
            unfinished = described_in.with_name(f"{described_in.name}.part")
            with options.counting("describing") as count:
                describe(unfinished, counted(read(), count), labels, local_terms(settings), wanted)
            unfinished.rename(described_in)
        described = read_described(described_in, labels, reach(windows))
    chosen = [layer for layer in _LAYERS if layer in layers or not layers]
    with options.counting("training", len(windows)) as count:
        judged = []
        for window in windows:
            judged.append(judge(described, window, chosen))
            count(1)
    if scores is not None:
        write_scores(scores, described, judged)
    with options.counting("drawing", resamples) as count:
        found = resample([each.scored for each in judged], resamples, seed, count)
    if out != options.DASH:
        for line in lines(judged, found):
            click.echo(line)
    if out is not None:
        with options.writing(out) as file:
            file.write(msgspec.json.format(msgspec.json.encode(as_json(str(source), judged, found)), indent=2) + b"\n")


@evaluate.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("data", type=options.existing)
@options.layout
@options.judging
@click.option(
    "--test-start", type=options.instant, required=True, help="First day of the test, or second; cards and merchants learn from all before."
)
@click.option(
    "--genuine-weight",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Payments that each genuine one stands for, where DATA holds a sample of them.",
)
@click.option("--label-delay", type=click.FloatRange(min=0), default=7.0, show_default=True, help="Days until a fraud is known.")
@options.maturity
@click.option("--resamples", type=click.IntRange(1), default=1000, show_default=True, help="Draws of the cards, for the intervals.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@click.option("--policy", type=options.existing, help="Policy file; AEGIS_POLICY where not given.")
@click.option("--json", "out", type=options.output, help="Also write the figures as JSON; - is stdout, and then they are not shown.")
def bundle(
    bundle: Path,
    data: Path,
    layout: str | None,
    labels: Path | None,
    test_start: datetime,
    genuine_weight: float,
    label_delay: float,
    maturity: float,
    resamples: int,
    seed: int,
    policy: Path | None,
    out: Path | None,
) -> None:
    """Measure a bundle on payments. Each is decided and scored as a worker would have done it. DATA says what was fraud, or --labels.

    The test begins with --test-start and ends with DATA, or where --labels leaves payments out, --maturity days before; choose a start
    after all that the bundle was trained on. Figures are of each of its layers and of all together, with 95 % intervals from draws of the
    cards; docs/evaluation.md says what they mean.

    Example: aegis evaluate bundle bundles/march payments.csv --format sparkov --test-start 2020-01-01 --json out.json
    """
    settings = options.settings_with(policy=policy, bundle=bundle)
    import msgspec

    from aegis_app.bundles import local_bundle
    from aegis_app.policies import local_terms
    from models.datasets import read_payments
    from models.evaluation import resample
    from models.evaluation.known import known
    from models.evaluation.report import bundle_as_json, bundle_lines
    from models.evaluation.served import score

    read = partial(read_payments, data, format=layout, currency=settings.base_currency)
    begin = options.instant_ms(test_start)
    with options.counting("reading labels") as count:
        told = known(counted(read(), count), labels, label_delay, maturity, begin)
    terms, unrated = local_terms(settings, local_bundle(settings)), Counter[str]()
    with options.counting("scoring") as count:
        payments = (each.transaction for each in counted(read(), count) if each.transaction.at < told.end)
        served = score(options.noting_unrated(payments, terms.rates, unrated), told.labels, terms, begin, genuine_weight)
    options.report_unrated(unrated)
    with options.counting("drawing", resamples) as count:
        found = resample([(served.test, served.scores)], resamples, seed, count)
    if out != options.DASH:
        for line in bundle_lines(served.test, found):
            click.echo(line)
    if out is not None:
        with options.writing(out) as file:
            report = bundle_as_json(str(data), str(bundle), served.test, found)
            file.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
