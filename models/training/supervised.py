"""The supervised layer: boosted trees or a class-balanced forest, and the search for good settings."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import numpy as np

from models.inputs import Rows, Vector
from models.training.errors import TrainingError

ROUNDS: Final = 300
"""Of boosting; a tree each."""
SETTINGS: Final = {
    "max_depth": 5,
    "learning_rate": 0.05,
    "min_child_weight": 5.0,
    "subsample": 0.8,
    "colsample_bytree": 0.6,
    "reg_lambda": 1.0,
}
"""Of XGBoost, where no search chose others."""
FRAUDS_PER_WEIGHT: Final = 200
"""A leaf weighs at least as much as settings say, or one for so many frauds where that is less: few frauds fill no heavy leaves."""
MOST_GENUINE: Final = 200_000
"""That trees are boosted on, each standing for as many as were left out; frauds are never left out. More of them hardly teach more."""
FOLDS: Final = 3
FEW_ROWS: Final = 20_000
"""Below this, one thread is as fast alone, and many times faster beside others: threads wait for each other at every node."""
TREES: Final = 200
DEPTH: Final = 14
VECTORS: Final = 200
"""Payments that the kernel of the baseline is approximated by."""
MOST_FOR_VECTORS: Final = 20_000
"""Genuine payments that it is fitted on."""
MOST_ROWS: Final = 200_000
"""That a tree of the forest is grown on."""

Show = Callable[[int, int], object]


def boost(rows: Rows, is_fraud: Vector, weights: Vector, settings: dict[str, Any], seed: int, show: Show) -> Any:
    """An XGBoost booster. Null stays null: each split learns where it goes. Genuine payments beyond `MOST_GENUINE` are thinned in time."""
    import xgboost

    class Tell(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            show(epoch + 1, rounds)
            return False

    kept = _thinned(is_fraud)
    rows, is_fraud, weights = rows[kept], is_fraud[kept], np.where(is_fraud[kept] == 1, 1.0, _step(is_fraud)) * weights[kept]
    chosen = settings | {"min_child_weight": min(settings["min_child_weight"], is_fraud.sum() / FRAUDS_PER_WEIGHT)}
    rounds = int(chosen.pop("rounds", ROUNDS))
    return xgboost.train(
        {"objective": "binary:logistic", "tree_method": "hist", "seed": seed, "nthread": 1 if len(rows) < FEW_ROWS else 0, **chosen},
        xgboost.QuantileDMatrix(rows, is_fraud, weight=weights),
        rounds,
        callbacks=[Tell()],
    )


def _thinned(is_fraud: Vector, most: int = MOST_GENUINE) -> Vector:
    """Places of the frauds, and of each so many-th genuine payment."""
    genuine = np.flatnonzero(is_fraud != 1)[:: _step(is_fraud, most)]
    return np.sort(np.append(genuine, np.flatnonzero(is_fraud == 1)))


def _step(is_fraud: Vector, most: int = MOST_GENUINE) -> int:
    return max(1, -(-int((is_fraud != 1).sum()) // most))


def forest(rows: Rows, is_fraud: Vector, weights: Vector, seed: int) -> Any:
    """A random forest in which frauds weigh as much as genuine payments, tree by tree."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        n_estimators=TREES,
        max_depth=DEPTH,
        min_samples_leaf=2,
        max_samples=min(1.0, MOST_ROWS / len(rows)),
        class_weight="balanced_subsample",
        n_jobs=-1,
        random_state=seed,
    ).fit(rows, is_fraud, weights)


def support_vectors(rows: Rows, is_fraud: Vector, weights: Vector, seed: int) -> Any:
    """What others are compared with: a support vector machine of scaled rows with classes balanced, its kernel (RBF) approximated
    (Nyström) by some of the rows. Genuine payments are thinned in time. `decision_function` ranks.
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    kept = _thinned(is_fraud, MOST_FOR_VECTORS)
    kernel = Nystroem(n_components=min(VECTORS, len(kept)), random_state=seed)
    machine = make_pipeline(kernel, LinearSVC(class_weight="balanced", random_state=seed))
    return machine.fit(rows[kept], is_fraud[kept], linearsvc__sample_weight=weights[kept])


def search(rows: Rows, is_fraud: Vector, weights: Vector, times: Vector, gap: float, trials: int, seed: int, show: Show) -> dict[str, Any]:
    """Settings of XGBoost with the best mean average precision over folds in time, each `gap` milliseconds after what it is fitted on."""
    import optuna
    import xgboost
    from sklearn.metrics import average_precision_score

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folds = _folds(times, is_fraud, gap)

    def mean_precision(trial: Any) -> float:
        settings = {
            "rounds": trial.suggest_int("rounds", 100, 500, step=50),
            "max_depth": trial.suggest_int("max_depth", 3, 9),
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
            "min_child_weight": trial.suggest_float("min_child_weight", 0.5, 30.0, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1.0),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 20.0, log=True),
        }
        figures = []
        for before, after in folds:
            booster = boost(rows[before], is_fraud[before], weights[before], settings, seed, lambda done, of: None)
            figures.append(average_precision_score(is_fraud[after], booster.predict(xgboost.DMatrix(rows[after]))))
        show(trial.number + 1, trials)
        return float(np.mean(figures))

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial({"rounds": ROUNDS, **SETTINGS})
    study.optimize(mean_precision, n_trials=trials)
    return dict(study.best_params)


def _folds(times: Vector, is_fraud: Vector, gap: float) -> list[tuple[Vector, Vector]]:
    """Places to fit on and places to judge by; the later half of the time is judged, a part after the other."""
    edges = np.linspace(times[0] + (times[-1] - times[0]) / 2, times[-1] + 1, FOLDS + 1)
    folds = [(np.flatnonzero(times < start - gap), np.flatnonzero((start <= times) & (times < end))) for start, end in pairwise(edges)]
    good = [fold for fold in folds if all(0 < is_fraud[part].sum() < len(part) for part in fold)]
    if not good:
        raise TrainingError("--search finds no stretch of time with frauds and genuine payments before and after a gap; leave it out")
    return good
