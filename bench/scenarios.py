"""Where ROC-AUC is lost: that of each way in which the handbook's frauds were made, against all genuine payments of the test.

Of a compromised terminal nobody can know before the first of its frauds does: those of the delay are told apart.

python -m bench.scenarios --help
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from bench.published import DAY, DELAY, EPOCH, Columns, judged, ours, read
from models.datasets.parquet import pyarrow
from models.evaluation import consecutive
from models.evaluation.figures import Codes, Flags, roc_auc

LASTS: Final = 28
"""Days for which a terminal is compromised."""


def kinds(columns: Columns, scenario: Codes) -> Mapping[str, Flags]:
    """Which payments are frauds of which kind."""
    began: dict[int, int] = {}
    unseen = np.zeros(len(scenario), bool)
    for row in np.flatnonzero(scenario == 2):
        terminal, at = int(columns.merchant[row]), int(columns.seconds[row])
        if at - began.get(terminal, -LASTS * DAY) >= LASTS * DAY:
            began[terminal] = at
        unseen[row] = at - began[terminal] < DELAY * DAY
    return {
        "1, a large amount": scenario == 1,
        "2, a terminal whose first fraud is known": (scenario == 2) & ~unseen,
        f"2, the first {DELAY} days of a terminal": unseen,
        "3, a card that spends five times as much": scenario == 3,
    }


@click.command()
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("scores", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--test-start", type=click.DateTime(["%Y-%m-%d"]), default="2018-07-18", show_default=True)
@click.option("--weeks", type=click.IntRange(1), default=6, show_default=True)
@click.option("--layer", "layers", multiple=True, default=("supervised", "unsupervised"), show_default=True)
def main(data: Path, scores: Path, test_start: Any, weeks: int, layers: tuple[str, ...]) -> None:
    """Print a table of the scores that `aegis evaluate handbook --scores` wrote: the mean of the weeks, each fraud counting as one.

    Example: python -m bench.scenarios handbook.parquet ours.parquet
    """
    _, parquet = pyarrow()
    columns = read(data)
    of_kind = kinds(columns, parquet.read_table(data, columns=["TX_FRAUD_SCENARIO"])["TX_FRAUD_SCENARIO"].to_numpy())
    first = (test_start.date() - EPOCH).days
    found: dict[str, list[tuple[int, list[float]]]] = {kind: [] for kind in of_kind}
    for week in consecutive(first - 2 * DELAY, DELAY, first, weeks):
        test, rows = judged(columns, week)
        said = ours(scores, columns.transaction[rows])
        for kind, frauds in of_kind.items():
            chosen = frauds[rows] | ~test.is_fraud
            if number := int(frauds[rows].sum()):
                found[kind].append((number, [roc_auc(test.is_fraud[chosen], said[layer][chosen]) for layer in layers]))
    click.echo(f"| scenario | frauds | {' | '.join(f'`{layer}`' for layer in layers)} |\n|---|---|{'---|' * len(layers)}")
    for kind, parts in found.items():
        if parts:
            numbers, figures = zip(*parts, strict=True)
            click.echo(
                f"| {kind} | {sum(numbers)} | {' | '.join(f'{each:.3f}' for each in np.average(figures, axis=0, weights=numbers))} |"
            )


if __name__ == "__main__":
    main()
