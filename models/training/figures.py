"""How good the scores of a layer are, on payments that had no part in making it."""

from collections.abc import Mapping
from math import isnan
from typing import Final

import numpy as np

from models.bundle import Figures, Thresholds
from models.evaluation.figures import FALSE_POSITIVE_RATES, plain
from models.inputs import Vector

TOLD: Final = (
    "roc_auc",
    "average_precision",
    *(f"{what}_at_fpr_{rate}" for rate in FALSE_POSITIVE_RATES for what in ("recall", "precision")),
)


def ranking(score: Vector, is_fraud: Vector) -> Figures:
    """How well frauds are ranked before genuine payments; nothing where there is but one kind."""
    if not 0 < is_fraud.sum() < len(is_fraud):
        return {}
    found = plain(is_fraud == 1, score)
    return {name: None if isnan(found[name]) else found[name] for name in TOLD}


def stopping(stopped: Vector, is_fraud: Vector) -> Figures:
    """What stopping these payments finds, and costs."""
    right, frauds, genuine = float(is_fraud[stopped].sum()), float(is_fraud.sum()), float((is_fraud == 0).sum())
    number = float(stopped.sum())
    return {
        "precision": right / number if number else None,
        "recall": right / frauds if frauds else None,
        "f1": 2 * right / (number + frauds) if number + frauds else None,
        "false_positive_rate": (number - right) / genuine if genuine else None,
        "true_positives": right,
        "false_positives": number - right,
        "false_negatives": frauds - right,
        "true_negatives": genuine - number + right,
    }


def reached(score: Vector, thresholds: Thresholds) -> dict[str, int]:
    """How many payments are reviewed, and blocked, by these scores."""
    limits = {"review": thresholds.review, "block": thresholds.block}
    return {name: int((score >= limit).sum()) for name, limit in limits.items() if limit is not None}


def stopping_highest(score: Vector, is_fraud: Vector, numbers: Mapping[str, int]) -> Figures:
    """What stopping so many payments finds, those of the highest scores, by `review_` and `block_`; equal scores are stopped together."""
    descending = np.append(np.inf, np.sort(score)[::-1])
    return {
        f"{name}_{figure}": value
        for name, number in numbers.items()
        for figure, value in stopping(score >= descending[number], is_fraud).items()
    }
