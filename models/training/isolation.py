"""An isolation forest: what a few random cuts set apart is unusual."""

from typing import Any, Final

from models.inputs import Rows, Vector, in_parts

TREES: Final = 100
SAMPLES: Final = 2048
"""Payments that a tree is grown on. With the usual 256, a hundred times as many lie beyond all that a tree saw, and are all one to it."""


def fit(rows: Rows, trees: int, seed: int) -> Any:
    """Fit on scaled rows. A forest of scikit-learn."""
    from sklearn.ensemble import IsolationForest

    return IsolationForest(n_estimators=trees, max_samples=min(SAMPLES, len(rows)), random_state=seed).fit(rows)


def score(forest: Any, rows: Rows) -> Vector:
    """0 to 1, 1 is most anomalous."""
    return in_parts(lambda part: -forest.score_samples(part), rows)
