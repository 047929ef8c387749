"""A training: four windows, three layers, one bundle."""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from aegis_app.core.features import FROM_LABELS
from models.bundle import CONTRIBUTIONS, Cost, Figures, Layer, Manifest, together, write
from models.drift import SCORE, Histogram, histogram
from models.ensemble import SUPERVISED, Combination, highest, published
from models.inputs import Inputs, Rows, Vector, in_parts
from models.training import autoencoder, combine, figures, isolation, prepare, report, supervised, trees
from models.training.errors import TrainingError
from models.training.sample import DAY_MS, Sample
from models.training.thresholds import Chosen, FalsePositives, Target, choose
from models.training.windows import LABEL_DELAY, MATURITY, Span, split

LEAST_FRAUDS: Final = 10
"""In the window that the supervised layer is fitted on."""
SOME: Final = 1000
"""Payments, at most, that say which features matter."""
ENSEMBLE: Final = "ensemble"
BASELINE: Final = "svm"
LABEL_FREE: Final = "unsupervised_label_free"
UNUSUAL_LAYERS: Final = ("isolation_forest", "autoencoder")
_LIBRARIES: Final = ("keras", "numpy", "onnxruntime", "scikit-learn", "tensorflow", "tensorflow-cpu", "xgboost", "xgboost-cpu")

Show = Callable[[str, int, int], object]
"""Told what is being done, how much of it is done, and of how much."""


class Plan(Struct, frozen=True, kw_only=True):
    """How to train."""

    seed: int = 1
    supervised: Literal["xgboost", "random-forest", "none"] = "xgboost"
    weights: Annotated[tuple[float, float] | None, Meta(description="stated, of the supervised layer and the others; null: fitted")] = None
    target: Target = FalsePositives(0.005)
    label_delay: Annotated[float, Meta(ge=0, description="days until a payment's label is known")] = 7.0
    maturity: Annotated[float, Meta(ge=0, description="days until a payment without a label counts as genuine")] = 60.0
    search: Annotated[int, Meta(ge=0, description="trials for settings of XGBoost")] = 0
    cold_start: Annotated[bool, Meta(description="the layers without labels get no input that labels tell")] = False
    trees: Annotated[int, Meta(ge=1, description="of the isolation forest")] = isolation.TREES
    epochs: Annotated[int, Meta(ge=1, description="of the autoencoder, at most")] = autoencoder.EPOCHS
    base_currency: str = "EUR"


def train(sample: Sample, plan: Plan, out: Path, show: Show = lambda what, done, of: None) -> Manifest:
    """Train on described payments and write the bundle to `out`. Raises `TrainingError` where the payments do not allow it."""
    return _Training(sample, plan, show).bundle(out)


class _Fitted(Struct, frozen=True):
    """A model: what serves, its originals, and its evidence about the payments after those it was fitted on."""

    layer: Layer
    files: dict[str, bytes]
    raw: Vector
    evidence: Vector


class _Training:
    def __init__(self, sample: Sample, plan: Plan, show: Show) -> None:
        self._sample, self._plan, self._show = sample, plan, show
        waits_longer = sample.partly_labelled and plan.maturity > plan.label_delay
        self._gap = plan.maturity if waits_longer else plan.label_delay
        self._spans = split(sample, self._gap, MATURITY if waits_longer else LABEL_DELAY)
        self._fit, self._combine = self._spans["fit"], self._spans["combine"]
        self._chosen, self._left_out = prepare.useful(sample.features, sample.rows[self._fit.rows])
        self._supervised = self._wants_labels()

    def bundle(self, out: Path) -> Manifest:
        fitted = {each.layer.name: each for each in self._layers()}
        evidence = {name: each.evidence for name, each in fitted.items()}
        combinations = self._combinations(evidence)
        score = combinations[together(tuple(evidence))].score(evidence)
        known = self._combine.known(self._sample)
        is_fraud, weights = self._sample.is_fraud[known], self._sample.weights[known]
        enough = min(is_fraud.sum(), len(is_fraud) - is_fraud.sum()) >= combine.LEAST_FRAUDS
        thresholds = choose(self._plan.target, self._to_choose_from(score))
        manifest = Manifest(
            features=self._served(fitted),
            layers=tuple(each.layer for each in fitted.values()),
            combinations=dict(combinations),
            calibration=combine.calibrated(score[known], is_fraud, weights) if enough else None,
            thresholds=thresholds,
            cost=self._plan.target if isinstance(self._plan.target, Cost) else None,
            windows=tuple(span.summary(self._sample) for span in self._spans.values()),
            metrics={},
            left_out=self._left_out,
            histograms=self._histograms(fitted, score),
            base_currency=self._plan.base_currency,
            seed=self._plan.seed,
            libraries=dict(_versions()),
        )
        reported = self._spans["report"].known(self._sample)
        told = self._told(fitted, score, manifest, reported) if len(reported) else {}
        manifest = msgspec.structs.replace(manifest, metrics=self._metrics(fitted, told, manifest, reported))
        self._show("report", 0, 1)
        models = {name: content for each in fitted.values() for name, content in each.files.items()}
        pages = report.written(manifest, self._measured(fitted, told, manifest, reported), silent=CONTRIBUTIONS not in models)
        return write(out, manifest, models | pages)

    def _layers(self) -> Iterator[_Fitted]:
        yield from self._unusual(cold_start=self._plan.cold_start)
        if self._supervised:
            yield self._fit_supervised()

    def _unusual(self, *, cold_start: bool) -> Iterator[_Fitted]:
        chosen = prepare.unusual(self._chosen, cold_start=cold_start)
        rows = self._sample.rows[self._fit.rows]
        inputs = prepare.scaled(self._sample.features, rows, chosen)
        if not inputs.features:
            raise TrainingError(f"no feature varies of those by which payments are unusual ({', '.join(prepare.UNUSUAL[:5])}, …)")
        table = inputs.of(self._sample.features)(self._sample.rows)
        yield self._isolation_forest(inputs, table)
        yield self._autoencoder(inputs, table)

    def _isolation_forest(self, inputs: Inputs, table: Vector) -> _Fitted:
        self._show("isolation forest", 0, 1)
        here = table[self._fit.rows][self._sample.is_fraud[self._fit.rows] != 1]
        forest = isolation.fit(here, self._plan.trees, self._plan.seed)
        raw = self._later(lambda rows: isolation.score(forest, rows), table)
        graph = trees.isolation_forest(forest).SerializeToString()
        words = f"isolation forest of {self._plan.trees} trees"
        return self._unsupervised(
            "isolation_forest", words, inputs, raw, {"isolation_forest.onnx": graph, **_saved("isolation_forest", forest)}
        )

    def _autoencoder(self, inputs: Inputs, table: Vector) -> _Fitted:
        known = self._fit.known(self._sample)
        genuine = known[self._sample.is_fraud[known] == 0] if self._sample.has_labels else np.arange(len(table))[self._fit.rows]
        network = autoencoder.fit(table[genuine], self._plan.epochs, self._plan.seed, lambda done, of: self._show("autoencoder", done, of))
        raw = self._later(lambda rows: autoencoder.mean_squared_error(network, rows), table)
        widths = "-".join(str(layer.units) for layer in network.layers if hasattr(layer, "units"))
        files = {"autoencoder.onnx": autoencoder.graph(network).SerializeToString(), "autoencoder.keras": autoencoder.original(network)}
        return self._unsupervised("autoencoder", f"autoencoder, {table.shape[1]}-{widths}", inputs, raw, files)

    def _unsupervised(self, name: str, words: str, inputs: Inputs, raw: Vector, files: dict[str, bytes]) -> _Fitted:
        ranks = combine.ranks(raw[self._combine.rows])
        layer = Layer(name=name, model=words, file=f"{name}.onnx", inputs=inputs, ranks=ranks)
        return _Fitted(layer, files, raw, ranks.surprise(raw))

    def _fit_supervised(self) -> _Fitted:
        sample, plan = self._sample, self._plan
        known = self._fit.known(sample)
        inputs = prepare.plain(sample.features, sample.rows[self._fit.rows], self._chosen)
        read = inputs.of(sample.features)
        rows, is_fraud, weights = read(sample.rows[known]), sample.is_fraud[known], sample.weights[known]
        if plan.supervised == "random-forest":
            self._show("random forest", 0, 1)
            forest = supervised.forest(rows, is_fraud, weights, plan.seed)
            words, graph, files = (
                f"random forest of {supervised.TREES} trees, classes balanced",
                trees.random_forest(forest),
                _saved(SUPERVISED, forest),
            )
            raw = self._later(lambda part: _log_odds(forest.predict_proba(read(part))[:, 1]), sample.rows)
        else:
            settings = self._settings(rows, is_fraud, weights, sample.times[known])
            booster = supervised.boost(rows, is_fraud, weights, settings, plan.seed, lambda done, of: self._show("boosted trees", done, of))
            booster.feature_names = list(inputs.names)
            words, graph = f"XGBoost, {booster.num_boosted_rounds()} trees", trees.boosted(booster)
            files = {CONTRIBUTIONS: bytes(booster.save_raw("ubj"))}
            raw = self._later(lambda part: booster.inplace_predict(read(part), predict_type="margin", validate_features=False), sample.rows)
        layer = Layer(name=SUPERVISED, model=words, file=f"{SUPERVISED}.onnx", inputs=inputs)
        return _Fitted(layer, {layer.file: graph.SerializeToString(), **files}, raw, raw)

    def _settings(self, rows: Vector, is_fraud: Vector, weights: Vector, times: Vector) -> dict[str, Any]:
        if not self._plan.search:
            return supervised.SETTINGS
        show: supervised.Show = lambda done, of: self._show("search", done, of)  # noqa: E731  # a name for a line that would be too long
        return supervised.search(rows, is_fraud, weights, times, self._gap * DAY_MS, self._plan.search, self._plan.seed, show)

    def _later(self, score: Callable[[Rows], Vector], rows: Rows) -> Vector:
        """Scores of all payments after those that layers are fitted on; NaN for these, of which nobody asks."""
        begin = self._fit.rows.stop
        scores = np.full(len(rows), np.nan)
        scores[begin:] = in_parts(score, rows[begin:])
        return scores

    def _wants_labels(self) -> bool:
        """Whether there is a supervised layer. Raises `TrainingError` where one is asked for and cannot be."""
        if self._plan.supervised == "none":
            return False
        if not self._sample.has_labels:
            raise TrainingError("no labels: give --labels FILE, or --supervised none for the layers that need none")
        self._needs(self._fit, LEAST_FRAUDS, "the supervised layer", "--supervised none")
        if self._plan.weights is None:
            self._needs(self._combine, combine.LEAST_FRAUDS, "fitted weights", "--ensemble weighted:0.7,0.3")
        return True

    def _needs(self, span: Span, least: int, what: str, otherwise: str) -> None:
        is_fraud = self._sample.is_fraud[span.known(self._sample)]
        for number, kind in ((int(is_fraud.sum()), "frauds"), (int((is_fraud == 0).sum()), "genuine payments")):
            if number < least:
                raise TrainingError(
                    f"{what} takes {least} {kind} in the window to {span.name}, and {number} were known there in time; "
                    f"give more payments or labels, or say {otherwise}"
                )

    def _combinations(self, evidence: dict[str, Vector]) -> Mapping[str, Combination]:
        names = tuple(evidence)
        if not self._supervised:
            return combine.highest(names)
        if self._plan.weights is not None:
            return combine.weighted(names, combine.shares(names, *self._plan.weights))
        known = self._combine.known(self._sample)
        found = {name: each[known] for name, each in evidence.items()}
        return combine.stacked(found, self._sample.is_fraud[known], self._sample.weights[known])

    def _to_choose_from(self, score: Vector) -> Chosen:
        span, sample = self._spans["choose"], self._sample
        is_fraud = np.full(len(sample.times), np.nan)
        known = span.known(sample)
        is_fraud[known] = sample.is_fraud[known]
        amount = sample.column("amount") if "amount" in sample.features else np.full(len(sample.times), np.nan)
        days = (span.end - span.start) / DAY_MS
        return Chosen(score[span.rows], is_fraud[span.rows], sample.alerted[span.rows], amount[span.rows], days)

    def _served(self, fitted: dict[str, _Fitted]) -> tuple[str, ...]:
        """The features that some layer is given, in the order of the matrix."""
        given = {name for each in fitted.values() for name in each.layer.inputs.sources}
        return tuple(name for name in self._sample.features if name in given)

    def _histograms(self, fitted: dict[str, _Fitted], score: Vector) -> dict[str, Histogram]:
        """Against which drift is seen where the bundle serves."""
        rows, later = self._sample.rows[self._fit.rows], self._combine.rows
        of_features = {name: histogram(rows[:, self._sample.features.index(name)]) for name in self._served(fitted)}
        of_layers = {name: histogram(published(name, each.evidence[later])) for name, each in fitted.items()}
        return of_features | of_layers | {SCORE: histogram(score[later])}

    def _told(self, fitted: dict[str, _Fitted], score: Vector, manifest: Manifest, known: Vector) -> dict[str, Vector]:
        """What each layer says of these payments, the ensemble first; the layers without labels as one, and the ensemble without each."""
        told = {ENSEMBLE: score[known]} | {name: each.evidence[known] for name, each in fitted.items()}
        told["unsupervised"] = highest([fitted[name].evidence[known] for name in UNUSUAL_LAYERS])
        if not any(name in FROM_LABELS for name in self._chosen):
            told[LABEL_FREE] = told["unsupervised"]
        elif not self._plan.cold_start:
            told[LABEL_FREE] = highest([each.evidence[known] for each in self._unusual(cold_start=True)])
        for name in fitted:
            rest = {other: each.evidence[known] for other, each in fitted.items() if other != name}
            told[f"{report.WITHOUT}{name}"] = manifest.combinations[together(tuple(rest))].score(rest)
        if self._supervised:
            told[BASELINE] = self._support_vectors(known)
        return told

    def _support_vectors(self, known: Vector) -> Vector:
        """The baseline's say on these payments."""
        self._show("support vectors", 0, 1)
        sample, here = self._sample, self._fit.known(self._sample)
        read = prepare.scaled(sample.features, sample.rows[self._fit.rows], prepare.uncoded(self._chosen), {}).of(sample.features)
        machine = supervised.support_vectors(read(sample.rows[here]), sample.is_fraud[here], sample.weights[here], self._plan.seed)
        return in_parts(lambda part: machine.decision_function(read(part)), sample.rows[known])

    def _metrics(self, fitted: dict[str, _Fitted], told: dict[str, Vector], manifest: Manifest, known: Vector) -> dict[str, Figures]:
        """Of all that was told, in the last window."""
        if not len(known):
            return {}
        is_fraud = self._sample.is_fraud[known]
        found = {name: figures.ranking(score, is_fraud) for name, score in told.items()}
        alerted = self._sample.alerted[known]
        found["rules"] = figures.stopping(alerted, is_fraud)
        found["rules_or_models"] = figures.stopping(alerted | (told[ENSEMBLE] >= manifest.thresholds.review), is_fraud)
        numbers = figures.reached(told[ENSEMBLE], manifest.thresholds)
        for name in (ENSEMBLE, *fitted):
            found[name] |= figures.stopping_highest(told[name], is_fraud, numbers)
        error = fitted["autoencoder"].raw[known]
        for kind, chosen in (("fraud", is_fraud == 1), ("genuine", is_fraud == 0)):
            found["autoencoder"][f"mean_squared_error_{kind}"] = float(error[chosen].mean()) if chosen.any() else None
        return found

    def _measured(self, fitted: dict[str, _Fitted], told: dict[str, Vector], manifest: Manifest, known: Vector) -> report.Measured | None:
        if not len(known):
            return None
        span, sample, calibration = self._spans["report"], self._sample, manifest.calibration
        return report.Measured(
            scores=told,
            layers=(ENSEMBLE, *fitted),
            probability=None if calibration is None else calibration.probability(told[ENSEMBLE]),
            is_fraud=sample.is_fraud[known],
            fraud_type=sample.fraud_type[known],
            alerted=sample.alerted[known],
            cards=np.unique(sample.cards[known], return_inverse=True)[1],
            amount=sample.column("amount")[known] if "amount" in sample.features else np.full(len(known), np.nan),
            channel=sample.column("channel")[known] if "channel" in sample.features else np.full(len(known), np.nan),
            days=(span.end - span.start) / DAY_MS,
            contributions=self._contributions(fitted, known),
            sources=fitted[SUPERVISED].layer.inputs.sources if self._supervised else (),
            seed=self._plan.seed,
        )

    def _contributions(self, fitted: dict[str, _Fitted], known: Vector) -> Vector | None:
        """XGBoost's own, to some of these payments; `None` where there is no XGBoost."""
        if not self._supervised or CONTRIBUTIONS not in fitted[SUPERVISED].files:
            return None
        import xgboost

        some = known[:: -(-len(known) // SOME)]
        booster = xgboost.Booster(model_file=bytearray(fitted[SUPERVISED].files[CONTRIBUTIONS]))
        booster.feature_names = None
        rows = fitted[SUPERVISED].layer.inputs.of(self._sample.features)(self._sample.rows[some])
        found: Vector = booster.predict(xgboost.DMatrix(rows), pred_contribs=True)[:, :-1]
        return found


def _log_odds(votes: Vector) -> Vector:
    inside = np.clip(votes, trees.SURE, 1.0 - trees.SURE)
    odds: Vector = np.log(inside / (1.0 - inside))
    return odds


def _saved(name: str, model: Any) -> dict[str, bytes]:
    import joblib

    buffer = BytesIO()
    joblib.dump(model, buffer, compress=3)
    return {f"{name}.joblib": buffer.getvalue()}


def _versions() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
