"""Layers on the handbook's payments, by its protocol: trained anew for each week, on what the same replay as live says of each payment."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice, takewhile, tee
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from aegis_app.core.label import Label, Source
from aegis_app.core.payment import DAY_MS
from aegis_app.core.replay import replay
from aegis_app.core.terms import Terms
from models.datasets import Example
from models.datasets.parquet import CHUNK, pyarrow
from models.evaluation.errors import EvaluationError
from models.evaluation.figures import Codes, Figures, Flags, Floats, Test
from models.evaluation.resampling import Scored
from models.evaluation.weeks import Week

PUBLISHED: Final[Mapping[str, Figures]] = {
    "logistic regression": {"roc_auc": 0.871, "average_precision": 0.606, "card_precision_100": 0.291},
    "random forest": {"roc_auc": 0.867, "average_precision": 0.658, "card_precision_100": 0.287},
    "XGBoost": {"roc_auc": 0.862, "average_precision": 0.639, "card_precision_100": 0.273},
}
"""By the handbook, of models trained on 7 days from 2018-07-25 and tested on 7 from 2018-08-08."""
FAILED: Final = 0.5
"""The score where rules could not tell, which asks for review as a hit of one rule does."""

Places = NDArray[np.intp]


class Described(Struct, frozen=True):
    """Payments with what is known of them when they are decided, and what was true: a row for each, in the order of time."""

    transaction_id: NDArray[np.str_]
    day: Codes
    """Since 1970, UTC."""
    card: Codes
    is_fraud: Flags
    amount: Floats
    """In minor units of the base currency."""
    rules: Floats
    """Score of the ruling."""
    features: NDArray[np.float32]
    """In the order of `CATALOGUE`; `nan` is not known."""


Layer = Callable[[Described, Places, Places], Floats]
"""Scores of the payments at the second places, learnt from those at the first."""


def frauds(examples: Iterable[Example], delay: int) -> Iterator[Label]:
    """A label of each fraud, known `delay` days after it. None says that a payment is genuine: nobody complains about those."""
    for example in examples:
        if example.is_fraud:
            txn = example.transaction
            yield Label(
                transaction_id=txn.transaction_id,
                card_id=txn.card_id,
                merchant_id=txn.merchant_id,
                timestamp=txn.timestamp,
                is_fraud=True,
                labelled_at=txn.timestamp + timedelta(days=delay),
                source=Source.CHARGEBACK,
                amount_minor=txn.amount_minor,
                currency=txn.currency,
                device_id=txn.device_id,
                country=txn.country,
            )


def describe(examples: Iterable[Example], labels: Iterable[Label], terms: Terms, weeks: Sequence[Week]) -> Described:
    """Decide and learn all payments from the first of the file, and keep those from the first training to the last test.

    `labels` are learnt as they become known. Payments come in the order of time, and all have a verdict. Raises `EvaluationError`.
    """
    rows, parts = _rows(examples, labels, terms, weeks), []
    while chunk := list(islice(rows, CHUNK)):
        *columns, features = zip(*chunk, strict=True)
        parts.append((*(np.array(column) for column in columns), np.array(features, np.float32)))  # what is None becomes nan
    if not parts:
        raise EvaluationError("the file has no payment in these weeks")
    transaction_id, day, card, is_fraud, amount, rules, described = (np.concatenate(part) for part in zip(*parts, strict=True))
    codes = np.unique(card, return_inverse=True)[1]
    return Described(transaction_id, day, codes, is_fraud, amount.astype(float), rules.astype(float), described)


def _rows(examples: Iterable[Example], labels: Iterable[Label], terms: Terms, weeks: Sequence[Week]) -> Iterator[tuple[Any, ...]]:
    begin, end = min(week.train_start for week in weeks), max(week.test_end for week in weeks)
    ordered = _ordered(examples)
    known, copy = tee(takewhile(lambda example: example.transaction.at // DAY_MS < end, ordered))
    for example, (txn, screened) in zip(known, replay((each.transaction for each in copy), terms, labels), strict=True):
        day = txn.at // DAY_MS
        if day < begin or screened.seen is None:
            continue
        if example.is_fraud is None:
            raise EvaluationError(f"payment {txn.transaction_id} has no label, and what is not labelled is not genuine")
        amount = terms.rates.to_base(txn.amount_minor, txn.currency)
        if amount is None:
            raise EvaluationError(f"there is no rate from {txn.currency} to {terms.rates.base}: give AEGIS_RATES")
        score = screened.ruling.score
        yield (
            txn.transaction_id,
            day,
            txn.card_id,
            example.is_fraud,
            amount,
            FAILED if score is None else score,
            screened.seen.row(),
        )
    for _ in ordered:
        pass  # none of the weeks may be among them


def _ordered(examples: Iterable[Example]) -> Iterator[Example]:
    before = 0
    for example in examples:
        if example.transaction.at < before:
            raise EvaluationError(f"payment {example.transaction.transaction_id} is earlier than the one before it: sort the file by time")
        before = example.transaction.at
        yield example


def rules(described: Described, train: Places, test: Places) -> Floats:
    """What policy says: it learns nothing."""
    return described.rules[test]


def supervised(described: Described, train: Places, test: Places) -> Floats:
    """XGBoost on every feature."""
    from xgboost import XGBClassifier

    model = XGBClassifier(
        n_estimators=300, max_depth=5, learning_rate=0.05, subsample=0.8, colsample_bytree=0.6, min_child_weight=5, random_state=0
    )
    model.fit(described.features[train], described.is_fraud[train])
    scores: Floats = model.predict_proba(described.features[test])[:, 1].astype(float)
    return scores


LAYERS: Final[Mapping[str, Layer]] = {"rules": rules, "supervised": supervised}


class Judged(Struct, frozen=True):
    """A week: its test, where its payments stand, and their scores by layer."""

    week: Week
    places: Places
    test: Test
    scores: dict[str, Floats]

    @property
    def scored(self) -> Scored:
        """For `resample`."""
        return self.test, self.scores


def judge(described: Described, week: Week, layers: Mapping[str, Layer] = LAYERS) -> Judged:
    """Train every layer and let it score the week's test. Raises `EvaluationError`."""
    train = np.flatnonzero(week.train_rows(described.day))
    places = np.flatnonzero(week.test_rows(described.day, described.card, described.is_fraud))
    test = Test(described.is_fraud[places], described.amount[places], described.card[places], described.day[places])
    if described.is_fraud[train].all() or not described.is_fraud[train].any():
        raise EvaluationError(f"the {len(train):,} payments to train on are not of both kinds, fraud and genuine")
    return Judged(week, places, test, {name: layer(described, train, places) for name, layer in layers.items()})


def write_scores(path: Path, described: Described, weeks: Sequence[Judged]) -> None:
    """A row for each payment tested: `transaction_id`, whether `is_fraud`, and the score of each layer."""
    arrow, parquet = pyarrow()
    places = np.concatenate([week.places for week in weeks])
    columns = {"transaction_id": described.transaction_id[places], "is_fraud": described.is_fraud[places]}
    layers = {name: np.concatenate([week.scores[name] for week in weeks]) for name in weeks[0].scores}
    parquet.write_table(arrow.table({name: arrow.array(values.tolist()) for name, values in {**columns, **layers}.items()}), path)
