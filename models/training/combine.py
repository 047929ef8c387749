"""How the layers go together, fitted on payments later than those the layers were fitted on."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final

import numpy as np

from models.bundle import together
from models.ensemble import FEW_FRAUDS, SUPERVISED, Calibration, Combination, Highest, Isotonic, Ranks, Sigmoid, Stacked, Weighted, log_odds
from models.inputs import Vector

KNOTS: Final = 256
"""Of a curve from raw scores to surprises; most of them in the tail."""
LEAST_TAIL: Final = 1e-6
"""So that no raw score, however far beyond the highest, has a rank of 1 by rounding."""
LEAST_FRAUDS: Final = 10
"""Among the payments that weights or a calibration are fitted on."""


def ranks(raw: Vector) -> Ranks:
    """From raw scores of later payments."""
    ascending = np.sort(raw)
    number = len(ascending)
    above = np.unique(np.geomspace(1, number, KNOTS).round().astype(np.intp))
    knots = np.unique(ascending[number - above])
    surprises = np.log(number) - np.log(number - np.searchsorted(ascending, knots))
    # Beyond the highest it goes on as from the last hundredth to the highest.
    start = ascending[number - max(1, number // 100)]
    rise = float(surprises[-1] - np.interp(start, knots, surprises))
    tail = float(knots[-1] - start) / rise if rise > 0 else float(raw.std())
    return Ranks(tuple(knots.tolist()), tuple(surprises.tolist()), max(tail, LEAST_TAIL))


def stacked(evidence: Mapping[str, Vector], is_fraud: Vector, weights: Vector) -> dict[str, Combination]:
    """Fitted weights for every set of layers that may stand, since a layer can fail; a layer never counts against fraud."""
    plain = weighted(tuple(evidence), {name: 1.0 for name in evidence})
    return {together(names): _stack(evidence, names, is_fraud, weights) or plain[together(names)] for names in _subsets(tuple(evidence))}


def _stack(evidence: Mapping[str, Vector], names: Sequence[str], is_fraud: Vector, weights: Vector) -> Stacked | None:
    """Layers whose weight would be negative are taken out, the most negative first; `None` where no layer is left."""
    from sklearn.linear_model import LogisticRegression

    while names:
        table = np.column_stack([evidence[name] for name in names])
        fitted = LogisticRegression(C=100.0, max_iter=1000).fit(table, is_fraud, weights)
        found = fitted.coef_[0]
        if (found > 0).all():
            return Stacked(dict(zip(names, found.tolist(), strict=True)), float(fitted.intercept_[0]))
        names = [name for place, name in enumerate(names) if place != int(np.argmin(found))]
    return None


def weighted(names: Sequence[str], stated: Mapping[str, float]) -> dict[str, Weighted]:
    """The same for stated weights, which are shared out anew among the layers that stand."""
    return {
        together(each): Weighted({name: stated[name] / sum(stated[name] for name in each) for name in each}) for each in _subsets(names)
    }


def highest(names: Sequence[str]) -> dict[str, Highest]:
    """For layers without labels alone: nothing is known that weights could be fitted on."""
    return {together(each): Highest(each) for each in _subsets(names)}


def _subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for size in range(len(names), 0, -1):
        yield from combinations(names, size)


def shares(names: Sequence[str], supervised: float, unsupervised: float) -> dict[str, float]:
    """The two stated weights for each layer: those without labels share theirs evenly."""
    others = [name for name in names if name != SUPERVISED]
    return {name: supervised if name == SUPERVISED else unsupervised / len(others) for name in names}


def calibrated(score: Vector, is_fraud: Vector, weights: Vector) -> Calibration:
    """Probabilities at the prevalence of these payments: by two numbers where frauds are few, else by a curve."""
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    if is_fraud.sum() >= FEW_FRAUDS:
        curve = IsotonicRegression(y_min=0.0, y_max=1.0).fit(score, is_fraud, weights)
        return Isotonic(tuple(curve.X_thresholds_.tolist()), tuple(curve.y_thresholds_.tolist()))
    line = LogisticRegression(C=1e6, max_iter=1000).fit(log_odds(score)[:, None], is_fraud, weights)
    return Sigmoid(float(line.coef_[0, 0]), float(line.intercept_[0]))
