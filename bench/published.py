"""The models that the Fraud-Detection-Handbook published, on its own 15 features, for any of its weeks: what ours is compared with.

Features and models as in its chapters 3 and 5, from the columns of its file alone. Nothing here is Aegis but protocol and figures: that the
published numbers come out proves them right.

python -m bench.published --help
"""

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from msgspec import Struct

from models.datasets.parquet import pyarrow
from models.evaluation import Resampled, Test, Week, consecutive, resample
from models.evaluation.figures import Codes, Flags, Floats
from models.evaluation.resampling import RESAMPLES

WINDOWS: Final = (1, 7, 30)
DELAY: Final = 7
DAY: Final = 86_400
EPOCH: Final = date(1970, 1, 1)


class Columns(Struct, frozen=True):
    """Of the file, a row for each payment, in the order of time."""

    transaction: Codes
    seconds: Codes
    """Since 1970."""
    card: Codes
    merchant: Codes
    amount: Floats
    is_fraud: Flags

    @property
    def day(self) -> Codes:
        return self.seconds // DAY


def read(path: Path) -> Columns:
    _, parquet = pyarrow()
    table = parquet.read_table(path)

    def column(name: str, kind: Any) -> Any:
        return table[name].to_numpy().astype(kind)

    return Columns(
        column("TRANSACTION_ID", np.int64),
        column("TX_DATETIME", "datetime64[s]").astype(np.int64),
        column("CUSTOMER_ID", np.int64),
        column("TERMINAL_ID", np.int64),
        column("TX_AMOUNT", float),
        column("TX_FRAUD", bool),
    )


def features(columns: Columns) -> Floats:
    """The published 15: amount, weekend, night; the card's counts and mean amounts; the terminal's delayed counts and shares of fraud."""
    weekday = (columns.day + 3) % 7  # 1970 began on a Thursday
    found = [columns.amount, weekday >= 5, columns.seconds % DAY // 3600 <= 6]
    one = np.ones(len(columns.amount))
    for days in WINDOWS:
        count = _rolling(columns.card, columns.seconds, one, days)
        found += [count, _rolling(columns.card, columns.seconds, columns.amount, days) / count]
    before = [_rolling(columns.merchant, columns.seconds, values, DELAY) for values in (one, columns.is_fraud.astype(float))]
    for days in WINDOWS:
        count = _rolling(columns.merchant, columns.seconds, one, DELAY + days) - before[0]
        frauds = _rolling(columns.merchant, columns.seconds, columns.is_fraud.astype(float), DELAY + days) - before[1]
        found += [count, np.divide(frauds, count, out=np.zeros_like(frauds), where=count > 0)]
    return np.column_stack(found).astype(float)


def _rolling(group: Codes, seconds: Codes, values: Floats, days: int) -> Floats:
    """For each row the sum over its group in the `days` that end with it, itself included; rows are in the order of time."""
    order = np.argsort(group, kind="stable")
    place = group[order] * 2**40 + seconds[order]
    total = np.append(0, values[order].cumsum())
    begin = np.searchsorted(place, place - days * DAY, side="right")
    result = np.empty(len(values))
    result[order] = total[1:] - total[begin]
    return result


def models() -> Mapping[str, Any]:
    """As published: defaults, and one seed. Those of XGBoost were others then: exact splits, and a half as the first guess."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBClassifier

    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(random_state=0)),
        "random forest": RandomForestClassifier(random_state=0, n_jobs=-1),
        "XGBoost": XGBClassifier(tree_method="exact", base_score=0.5, random_state=0, n_jobs=-1),
    }


def judged(columns: Columns, week: Week) -> tuple[Test, Codes]:
    """The payments of a week's test, and the places of their rows."""
    rows = np.flatnonzero(week.test_rows(columns.day, columns.card, columns.is_fraud))
    return Test(columns.is_fraud[rows], columns.amount[rows], columns.card[rows], columns.day[rows]), rows


def scores(columns: Columns, described: Floats, week: Week, model: Any) -> Floats:
    """Of the week's test, by `model` after the week's training."""
    rows = np.flatnonzero(week.train_rows(columns.day))
    model.fit(described[rows], columns.is_fraud[rows].astype(int))
    result: Floats = model.predict_proba(described[judged(columns, week)[1]])[:, 1]
    return result


FIGURES: Final = ("roc_auc", "average_precision", "card_precision_100")


def table(found: Resampled, other: str | None) -> Iterator[str]:
    yield "| | ROC-AUC | AP | CP@100 |" + ("" if other is None else f" AP above {other} |")
    yield "|---|---|---|---|" + ("" if other is None else "---|")
    for layer, point in found.point.items():
        cells = [f"{point[name]:.3f} ({low:.3f} to {high:.3f})" for name in FIGURES for low, high in [found.interval(layer, name)]]
        if other is not None:
            above, (low, high) = found.difference(layer, other, "average_precision")
            cells.append("" if layer == other else f"{above:+.3f} ({low:+.3f} to {high:+.3f})")
        yield f"| {layer} | {' | '.join(cells)} |"


@click.command()
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--test-start", type=click.DateTime(["%Y-%m-%d"]), default="2018-08-08", show_default=True)
@click.option("--train-days", type=click.IntRange(1), default=7, show_default=True)
@click.option("--weeks", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--scores", "held", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Of `aegis evaluate handbook --scores`."
)
@click.option("--resamples", type=click.IntRange(1), default=RESAMPLES, show_default=True, help="Draws of the cards, for the intervals.")
def main(data: Path, test_start: Any, train_days: int, weeks: int, held: Path | None, resamples: int) -> None:
    """Train the published models on weeks of the handbook's file, and print their figures, and ours beside the best of them.

    Example: python -m bench.published handbook.parquet --test-start 2018-07-18 --weeks 6 --scores ours.parquet
    """
    columns = read(data)
    described, first = features(columns), (test_start.date() - EPOCH).days
    scored = []
    for week in consecutive(first - DELAY - train_days, train_days, first, weeks):
        test, rows = judged(columns, week)
        aegis = {} if held is None else ours(held, columns.transaction[rows])
        layers = {name: scores(columns, described, week, model) for name, model in models().items()}
        scored.append((test, layers | {f"Aegis, {name}": found for name, found in aegis.items()}))
        click.echo(f"test from day {week.test_start - first}: {len(rows):,} payments, {test.is_fraud.sum():,} frauds", err=True)
    found = resample(scored, resamples)
    best = max(models(), key=lambda name: found.point[name]["average_precision"])
    for line in table(found, None if held is None else best):
        click.echo(line)


def ours(path: Path, transactions: Codes) -> dict[str, Floats]:
    """Layers of a file of scores, for these payments."""
    _, parquet = pyarrow()
    held = parquet.read_table(path)
    place = {int(transaction): number for number, transaction in enumerate(held["transaction_id"].to_pylist())}
    rows = [place[int(transaction)] for transaction in transactions]
    return {name: held[name].to_numpy()[rows] for name in held.column_names if name not in ("transaction_id", "is_fraud")}


if __name__ == "__main__":
    main()
