"""What each group of features tells: a plain XGBoost with the group beside the payment's own words, and with all groups but it.

By the handbook's protocol, on the matrix that `aegis evaluate handbook --matrix` keeps, and on the weeks that features are chosen by.

python -m bench.groups --help
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from msgspec.structs import fields

from aegis_app.core.features import CATALOGUE, GROUPS
from models.datasets import read_payments
from models.evaluation import Resampled, Test, consecutive, resample
from models.evaluation.figures import Floats
from models.evaluation.handbook import Described, frauds, reach, read_described
from models.evaluation.resampling import Scored
from models.evaluation.weeks import Week
from models.inputs import Vector
from models.training import prepare, supervised

DELAY: Final = 7
EPOCH: Final = date(1970, 1, 1)
BASICS: Final = ("amount", "hour", "weekday", "kind", "channel", "category", "country", "card_present")
"""What a payment says itself."""
SETTINGS: Final[dict[str, Any]] = {"rounds": 150, "max_depth": 5, "learning_rate": 0.1, "subsample": 0.8, "min_child_weight": 5.0}
FIGURE: Final = "average_precision"
ALL, OWN = "all", "the payment itself"
ALONE, WITHOUT = "with {}", "without {}"


def chosen(useful: Sequence[str]) -> dict[str, Sequence[str]]:
    """Features of each model by its name; groups of which no feature varies in these data are left out."""
    own = [name for name in useful if name in BASICS]
    models: dict[str, Sequence[str]] = {ALL: useful, OWN: own}
    for group, kind in GROUPS.items():
        members = {field.name for field in fields(kind)} & set(useful) - set(BASICS)
        if members:
            models[ALONE.format(group)] = [name for name in useful if name in own or name in members]
            models[WITHOUT.format(group)] = [name for name in useful if name not in members]
    return models


def judged(described: Described, week: Week, count: Callable[[int], object]) -> tuple[Test, dict[str, Floats]]:
    """The week's test, and its scores by each model after the week's training."""
    names = tuple(CATALOGUE)
    train = np.flatnonzero(week.train_rows(described.day))
    rows = np.flatnonzero(week.test_rows(described.day, described.card, described.is_fraud))
    useful, _ = prepare.useful(names, described.features[train])
    scores = {}
    for model, features in chosen(useful).items():
        read = prepare.plain(names, described.features[train], features).of(names)
        scores[model] = _scores(read(described.features[train]), described.is_fraud[train], read(described.features[rows]))
        count(1)
    return Test(described.is_fraud[rows], described.amount[rows], described.card[rows], described.day[rows]), scores


def _scores(train: Vector, is_fraud: Vector, test: Vector) -> Floats:
    booster = supervised.boost(train, is_fraud, np.ones(len(train)), SETTINGS, 0, lambda done, of: None)
    found: Any = booster.inplace_predict(test, predict_type="margin", validate_features=False)
    return np.asarray(found, float)


def table(found: Resampled) -> Iterator[str]:
    """A row for each group, those that all others miss most first."""
    for name in (ALL, OWN):
        low, high = found.interval(name, FIGURE)
        yield f"{name}: AP {found.point[name][FIGURE]:.3f} ({low:.3f} to {high:.3f})"
    yield ""
    yield "| group | features | beside the payment itself | where it is left out |"
    yield "|---|---|---|---|"
    groups = [group for group in GROUPS if WITHOUT.format(group) in found.point]
    for group in sorted(groups, key=lambda group: found.point[WITHOUT.format(group)][FIGURE]):
        number = sum(field.name not in BASICS for field in fields(GROUPS[group]))
        cells = (_above(found, ALONE.format(group), OWN), _above(found, WITHOUT.format(group), ALL))
        yield f"| `{group}` | {number} | {' | '.join(cells)} |"


def _above(found: Resampled, model: str, other: str) -> str:
    above, (low, high) = found.difference(model, other, FIGURE)
    return f"{above:+.3f} ({low:+.3f} to {high:+.3f})"


def evaluated(data: Path, matrix: Path, weeks: Sequence[Week], count: Callable[[int], object]) -> Iterator[Scored]:
    labels = list(frauds(read_payments(data, format="handbook"), DELAY, reach(weeks)))
    for week in weeks:
        yield judged(read_described(matrix, labels, reach([week])), week, count)


@click.command()
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("matrix", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--test-start", type=click.DateTime(["%Y-%m-%d"]), default="2018-06-20", show_default=True)
@click.option("--train-days", type=click.IntRange(1), default=30, show_default=True)
@click.option("--weeks", type=click.IntRange(1), default=4, show_default=True)
@click.option("--resamples", type=click.IntRange(1), default=200, show_default=True)
def main(data: Path, matrix: Path, test_start: Any, train_days: int, weeks: int, resamples: int) -> None:
    """Print what each group of features adds to the average precision, with paired 95 % intervals from draws of the cards.

    DATA are the handbook's payments, MATRIX what `aegis evaluate handbook --matrix` kept of them.

    Example: python -m bench.groups handbook.parquet matrix.parquet
    """
    first = (test_start.date() - EPOCH).days
    several = list(consecutive(first - DELAY - train_days, train_days, first, weeks))
    with click.progressbar(length=weeks * (2 + 2 * len(GROUPS)), label="training", show_pos=True) as bar:
        scored = list(evaluated(data, matrix, several, bar.update))
    for line in table(resample(scored, resamples)):
        click.echo(line)


if __name__ == "__main__":
    main()
