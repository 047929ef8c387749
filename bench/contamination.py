"""What frauds that pass for genuine do to an autoencoder: the same training with and without a few of them among its rows.

By the handbook's protocol, on the matrix that `aegis evaluate handbook --matrix` keeps.

python -m bench.contamination --help
"""

from datetime import date
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from aegis_app.core.features import CATALOGUE
from models.datasets import read_payments
from models.evaluation import Test, consecutive, resample
from models.evaluation.handbook import frauds, reach, read_described
from models.evaluation.report import SHOWN
from models.training import autoencoder, prepare

DELAY: Final = 7
EPOCH: Final = date(1970, 1, 1)
NAMES: Final = tuple(CATALOGUE)


@click.command()
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("matrix", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--share", type=click.FloatRange(0, 1), default=0.005, show_default=True, help="Of frauds among the rows.")
@click.option("--test-start", type=click.DateTime(["%Y-%m-%d"]), default="2018-07-04", show_default=True)
@click.option("--train-days", type=click.IntRange(1), default=30, show_default=True)
def main(data: Path, matrix: Path, share: float, test_start: Any, train_days: int) -> None:
    """Print the figures of both autoencoders, and their difference with its 95 % interval from draws of the cards.

    Example: python -m bench.contamination handbook.parquet matrix.parquet
    """
    first = (test_start.date() - EPOCH).days
    (week,) = consecutive(first - DELAY - train_days, train_days, first, 1)
    described = read_described(matrix, frauds(read_payments(data, format="handbook"), DELAY, reach([week])), reach([week]))
    train = np.flatnonzero(week.train_rows(described.day))
    rows = np.flatnonzero(week.test_rows(described.day, described.card, described.is_fraud))
    test = Test(described.is_fraud[rows], described.amount[rows], described.card[rows], described.day[rows])
    genuine, bad = (train[described.is_fraud[train] == kind] for kind in (False, True))
    some = bad[:: max(1, round(len(bad) / (share * len(genuine))))]
    here = described.features[genuine]
    inputs = prepare.scaled(NAMES, here, prepare.unusual(prepare.useful(NAMES, here)[0], cold_start=False)).of(NAMES)
    scores = {}
    for name, taught in (("genuine alone", genuine), (f"with {len(some) / len(genuine):.2%} frauds", np.sort(np.append(genuine, some)))):
        network = autoencoder.fit(inputs(described.features[taught]), autoencoder.EPOCHS, 0, lambda done, of: None)
        scores[name] = autoencoder.mean_squared_error(network, inputs(described.features[rows]))
    found = resample([(test, scores)], 300)
    clean, mixed = scores
    for figure, shown in SHOWN.items():
        above, (low, high) = found.difference(mixed, clean, figure)
        figures = ", ".join(f"{name} {found.point[name][figure]:.3f}" for name in scores)
        click.echo(f"{shown}: {figures}, {above:+.3f} ({low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    main()
