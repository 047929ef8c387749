"""The layers as `aegis train` makes them, trained on one stretch of payments to score another.

Nothing is fitted on what it is then combined by: the unsupervised layers are fitted on the earlier four fifths of training, and their
ranks and the ensemble's weights on the rest. The supervised layer is fitted a second time, on all of it.
"""

from functools import cached_property
from typing import Any, Final

import numpy as np

from aegis_app.core.features import CATALOGUE
from models.bundle import together
from models.ensemble import SUPERVISED, highest, sigmoid
from models.evaluation.figures import Flags, Floats
from models.inputs import Rows, Vector
from models.training import autoencoder, combine, isolation, prepare, supervised

LAYERS: Final = ("rules", "isolation_forest", "autoencoder", "supervised", "unsupervised", "unsupervised_label_free", "ensemble")
FITTED: Final = 0.8
"""Share of training, by time, that layers are fitted on which are then put together by the rest."""
_NAMES: Final = tuple(CATALOGUE)


class Trained:
    """Each layer is trained when first asked for. Places are in the order of time."""

    def __init__(self, features: Rows, is_fraud: Flags, verdict: Floats, train: Vector, test: Vector, seed: int) -> None:
        self._features, self._is_fraud, self._verdict = features, is_fraud, verdict
        self._train, self._test, self._seed = train, test, seed
        early = int(FITTED * len(train))
        self._early, self._late = train[:early], train[early:]

    def scores(self, layer: str) -> Floats:
        """Of the payments to test, higher is more likely fraud."""
        match layer:
            case "rules":
                return self._verdict[self._test]
            case "supervised":
                return sigmoid(self._supervised(self._train, self._test))
            case "unsupervised":
                return highest(list(self._unusual[1].values()))
            case "unsupervised_label_free":
                return highest(list(self._label_free[1].values()))
            case "ensemble":
                return self._ensemble()
            case _:
                return self._unusual[1][layer]

    @cached_property
    def _unusual(self) -> tuple[dict[str, Vector], dict[str, Vector]]:
        return self._surprises(cold_start=False)

    @cached_property
    def _label_free(self) -> tuple[dict[str, Vector], dict[str, Vector]]:
        return self._surprises(cold_start=True)

    def _surprises(self, *, cold_start: bool) -> tuple[dict[str, Vector], dict[str, Vector]]:
        """By layer, of the later part of training and of the test."""
        here = self._features[self._early]
        chosen, _ = prepare.useful(_NAMES, here)
        inputs = prepare.scaled(_NAMES, here, prepare.unusual(chosen, cold_start=cold_start))
        read = inputs.of(_NAMES)
        rows, late, test = (read(self._features[places]) for places in (self._early, self._late, self._test))
        genuine = rows if cold_start else rows[~self._is_fraud[self._early]]
        forest = isolation.fit(genuine, isolation.TREES, self._seed)
        network = autoencoder.fit(genuine, autoencoder.EPOCHS, self._seed, lambda done, of: None)
        raw = {
            "isolation_forest": (isolation.score(forest, late), isolation.score(forest, test)),
            "autoencoder": (autoencoder.mean_squared_error(network, late), autoencoder.mean_squared_error(network, test)),
        }
        found = {name: (before, combine.ranks(before), after) for name, (before, after) in raw.items()}
        return (
            {name: ranks.surprise(before) for name, (before, ranks, _) in found.items()},
            {name: ranks.surprise(after) for name, (_, ranks, after) in found.items()},
        )

    def _supervised(self, train: Vector, test: Vector) -> Vector:
        """Log-odds."""
        here = self._features[train]
        chosen, _ = prepare.useful(_NAMES, here)
        read = prepare.plain(_NAMES, here, chosen).of(_NAMES)
        booster = supervised.boost(
            read(here), self._is_fraud[train], np.ones(len(train)), supervised.SETTINGS, self._seed, lambda done, of: None
        )
        found: Any = booster.inplace_predict(read(self._features[test]), predict_type="margin", validate_features=False)
        return np.asarray(found, float)

    def _ensemble(self) -> Floats:
        late, test = self._unusual
        evidence = late | {SUPERVISED: self._supervised(self._early, self._late)}
        found = combine.stacked(evidence, self._is_fraud[self._late], np.ones(len(self._late)))
        return found[together(tuple(evidence))].score(test | {SUPERVISED: self._supervised(self._train, self._test)})
