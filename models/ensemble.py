"""From the scores of layers to the score of a payment, and how probable fraud is.

What a layer says is evidence: the more, the more suspicious. That of the supervised layer is its log-odds; that of the others is
their surprise, the negative logarithm of the share of later payments that were at least as unusual.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from msgspec import Struct

from models.inputs import Vector

SUPERVISED: Final = "supervised"
FEW_FRAUDS: Final = 1000
"""Below this, probabilities are calibrated by two numbers, not by a curve."""


class Ranks(Struct, frozen=True):
    """How unusual a raw score is among later payments that the model was not fitted on. Beyond the highest of them it still grows."""

    raw: tuple[float, ...]
    """Strictly rising."""
    surprises: tuple[float, ...]
    tail: float
    """Raw scores per unit of surprise beyond the highest, growing ever slower."""

    def surprise(self, raw: Vector) -> Vector:
        """0 upwards; equal for no two raw scores above the lowest known one."""
        beyond = np.maximum(raw - self.raw[-1], 0.0) / self.tail
        surprise: Vector = np.interp(raw, self.raw, self.surprises) + np.log1p(beyond)
        return surprise


def share(surprise: Vector) -> Vector:
    """A surprise as the share of payments that are less unusual, 0 to 1."""
    rank: Vector = -np.expm1(-surprise)
    return rank


def sigmoid(log_odds: Vector) -> Vector:
    """Log-odds as a probability."""
    probability: Vector = 1.0 / (1.0 + np.exp(-log_odds))
    return probability


class Stacked(Struct, frozen=True, tag="stacked"):
    """Weights of evidence, fitted on later payments than the layers were: the score is the odds of their sum."""

    weights: dict[str, float]
    intercept: float

    def score(self, evidence: Mapping[str, Vector]) -> Vector:
        """0 to 1, by the layers that the weights name."""
        parts = [weight * evidence[layer] for layer, weight in self.weights.items()]
        return sigmoid(np.sum(parts, axis=0) + self.intercept)


class Weighted(Struct, frozen=True, tag="weighted"):
    """Stated weights of ranks, or of the probability where a layer is supervised; they add up to 1."""

    weights: dict[str, float]

    def score(self, evidence: Mapping[str, Vector]) -> Vector:
        """0 to 1, by the layers that the weights name."""
        score: Vector = np.sum([weight * published(layer, evidence[layer]) for layer, weight in self.weights.items()], axis=0)
        return score


class Highest(Struct, frozen=True, tag="highest"):
    """The rank that is highest of those of these layers, none of which is supervised."""

    layers: tuple[str, ...]

    def score(self, evidence: Mapping[str, Vector]) -> Vector:
        """0 to 1."""
        return share(highest([evidence[layer] for layer in self.layers]))


def highest(surprises: Sequence[Vector]) -> Vector:
    """The layers without labels as one: a payment is as unusual as one of them finds it."""
    surprise: Vector = np.max(surprises, axis=0)
    return surprise


def published(layer: str, evidence: Vector) -> Vector:
    """A layer's evidence as 0 to 1."""
    return sigmoid(evidence) if layer == SUPERVISED else share(evidence)


Combination: TypeAlias = Stacked | Weighted | Highest


class Sigmoid(Struct, frozen=True, tag="sigmoid"):
    """Log-odds of fraud as a line in the log-odds of the score (Platt, 1999)."""

    slope: float
    intercept: float

    def probability(self, score: Vector) -> Vector:
        """0 to 1."""
        return sigmoid(self.intercept + self.slope * log_odds(score))


class Isotonic(Struct, frozen=True, tag="isotonic"):
    """A rising curve through points."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def probability(self, score: Vector) -> Vector:
        """0 to 1."""
        probability: Vector = np.interp(score, self.scores, self.probabilities)
        return probability


Calibration: TypeAlias = Sigmoid | Isotonic


def log_odds(score: Vector) -> Vector:
    """Of scores from 0 to 1, kept off the ends."""
    inside = np.clip(score, 1e-12, 1.0 - 1e-12)
    odds: Vector = np.log(inside / (1.0 - inside))
    return odds
