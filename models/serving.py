"""A bundle at work in a decision: payments as the core describes them in, what it decides by out."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec.structs import astuple, fields

from aegis_app.core.case import Case
from aegis_app.core.features import GROUPS, OF_OTHERS, Features
from aegis_app.core.payment import ALLOW, BLOCK, Outcome
from aegis_app.core.scores import Cause, Scored
from models.bundle import Bundle, BundleError, Manifest, load
from models.drift import SCORE, Drift
from models.explaining import Explainer
from models.inputs import ATTRIBUTES, Rows, Vector
from models.scoring import Scorer, Scores

REVIEW: Final = Outcome.REVIEW
LONGEST: Final = 200
"""Characters of a library's error that are told."""


class Serving:
    """The models of a bundle, loaded: the `Models` of `core.scores`. Raises `BundleError` where they cannot be."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.version = bundle.manifest.version
        self.of_others = not OF_OTHERS.isdisjoint(bundle.manifest.features)
        self._scorer = Scorer(bundle)
        self._explainer = Explainer(bundle, self._scorer)
        self._rows = _Columns(bundle.manifest.features)
        layers = [layer.name for layer in bundle.manifest.layers]
        self.drift = Drift(bundle.manifest.histograms, (*bundle.manifest.features, *layers, SCORE))
        """Of what it was asked about."""

    def __reduce__(self) -> Any:
        """Other processes load it anew: what serves cannot travel."""
        return serve, (self.bundle.path,)

    def ask(self, payments: Sequence[tuple[Case, Features]]) -> "Answer":
        """Score payments, one call of each model for all of them."""
        return Answer(self, payments, self._rows.of(payments))

    def check(self) -> None:
        """Raise `BundleError` where a layer does not score, or nothing can be explained: better before it decides anything."""
        nothing = np.full((1, len(self.manifest.features)), np.nan, np.float32)
        scores = self.score(nothing)
        if scores.failures:
            why = "; ".join(f"{layer} does not score: {error}" for layer, error in scores.failures.items())
            raise BundleError(f"{self.bundle.path}: {why}")
        try:
            self.explain(nothing, scores.layers)
        except Exception as error:  # of any type: the libraries have many of their own
            raise BundleError(f"{self.bundle.path}: what it says cannot be explained: {error}") from None

    def score(self, rows: Rows) -> Scores:
        """Of rows in the columns of the manifest."""
        return self._scorer.score(rows)

    def explain(self, rows: Rows, layers: dict[str, Vector]) -> list[list[Cause]]:
        """Reason codes and sentences for each row; `layers` are their scores."""
        return [[(f"model_{cause.family}", cause.text) for cause in causes] for causes in self._explainer.explain(rows, layers)]


def serve(path: Path, currency: str | None = None) -> Serving:
    """Load the bundle in a directory. Raises `BundleError`, too where it was trained in another base currency than `currency`."""
    bundle = load(path)
    trained = bundle.manifest.base_currency
    if currency is not None and trained != currency:
        raise BundleError(f"{path} was trained with amounts in {trained}, and AEGIS_BASE_CURRENCY is {currency}; train anew")
    return Serving(bundle)


class Answer:
    """What a bundle says of some payments."""

    def __init__(self, serving: Serving, payments: Sequence[tuple[Case, Features]], rows: Rows) -> None:
        self._serving = serving
        self._rows = rows
        self._scores = scores = serving.score(rows)
        layers = np.array(list(scores.layers.values())).T
        serving.drift.add(np.concatenate([rows, layers, scores.score[:, None]], axis=1, dtype=np.float32, casting="same_kind"))
        read, amounts = _Reading(serving.manifest, scores), [case.amount for case, _ in payments]
        self.scored = list(map(read.of, layers.tolist(), scores.score.tolist(), scores.probability.tolist(), amounts))

    def causes(self, places: Sequence[int]) -> list[list[Cause]] | None:
        """Reason codes and sentences for the payments at these places; `None` where the libraries fail."""
        chosen = np.array(places, np.intp)
        try:
            return self._serving.explain(self._rows[chosen], {name: found[chosen] for name, found in self._scores.layers.items()})
        except Exception:  # of any type: whoever decides must not stop because nobody can say why
            return None


class _Columns:
    """From descriptions to the rows of a bundle: its features in order, null as NaN, found no more than needed."""

    def __init__(self, features: Sequence[str]) -> None:
        asked = frozenset(features)
        self._groups = [name for name, kind in GROUPS.items() if not asked.isdisjoint(_names(kind))]
        self._attributes = [name.removeprefix(ATTRIBUTES) for name in features if name.startswith(ATTRIBUTES)]
        found = [name for group in self._groups for name in _names(GROUPS[group])]
        found += [ATTRIBUTES + name for name in self._attributes]
        self._places = np.array([found.index(name) for name in features], np.intp)
        self._width = len(found)

    def of(self, payments: Sequence[tuple[Case, Features]]) -> Rows:
        """A row for each payment."""
        cells: list[Any] = []
        for case, seen in payments:
            for group in self._groups:
                cells += astuple(getattr(seen, group))
            if self._attributes:
                cells += map(case.txn.attributes.get, self._attributes)
        with np.errstate(over="ignore"):  # an attribute may be anything; as a float of 32 bits it is infinite then, as in training
            table = np.fromiter(cells, np.float32, len(cells)).reshape(len(payments), self._width)
        return table[:, self._places]


def _names(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)]


class _Reading:
    """From the scores of a round to what is said of each payment."""

    def __init__(self, manifest: Manifest, scores: Scores) -> None:
        self._manifest = manifest
        self._version = manifest.version
        self._names = tuple(scores.layers)
        self._failures = scores.failures
        self._quiet = manifest.thresholds.review if manifest.cost is None else 0.0
        """Below this score nothing is asked for."""

    def of(self, layers: list[float], score: float, probability: float, amount: int | None) -> Scored:
        likely = None if isnan(probability) else probability
        if score < self._quiet and not self._failures:
            return Scored(self._version, dict(zip(self._names, layers, strict=True)), score, likely)
        known = {name: None if isnan(found) else found for name, found in zip(self._names, layers, strict=True)}
        ranked = None if isnan(score) else score
        asks, why = asked(self._manifest, ranked, likely, amount)
        failures = tuple((name, self._failures[name][:LONGEST]) for name, found in known.items() if found is None)
        return Scored(self._version, known, ranked, likely, asks, f"{why}: {_named(known)}" if asks is not ALLOW else "", failures)


def asked(manifest: Manifest, score: float | None, probability: float | None, amount: int | None) -> tuple[Outcome, str]:
    """What models ask for, and why: by what outcomes cost, where that is stated and known of the payment; else by the thresholds.

    `amount` in minor units of the base currency.
    """
    cost, limits = manifest.cost, manifest.thresholds
    if cost is not None and probability is not None and amount is not None:
        saved = probability * amount * (1 - cost.recovery)
        why = f"{probability:.1%} probable to be fraud"
        if saved > (1 - probability) * (cost.block_minor + cost.block_share * amount):
            return BLOCK, f"{why}: to let it pass costs more than to block it"
        return (REVIEW, f"{why}: to let it pass costs more than a review") if saved > cost.review_minor else (ALLOW, "")
    if score is None:
        return ALLOW, ""
    if limits.block is not None and score >= limits.block:
        return BLOCK, f"score {score:.4f}, blocked from {limits.block:.4f}"
    return (REVIEW, f"score {score:.4f}, reviewed from {limits.review:.4f}") if score >= limits.review else (ALLOW, "")


def _named(layers: dict[str, float | None]) -> str:
    """The layers that stand, the most suspicious first."""
    known = sorted(((score, name) for name, score in layers.items() if score is not None), reverse=True)
    return ", ".join(f"{name.replace('_', ' ')} {score:.3f}" for score, name in known)
