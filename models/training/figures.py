"""How good the scores of a layer are, on payments that had no part in making it."""

from typing import Final

import numpy as np

from models.bundle import Figures, Thresholds
from models.inputs import Vector

RATES: Final = (0.001, 0.005, 0.01)
"""False-positive rates at which frauds found are told."""


def ranking(score: Vector, is_fraud: Vector) -> Figures:
    """How well frauds are ranked before genuine payments."""
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    if not 0 < is_fraud.sum() < len(is_fraud):
        return {}
    rates, found, _ = roc_curve(is_fraud, score, drop_intermediate=False)
    figures: Figures = {
        "roc_auc": float(roc_auc_score(is_fraud, score)),
        "average_precision": float(average_precision_score(is_fraud, score)),
    }
    for rate in RATES:
        recall = float(found[np.searchsorted(rates, rate, side="right") - 1])
        figures[f"recall_at_fpr_{rate:g}"] = recall
        stopped = recall * is_fraud.sum() + rate * (is_fraud == 0).sum()
        figures[f"precision_at_fpr_{rate:g}"] = float(recall * is_fraud.sum() / stopped)
    return figures


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
