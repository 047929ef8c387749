"""A bundle at work: rows of features in, scores out. ONNX Runtime alone, in the thread that asks."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime
from msgspec import Struct

from models.bundle import Bundle, BundleError, Layer, together
from models.ensemble import published
from models.inputs import Rows, Vector

RAW: Final = ["raw"]
ERRORS: Final = ["errors"]


class Scores(Struct, frozen=True, gc=False):
    """Of each row, in their order; NaN where it could not be told, which is never "no risk"."""

    layers: dict[str, Vector]
    """0 to 1, 1 is fraud: the share of payments that are less unusual; of `supervised`, its own probability."""
    score: Vector
    """0 to 1, 1 is fraud: ranks payments, by the layers that stand."""
    probability: Vector
    """Of fraud, calibrated; NaN too where not every layer stands, or where the bundle is not calibrated."""
    failures: dict[str, str]
    """By layer, why it failed for some or all rows."""


class Scorer:
    """The models of a bundle, loaded. Raises `BundleError` where they cannot be."""

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest
        self.version = bundle.manifest.version
        self.features = bundle.manifest.features
        """The columns of rows, in order."""
        self._layers = {layer.name: _Loaded(layer, bundle) for layer in bundle.manifest.layers}
        self._combinations = bundle.manifest.combinations
        self._all = together(tuple(self._layers))

    def score(self, rows: Rows) -> Scores:
        """Score payments, as many as there are rows: one call of each model."""
        evidence: dict[str, Vector] = {}
        failures: dict[str, str] = {}
        for name, layer in self._layers.items():
            try:
                found = layer.evidence(rows)
            except Exception as error:  # a broken layer must not stop the others; whoever asks is told
                failures[name] = f"{type(error).__name__}: {error}"
                found = np.full(len(rows), np.nan)
            else:
                if not np.isfinite(found).all():
                    failures[name] = "a score that is no number"
                    found = np.where(np.isfinite(found), found, np.nan)
            evidence[name] = found
        layers = {name: published(name, found) for name, found in evidence.items()}
        score = self._score(evidence) if failures else self._combinations[self._all].score(evidence)
        return Scores(layers, score, self._probability(score, evidence if failures else {}), failures)

    def raw(self, layer: str, rows: Rows) -> Vector:
        """What a model itself says: anomaly score, mean squared error, log-odds."""
        return self._layers[layer].raw(rows)

    def errors(self, rows: Rows) -> tuple[tuple[str, ...], Vector]:
        """The autoencoder's inputs by name, and of each row the squared error of each."""
        layer = self._layers["autoencoder"]
        return layer.inputs, layer.run(ERRORS, rows)

    def _score(self, evidence: dict[str, Vector]) -> Vector:
        """By the layers that stand, row by row."""
        stands = np.array([~np.isnan(found) for found in evidence.values()])
        score = np.full(stands.shape[1], np.nan)
        for pattern in np.unique(stands, axis=1).T:
            names = tuple(name for name, each in zip(evidence, pattern, strict=True) if each)
            alike = (stands == pattern[:, None]).all(axis=0)
            if names:
                score[alike] = self._combinations[together(names)].score({name: evidence[name][alike] for name in names})
        return score

    def _probability(self, score: Vector, evidence: dict[str, Vector]) -> Vector:
        if self.manifest.calibration is None:
            return np.full(len(score), np.nan)
        probability = self.manifest.calibration.probability(score)
        for found in evidence.values():
            probability = np.where(np.isnan(found), np.nan, probability)
        return probability


class _Loaded:
    def __init__(self, layer: Layer, bundle: Bundle) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(bundle.read(layer.file), options, ["CPUExecutionProvider"])
            self._inputs: Callable[[Rows], Rows] = layer.inputs.of(bundle.manifest.features)
        except BundleError:
            raise
        except KeyError as error:
            raise BundleError(f"{bundle.path}: {layer.name} needs the feature {error}, which the manifest does not list") from None
        except Exception as error:  # of any type: ONNX Runtime has a dozen of its own
            raise BundleError(f"{bundle.path / layer.file}: ONNX Runtime refuses it: {error}") from None
        self.inputs = layer.inputs.names
        self._evidence = (lambda raw: raw) if layer.ranks is None else layer.ranks.surprise

    def raw(self, rows: Rows) -> Vector:
        return self.run(RAW, rows).reshape(-1).astype(np.float64)

    def run(self, outputs: Sequence[str], rows: Rows) -> Vector:
        found: Vector = self._session.run(outputs, {"rows": self._inputs(rows)})[0]
        return found

    def evidence(self, rows: Rows) -> Vector:
        return self._evidence(self.raw(rows))
