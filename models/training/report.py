"""A training as a page that needs nothing else, and as a model card: what it learnt from, and how good it is on payments it never saw."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import fields

from aegis_app.core.encoding import CHANNELS
from aegis_app.core.features import GROUPS
from aegis_app.core.payment import money
from models.bundle import Cost, Figures, Manifest
from models.drawing import FAINT, FRAUD, GENUINE, QUIET, figure
from models.evaluation.figures import FALSE_POSITIVE_RATES
from models.evaluation.resampling import Resampled
from models.inputs import Vector
from models.training import chance
from models.training.chance import Band
from models.training.figures import stopping
from models.training.thresholds import gained

PAGE: Final = "report.html"
CARD: Final = "model_card.md"
COLOURS: Final = ("#1d2733", FRAUD, GENUINE, "#e8a33d", "#8e2f5c", "#5f9e6e")
"""Of layers, the ensemble first."""
POINTS: Final = 500
"""Of a curve, at most."""
PLAIN: Final = "{x:g}"
"""Numbers on axes of logarithms, which would be formulas else."""
BINS: Final = 10
SHOWN: Final = 20
"""Features in the picture of importance."""
SHADED: Final = "Shaded: 95 % of the ensemble's, over draws of the cards."
FAINTLY: Final = 0.15
WITHOUT: Final = "without_"
"""What the names of figures begin with that are of the ensemble without a layer."""
QUARTERS: Final = (0.25, 0.5, 0.75)
"""Shares of the payments at which bands of amounts end."""
GROUP_OF: Final = {field.name: group for group, kind in GROUPS.items() for field in fields(kind)}
"""Of each feature of the catalogue."""


class Measured(Struct, frozen=True):
    """The report window: payments whose kind is known, and what was said of each."""

    scores: dict[str, Vector]
    """Of layers and of what else is compared; `ensemble` first."""
    layers: tuple[str, ...]
    """Those of which curves are drawn."""
    probability: Vector | None
    is_fraud: Vector
    fraud_type: Vector
    """Empty where none is known."""
    alerted: Vector
    cards: Vector
    """Numbers from 0."""
    amount: Vector
    """Minor units of the base currency; NaN is not known."""
    channel: Vector
    """Codes; NaN or 0 is not known."""
    days: float
    contributions: Vector | None
    """To the log-odds of some of them, a column for each input of the supervised layer; `None` where it cannot say."""
    sources: tuple[str, ...]
    """The feature of each column."""
    seed: int


def written(manifest: Manifest, measured: Measured | None, *, silent: bool) -> dict[str, bytes]:
    """The files of a report by name. Without labels there is nothing to measure by, and no pictures. `silent`: no layer says what made its
    score.
    """
    from markupsafe import Markup

    from models.pages import filled

    measured = measured if measured is not None and 0 < measured.is_fraud.sum() < len(measured.is_fraud) else None
    drawn = None if measured is None else chance.drawn(measured.scores, measured.is_fraud, measured.cards, measured.amount, measured.seed)
    shown = [] if measured is None else [(caption, note, Markup(svg)) for caption, note, svg in pictures(manifest, measured)]
    tables = {
        "layers": list(layers(manifest, drawn)),
        "ablation": [] if drawn is None else list(ablation(manifest, drawn)),
        "confusions": list(confusions(manifest)),
        "parts": [] if measured is None else list(parts(manifest, measured)),
    }
    return {name: filled(__package__, name, manifest=manifest, silent=silent, pictures=shown, **tables).encode() for name in (PAGE, CARD)}


def layers(manifest: Manifest, drawn: Resampled | None) -> Iterator[tuple[str, list[str]]]:
    """Each layer's row: ROC-AUC, average precision, frauds found at three false-positive rates; with intervals where they were drawn."""
    for name, figures in manifest.metrics.items():
        if "roc_auc" in figures and not name.startswith(WITHOUT):
            yield name, list(_ranking(name, figures, drawn))


def _ranking(name: str, figures: Figures, drawn: Resampled | None) -> Iterator[str]:
    for column in ("roc_auc", "average_precision"):
        yield _number(figures.get(column), ".3f") + ("" if drawn is None else _bounds(drawn.interval(name, column), ".3f"))
    for rate in FALSE_POSITIVE_RATES:
        yield _number(figures.get(f"recall_at_fpr_{rate}"), ".1%")


def _bounds(interval: tuple[float, float], form: str) -> str:
    return " ({} to {})".format(*(format(bound, form) for bound in interval))


def ablation(manifest: Manifest, drawn: Resampled) -> Iterator[tuple[str, list[str]]]:
    """Each layer alone, and the ensemble without each: average precision, and by how much it is above all together."""
    names = [layer.name for layer in manifest.layers]
    rows = {f"{name} alone": name for name in names} | {f"all without {name}": WITHOUT + name for name in names}
    for row, name in {"all": "ensemble", **rows}.items():
        above, interval = drawn.difference(name, "ensemble", "average_precision")
        figures = manifest.metrics[name]
        cells = [_number(figures["average_precision"], ".3f"), _number(figures["recall_at_fpr_0.005"], ".1%")]
        yield row, [*cells, "" if name == "ensemble" else f"{above:+.3f}{_bounds(interval, '+.3f')}"]


def parts(manifest: Manifest, measured: Measured) -> Iterator[tuple[str, list[str]]]:
    """What rules and models stop, by how large a payment is, how it came, and how frauds were made: payments, frauds, and of these the
    share stopped.
    """
    stopped = measured.alerted | (measured.scores["ensemble"] >= manifest.thresholds.review)
    for name, chosen in _parts(manifest, measured):
        figures = stopping(stopped[chosen], measured.is_fraud[chosen])
        frauds = measured.is_fraud[chosen].sum()
        cells = [f"{chosen.sum():,}", f"{frauds:,.0f}", _number(figures["recall"], ".1%"), _number(figures["precision"], ".1%")]
        yield name, [*cells, _number(figures["false_positive_rate"], ".3%")]
    for name in np.unique(measured.fraud_type[measured.fraud_type != ""]):
        frauds = measured.fraud_type == name
        yield f"frauds: {name}", ["", f"{frauds.sum():,}", f"{stopped[frauds].mean():.1%}", "", ""]


def _parts(manifest: Manifest, measured: Measured) -> Iterator[tuple[str, Vector]]:
    known = measured.amount[np.isfinite(measured.amount)]
    edges = np.unique(np.round(np.quantile(known, QUARTERS))) if len(known) else known
    for low, high in pairwise([-np.inf, *edges, np.inf]):
        chosen = (low < measured.amount) & (measured.amount <= high)
        if chosen.any():
            above = np.isinf(high)
            yield f"{'above' if above else 'up to'} {money(int(low if above else high), manifest.base_currency)}", chosen
    for channel, code in CHANNELS.items():
        if (chosen := measured.channel == code).any():
            yield channel.value, chosen


def confusions(manifest: Manifest) -> Iterator[tuple[str, list[str]]]:
    """Rows of what is stopped by rules, from each threshold, and by each layer alone where it stops as many: precision, recall, F1,
    false-positive rate, and the four counts.
    """
    metrics, layers = manifest.metrics, [layer.name for layer in manifest.layers]
    rows = [("rules", metrics.get("rules", {}), ""), ("rules or models, to review or block", metrics.get("rules_or_models", {}), "")]
    for word, limit in (("review", manifest.thresholds.review), ("block", manifest.thresholds.block)):
        rows.append((word if limit is None else f"{word}, from {limit:.4f}", metrics.get("ensemble", {}), f"{word}_"))
        rows += [(f"{name} alone, as many as {word}ed", metrics.get(name, {}), f"{word}_") for name in layers]
    for name, figures, prefix in rows:
        if f"{prefix}precision" in figures:
            yield name, list(_confusion(figures, prefix))


def _confusion(figures: Figures, prefix: str) -> Iterator[str]:
    for name in ("precision", "recall", "f1"):
        yield _number(figures[prefix + name], ".3f")
    yield _number(figures[f"{prefix}false_positive_rate"], ".3%")
    for name in ("true_positives", "false_positives", "false_negatives", "true_negatives"):
        yield _number(figures[prefix + name], ",.0f")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def pictures(manifest: Manifest, measured: Measured) -> Iterator[tuple[str, str, str]]:
    """Caption, note and SVG of each, of frauds and genuine payments."""
    band = chance.band(measured.scores["ensemble"], measured.is_fraud, measured.cards, measured.seed)
    yield (
        "Frauds found against false positives",
        f"ROC, its left end widened. {SHADED}",
        _roc(measured, band),
    )
    yield "Precision against frauds found", f"Of what is stopped, how much is fraud. {SHADED}", _precision(measured, band)
    yield "Frauds found against alerts a day", "By score alone; the mark is what rules find, and take.", _alerts(measured)
    yield "Scores", f"The line is the review threshold, {manifest.thresholds.review:.4f}.", _scores(manifest, measured)
    if measured.probability is not None:
        yield "Probability against share of frauds", "Ten groups of equal numbers of frauds; on the line is right.", _calibration(measured)
    if manifest.cost is not None:
        yield "Saved against payments stopped a day", "By score alone, against stopping nothing.", _saved(manifest.cost, measured)
    if measured.contributions is not None:
        groups = [GROUP_OF.get(source, "attributes") for source in measured.sources]
        note = "Mean change of the log-odds of fraud, up or down (Shapley values)."
        yield "What moves the supervised layer", note, _importance(importance(measured.contributions, measured.sources))
        yield (
            "The same by groups of features",
            "What features of a group say against each other is taken off.",
            _importance(importance(measured.contributions, groups)),
        )


def _order(score: Vector, is_fraud: Vector) -> tuple[Vector, Vector]:
    """Frauds and genuine payments among the highest scores, for each number of them."""
    ordered = is_fraud[np.argsort(-score, kind="stable")]
    return np.cumsum(ordered), np.cumsum(1 - ordered)


def _thinned(*curves: Vector) -> list[Vector]:
    places = np.unique(np.geomspace(1, len(curves[0]), POINTS).astype(np.intp)) - 1
    return [curve[places] for curve in curves]


def _roc(measured: Measured, band: Band) -> str:
    with figure(3.4) as (axes, svg):
        axes.fill_between(chance.WRONG, *band.found, color=COLOURS[0], alpha=FAINTLY, linewidth=0)
        for name, colour in zip(measured.layers, COLOURS, strict=False):
            found, wrong = _order(measured.scores[name], measured.is_fraud)
            axes.plot(*_thinned(wrong / wrong[-1], found / found[-1]), color=colour, label=name)
        axes.set_xscale("symlog", linthresh=0.001)
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set(xlabel="false-positive rate", ylabel="frauds found", xlim=(0, 1), ylim=(0, 1.01))
        axes.legend(loc="lower right")
    return svg.getvalue()


def _precision(measured: Measured, band: Band) -> str:
    with figure(3.4) as (axes, svg):
        axes.fill_between(chance.FOUND, *band.precision, color=COLOURS[0], alpha=FAINTLY, linewidth=0)
        for name, colour in zip(measured.layers, COLOURS, strict=False):
            found, wrong = _order(measured.scores[name], measured.is_fraud)
            axes.plot(*_thinned(found / found[-1], found / (found + wrong)), color=colour, label=name)
        axes.set(xlabel="frauds found", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
        axes.legend(loc="best")
    return svg.getvalue()


def _alerts(measured: Measured) -> str:
    with figure(3.4) as (axes, svg):
        found, wrong = _order(measured.scores["ensemble"], measured.is_fraud)
        axes.plot(*_thinned((found + wrong) / measured.days, found / found[-1]), color=COLOURS[0], label="ensemble")
        by_rules = measured.is_fraud[measured.alerted].sum() / found[-1]
        axes.plot(measured.alerted.sum() / measured.days, by_rules, "o", color=FRAUD, label="rules")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set(xlabel="alerts a day", ylabel="frauds found", ylim=(0, 1.01))
        axes.legend(loc="lower right")
    return svg.getvalue()


def _scores(manifest: Manifest, measured: Measured) -> str:
    score = measured.scores["ensemble"]
    with figure(3.0) as (axes, svg):
        for kind, colour, chosen in (("genuine", GENUINE, measured.is_fraud == 0), ("fraud", FRAUD, measured.is_fraud == 1)):
            axes.hist(score[chosen], bins=np.linspace(0, 1, 51).tolist(), color=colour, alpha=0.7, label=kind)
        axes.axvline(manifest.thresholds.review, color=QUIET, linewidth=1)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PLAIN)
        axes.set(xlabel="score", ylabel="payments", xlim=(0, 1))
        axes.legend(loc="upper right")
    return svg.getvalue()


def _calibration(measured: Measured) -> str:
    assert measured.probability is not None
    order = np.argsort(measured.probability, kind="stable")
    said, truth = measured.probability[order], measured.is_fraud[order]
    ends = np.searchsorted(np.cumsum(truth), np.linspace(0, truth.sum(), BINS + 1)[1:])
    groups = [slice(start, end + 1) for start, end in zip([0, *ends[:-1] + 1], ends, strict=True) if end + 1 > start]
    with figure(3.4) as (axes, svg):
        axes.plot([1e-5, 1], [1e-5, 1], color=FAINT, linewidth=1)
        axes.plot([said[group].mean() for group in groups], [truth[group].mean() for group in groups], "o-", color=COLOURS[0])
        for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
            scale("log")
            axis.set_major_formatter(PLAIN)
        axes.set(xlabel="probability said", ylabel="share of frauds")
    return svg.getvalue()


def _saved(cost: Cost, measured: Measured) -> str:
    priced = np.isfinite(measured.amount)
    order = np.argsort(-measured.scores["ensemble"][priced], kind="stable")
    gains = gained(cost, measured.is_fraud[priced][order] == 1, measured.amount[priced][order])
    with figure(3.4) as (axes, svg):
        for (name, gain), colour in zip(gains.items(), COLOURS, strict=False):
            axes.plot(*_thinned(np.arange(1, len(gain) + 1) / measured.days, gain / 100 / measured.days), color=colour, label=name)
        axes.axhline(0, color=FAINT, linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set(xlabel="payments stopped a day", ylabel="saved a day")
        axes.legend(loc="lower left")
    return svg.getvalue()


def _importance(importance: Mapping[str, float]) -> str:
    strongest: Sequence[tuple[str, float]] = sorted(importance.items(), key=lambda each: -each[1])[:SHOWN]
    with figure(0.6 + 0.22 * len(strongest)) as (axes, svg):
        axes.barh([name for name, _ in strongest], [value for _, value in strongest], height=0.7, color=GENUINE)
        axes.invert_yaxis()
    return svg.getvalue()


def importance(contributions: Vector, sources: Sequence[str]) -> dict[str, float]:
    """Of each feature: the mean size of what its inputs add to the log-odds, by contributions of rows."""
    added: dict[str, Vector] = {}
    for source, column in zip(sources, contributions.T, strict=True):
        added[source] = added.get(source, np.zeros(len(contributions))) + column
    return {source: float(np.abs(values).mean()) for source, values in added.items()}
