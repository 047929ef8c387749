"""How good the scores of a layer are, on payments that had no part in making it."""

from math import isnan
from typing import Final

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


def at_thresholds(score: Vector, is_fraud: Vector, thresholds: Thresholds) -> Figures:
    """What both thresholds find, by `review_` and `block_`."""
    figures = {f"review_{name}": value for name, value in stopping(score >= thresholds.review, is_fraud).items()}
    if thresholds.block is not None:
        figures |= {f"block_{name}": value for name, value in stopping(score >= thresholds.block, is_fraud).items()}
    return figures
