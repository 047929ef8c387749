"""Whether the readers of published data sets are right: plain models on what they read, beside what others got from the same files.

No memory of cards or merchants: amount, kind, category, hour and attributes of each payment alone, which tell most frauds of these sets.

python -m bench.datasets --help
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from msgspec import Struct

from aegis_app.core.encoding import category_code, kind_code
from aegis_app.core.payment import DAY_MS, HOUR_MS
from models.datasets import Example, read_payments
from models.datasets.parquet import pyarrow
from models.evaluation import Test, resample
from models.evaluation.figures import Flags, Floats

SAMPLE: Final = 14.14
"""Genuine payments of the whole day for each of ULB's random sample."""


class Plan(Struct, frozen=True):
    """A file, when its test begins and ends, and what others got."""

    file: str
    begin: datetime
    end: datetime
    reference: str


PLANS: Final = {
    "ULB, first day": Plan(
        "ulb_creditcard_day1_partial.parquet",
        datetime(2013, 9, 1, 13, 53, 20, tzinfo=UTC),
        datetime(2013, 9, 2, tzinfo=UTC),
        "XGBoost 0.961, weighted AP 0.80",
    ),
    "Sparkov, made anew": Plan(
        "sparkov_regenerated_2019-01_2020-02.parquet",
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2020, 3, 1, tzinfo=UTC),
        "a table by category, hour and amount 0.9925, AP 0.797; XGBoost with a card's past 0.9998, AP 0.980",
    ),
    "PaySim, made anew": Plan(
        "paysim_regenerated_steps_1_480.parquet",
        datetime(2019, 1, 14, 8, tzinfo=UTC),
        datetime(2019, 1, 21, tzinfo=UTC),
        "random forest 1.000, AP 0.995",
    ),
}


def inputs(example: Example) -> list[float]:
    """Of a payment, what it says itself."""
    txn = example.transaction
    known = [kind_code(txn.kind), category_code(txn.merchant_category), txn.amount_minor, txn.at % DAY_MS // HOUR_MS]
    return [*known, *txn.attributes.values()]


def model(name: str) -> Any:
    """A forest for PaySim, as others had; boosted trees for the rest."""
    from sklearn.ensemble import RandomForestClassifier
    from xgboost import XGBClassifier

    if name.startswith("PaySim"):
        return RandomForestClassifier(random_state=0, n_jobs=-1)
    return XGBClassifier(n_estimators=300, max_depth=4, learning_rate=0.05, subsample=0.8, colsample_bytree=0.8, random_state=0)


def measured(name: str, plan: Plan, folder: Path) -> Iterator[str]:
    examples = list(read_payments(folder / plan.file))
    known = np.array([inputs(example) for example in examples], np.float32)
    is_fraud = np.array([example.is_fraud for example in examples])
    at = np.array([example.transaction.at for example in examples])
    begin, end = (int(each.timestamp() * 1000) for each in (plan.begin, plan.end))
    train, test = at < begin, (begin <= at) & (at < end)
    weight = np.ones(len(examples))
    if name.startswith("ULB"):
        test &= is_fraud | _sampled(folder / plan.file)
        weight = np.where(is_fraud, 1.0, SAMPLE)
    card = np.unique([example.transaction.card_id for example in examples], return_inverse=True)[1]
    amount = np.array([example.transaction.amount_minor for example in examples])
    fitted = model(name).fit(known[train], is_fraud[train])
    scores: Floats = fitted.predict_proba(known[test])[:, 1]
    judged = Test(is_fraud[test], amount[test], card[test], at[test] // DAY_MS, weight[test])
    found = resample([(judged, {name: scores})], 300)
    figures = [
        f"{found.point[name][figure]:.4f} ({low:.4f} to {high:.4f})" for figure in FIGURES for low, high in [found.interval(name, figure)]
    ]
    yield f"| {name} | {test.sum():,}, {is_fraud[test].sum():,} | {' | '.join(figures)} | {plan.reference} |"


FIGURES: Final = ("roc_auc", "average_precision", "recall_at_fpr_0.01")


def _sampled(path: Path) -> Flags:
    _, parquet = pyarrow()
    sampled: Flags = parquet.read_table(path, columns=["in_random_sample"])["in_random_sample"].to_numpy()
    return sampled


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", type=click.Choice(list(PLANS)), multiple=True, help="Not all of them.")
def main(folder: Path, only: tuple[str, ...]) -> None:
    """Train a plain model on each published file of FOLDER, and print its figures on the later part, with 95 % intervals.

    Example: python -m bench.datasets data
    """
    click.echo("| | payments, frauds | ROC-AUC | AP | recall at 1 % FPR | others |\n|---|---|---|---|---|---|")
    for name, plan in PLANS.items():
        if not only or name in only:
            for line in measured(name, plan, folder):
                click.echo(line)


if __name__ == "__main__":
    main()
