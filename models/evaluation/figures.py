"""Figures of scores against what was true.

Scores rank: higher is more likely fraud, and nothing else about them counts. Payments of equal score are flagged together or not at all.
Each row may stand for several payments (`weight`), which serves samples and resampling. `tests/test_evaluation.py` holds them against
scikit-learn, which sorts anew for every resample and is fifty times slower at it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation.errors import EvaluationError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Codes = NDArray[np.int64]
Figures = dict[str, float]
"""By name; `nan` is "cannot be told", such as the precision of no alert."""

FALSE_POSITIVE_RATES: Final = (0.001, 0.005, 0.01)
TOP: Final = 100
"""Cards that a team looks at in a day."""


class Test:
    """Payments on which scores are judged; arrays of one length, in the order of time."""

    __test__ = False
    """It is no test case."""

    def __init__(self, is_fraud: Any, amount: Any, card: Any, day: Any, weight: Any = None) -> None:
        """`amount`: money of each payment, in any one unit; `card`: codes from 0; `day`: any whole numbers; `weight`: 1 if not given."""
        self.is_fraud: Flags = np.asarray(is_fraud, bool)
        self.amount: Floats = np.asarray(amount, float)
        self.card: Codes = np.asarray(card, np.int64)
        self.day: Codes = np.asarray(day, np.int64)
        self.weight: Floats = np.ones(len(self.is_fraud)) if weight is None else np.asarray(weight, float)
        if not len(self.is_fraud):
            raise EvaluationError("there is no payment to judge scores by")
        if self.is_fraud.all() or not self.is_fraud.any():
            raise EvaluationError(f"all {len(self.is_fraud):,} payments to judge by are {'fraud' if self.is_fraud[0] else 'genuine'}")


class Ranking:
    """Payments in the order of falling score: sorted once, asked often, under other weights."""

    def __init__(self, test: Test, scores: Any) -> None:
        self.test, given = test, np.asarray(scores, float)
        if given.shape != test.is_fraud.shape:
            raise EvaluationError(f"{len(given):,} scores for {len(test.is_fraud):,} payments")
        if np.isnan(given).any():
            raise EvaluationError(f"{int(np.isnan(given).sum()):,} payments have no score, which is not the lowest")
        order = np.argsort(-given, kind="stable")
        self.order = order
        self.last = np.append(np.flatnonzero(np.diff(given[order])), len(order) - 1)
        """Places in the order where a score ends."""
        self.is_fraud = test.is_fraud[order]
        self.amount = test.amount[order]
        self.days = tuple(_cards(test, given, day) for day in np.unique(test.day))

    def figures(self, weight: Floats, copies: Floats) -> Figures:
        """All of them, with a weight for each payment and, for `card_precision_100`, how often each card is there."""
        weight = weight[self.order]
        frauds = np.where(self.is_fraud, weight, 0.0)
        caught, alerts = frauds.cumsum()[self.last], weight.cumsum()[self.last]
        value = (frauds * self.amount).cumsum()[self.last]
        false = alerts - caught
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {
                "roc_auc": float(np.trapezoid(np.append(0, caught / caught[-1]), np.append(0, false / false[-1]))),
                "average_precision": float((np.diff(caught, prepend=0) / caught[-1] * np.where(alerts > 0, caught / alerts, 0)).sum()),
                "card_precision_100": card_precision(self.days, copies),
            }
            for rate in FALSE_POSITIVE_RATES:
                place = int(np.searchsorted(false, rate * false[-1] * (1 + 1e-12), side="right")) - 1
                none = place < 0
                found[f"recall_at_fpr_{rate}"] = 0.0 if none else float(caught[place] / caught[-1])
                found[f"precision_at_fpr_{rate}"] = float("nan") if none else float(caught[place] / alerts[place])
                found[f"value_weighted_recall_at_fpr_{rate}"] = 0.0 if none else float(value[place] / value[-1])
        return found


class Day:
    """Cards of a day, by falling highest score; those of equal scores by their codes."""

    def __init__(self, cards: Codes, is_fraud: Flags) -> None:
        self.cards, self.is_fraud = cards, is_fraud


def _cards(test: Test, scores: Floats, day: int) -> Day:
    rows = np.flatnonzero(test.day == day)
    cards, place = np.unique(test.card[rows], return_inverse=True)
    highest = np.full(len(cards), -np.inf)
    np.maximum.at(highest, place, scores[rows])
    is_fraud = np.zeros(len(cards), bool)
    np.logical_or.at(is_fraud, place, test.is_fraud[rows])
    order = np.argsort(-highest, kind="stable")
    return Day(cards[order], is_fraud[order])


def card_precision(days: Sequence[Day], copies: Floats, top: int = TOP) -> float:
    """The handbook's Card Precision@`top`, in 0..1.

    Each day the `top` cards of the highest scores are looked at; the share of `top` that had a fraud that day counts, as the mean over the
    days. Cards found leave the list for good. `copies`: by card, how many of it there are; each is a card of its own.
    """
    left, precisions = copies.astype(float, copy=True), []
    for day in days:
        there = left[day.cards]
        looked_at = np.clip(top - (there.cumsum() - there), 0, there)
        found = np.where(day.is_fraud, looked_at, 0.0)
        precisions.append(found.sum() / top)
        left[day.cards] -= found
    return float(np.mean(precisions))


def figures(test: Test, scores: Any) -> Figures:
    """Every figure of `scores`, one for each payment. Raises `EvaluationError`."""
    return Ranking(test, scores).figures(test.weight, np.ones(int(test.card.max()) + 1))


def plain(is_fraud: Any, scores: Any, weight: Any = None) -> Figures:
    """Figures where nothing is known of amounts, cards and days: those that speak of them mean nothing."""
    none = np.zeros(len(is_fraud), np.int64)
    return figures(Test(is_fraud, none, none, none, weight), scores)


def roc_auc(is_fraud: Any, scores: Any, weight: Any = None) -> float:
    """How probable it is that a fraud scores above a genuine payment, ties being half."""
    return plain(is_fraud, scores, weight)["roc_auc"]


def average_precision(is_fraud: Any, scores: Any, weight: Any = None) -> float:
    """Precision, averaged over the frauds in the order in which they are found."""
    return plain(is_fraud, scores, weight)["average_precision"]


def mean(several: Sequence[Mapping[str, float]]) -> Figures:
    """Of each figure; those that cannot be told are passed over, unless none can."""
    names = several[0].keys()
    return {name: _mean([each[name] for each in several]) for name in names}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else float("nan")
