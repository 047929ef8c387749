"""Layers on the handbook's payments, by its protocol: trained anew for each week, on what the same replay as live says of each payment."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct

from aegis_app.core.features import CATALOGUE
from aegis_app.core.label import Label
from aegis_app.core.payment import DAY_MS, Transaction
from aegis_app.core.replay import replay
from aegis_app.core.terms import Terms
from models.datasets import Example
from models.datasets.matrix import Row, write_matrix
from models.datasets.parquet import CHUNK, pyarrow
from models.datasets.truth import fraud
from models.evaluation.errors import EvaluationError
from models.evaluation.figures import Codes, Figures, Flags, Floats, Test
from models.evaluation.layers import Trained
from models.evaluation.resampling import Scored
from models.evaluation.weeks import Week
from models.inputs import Rows, Vector

PUBLISHED: Final[Mapping[str, Figures]] = {
    "logistic regression": {"roc_auc": 0.871, "average_precision": 0.606, "card_precision_100": 0.291},
    "random forest": {"roc_auc": 0.867, "average_precision": 0.658, "card_precision_100": 0.287},
    "XGBoost": {"roc_auc": 0.862, "average_precision": 0.639, "card_precision_100": 0.273},
}
"""By the handbook, of models trained on 7 days from 2018-07-25 and tested on 7 from 2018-08-08."""
CEILING: Final[Mapping[str, tuple[float, float]]] = {
    "roc_auc": (0.89, 0.90),
    "average_precision": (0.79, 0.81),
    "card_precision_100": (0.306, 0.313),
}
"""What to expect in the same week of a detector that knows all but the frauds that nobody can see; clearly more is a leak."""
_SEVERITY: Final = ("allow", "review", "block")


class Described(Struct, frozen=True):
    """Payments with what is known of them when they are decided, and what was true: a row for each, in the order of time."""

    transaction_id: Vector
    day: Codes
    """Since 1970, UTC."""
    card: Codes
    is_fraud: Flags
    amount: Floats
    """In minor units of the base currency."""
    verdict: Floats
    """Of rules: 0 allow, 1 review, 2 block."""
    features: Rows
    """In the order of `CATALOGUE`; `nan` is not known."""


def frauds(examples: Iterable[Example], delay: float, days: range) -> Iterator[Label]:
    """A label of each fraud, known `delay` days after it. None says that a payment is genuine: nobody complains about those.

    Raises `EvaluationError` where nothing is known of a payment of these `days`.
    """
    for example in examples:
        txn = example.transaction
        if example.is_fraud is None and txn.at // DAY_MS in days:
            raise EvaluationError(f"payment {txn.transaction_id} has no label, and what is not labelled is not genuine")
        if example.is_fraud:
            yield fraud(txn, delay)


def reach(weeks: Sequence[Week]) -> range:
    """The days from the first of training to the last of the tests."""
    return range(min(week.train_start for week in weeks), max(week.test_end for week in weeks))


def describe(path: Path, examples: Iterable[Example], labels: Iterable[Label], terms: Terms, days: range | None = None) -> None:
    """Decide and learn all payments from the first of the file, and write to `path` how each was described: of `days` alone, if given.

    `labels` are learnt as they become known. Payments come in the order of time. Raises `EvaluationError`.
    """
    payments = _ordered(example.transaction for example in examples)
    known = takewhile(lambda txn: days is None or txn.at // DAY_MS < days.stop, payments)
    write_matrix(path, _rows(replay(known, terms, labels), 0 if days is None else days.start))
    for _ in payments:
        pass  # none of the weeks may be among them


def _rows(screened: Iterable[tuple[Transaction, Any]], begin: int) -> Iterator[Row]:
    for txn, each in screened:
        if each.seen is not None and txn.at // DAY_MS >= begin:
            yield txn, each.ruling.verdict, each.seen


def _ordered(payments: Iterable[Transaction]) -> Iterator[Transaction]:
    before = 0
    for txn in payments:
        if txn.at < before:
            raise EvaluationError(f"payment {txn.transaction_id} is earlier than the one before it: sort the file by time")
        before = txn.at
        yield txn


def read_described(path: Path, labels: Iterable[Label], days: range) -> Described:
    """What `describe` or `aegis features` wrote, of these days; fraud is what `labels` speak of. Raises `EvaluationError`."""
    arrow, parquet = pyarrow()
    parts = []
    try:
        file = parquet.ParquetFile(path)
        if missing := [name for name in CATALOGUE if name not in file.schema_arrow.names]:
            raise EvaluationError(f"{path} lacks {', '.join(missing)}: describe the payments anew, with this Aegis")
        for batch in file.iter_batches(8 * CHUNK):
            day = batch.column("timestamp").to_numpy(zero_copy_only=False).astype("datetime64[D]").astype(np.int64)
            rows = np.flatnonzero((days.start <= day) & (day < days.stop))
            if len(rows):
                held = batch.take(arrow.array(rows))
                columns = [held.column(name).cast("float32").to_numpy(zero_copy_only=False) for name in CATALOGUE]
                parts.append((held.select(["transaction_id", "card_id", "verdict"]), day[rows], np.column_stack(columns)))
    except arrow.ArrowException as error:
        raise EvaluationError(f"{path}: {' '.join(str(error).split())}") from None
    if not parts:
        raise EvaluationError("the file has no payment in these weeks")
    said, day, features = (
        arrow.Table.from_batches([part[0] for part in parts]),
        *(np.concatenate([part[place] for part in parts]) for place in (1, 2)),
    )
    amount = features[:, list(CATALOGUE).index("amount")].astype(float)
    if np.isnan(amount).any():
        raise EvaluationError(f"{int(np.isnan(amount).sum()):,} payments have no amount in the base currency: give AEGIS_RATES")
    fraud = arrow.array([label.transaction_id for label in labels], arrow.string())
    return Described(
        said["transaction_id"].to_numpy(),
        day,
        said["card_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64),
        arrow.compute.is_in(said["transaction_id"], fraud).to_numpy(),
        amount,
        arrow.compute.index_in(said["verdict"], arrow.array(_SEVERITY)).to_numpy().astype(float),
        features,
    )


class Judged(Struct, frozen=True):
    """A week: its test, where its payments stand, and their scores by layer."""

    week: Week
    places: Vector
    test: Test
    scores: dict[str, Floats]

    @property
    def scored(self) -> Scored:
        """For `resample`."""
        return self.test, self.scores


def judge(described: Described, week: Week, layers: Sequence[str], seed: int = 0) -> Judged:
    """Train these layers and let them score the week's test. Raises `EvaluationError`."""
    train = np.flatnonzero(week.train_rows(described.day))
    places = np.flatnonzero(week.test_rows(described.day, described.card, described.is_fraud))
    test = Test(described.is_fraud[places], described.amount[places], described.card[places], described.day[places])
    if described.is_fraud[train].all() or not described.is_fraud[train].any():
        raise EvaluationError(f"the {len(train):,} payments to train on are not of both kinds, fraud and genuine")
    trained = Trained(described.features, described.is_fraud, described.verdict, train, places, seed)
    return Judged(week, places, test, {name: trained.scores(name) for name in layers})


def write_scores(path: Path, described: Described, weeks: Sequence[Judged]) -> None:
    """A row for each payment tested: `transaction_id`, whether `is_fraud`, and the score of each layer."""
    arrow, parquet = pyarrow()
    places = np.concatenate([week.places for week in weeks])
    columns = {"transaction_id": described.transaction_id[places], "is_fraud": described.is_fraud[places]}
    layers = {name: np.concatenate([week.scores[name] for week in weeks]) for name in weeks[0].scores}
    parquet.write_table(arrow.table({name: arrow.array(values.tolist()) for name, values in {**columns, **layers}.items()}), path)
