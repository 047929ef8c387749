"""A training as a page that needs nothing else, and as a model card: what it learnt from, and how good it is on payments it never saw."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Final

import numpy as np
from msgspec import Struct

from models.bundle import Figures, Manifest
from models.drawing import FAINT, FRAUD, GENUINE, QUIET, figure
from models.inputs import Vector

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


class Measured(Struct, frozen=True):
    """The report window: payments whose kind is known, and what was said of each."""

    scores: dict[str, Vector]
    """By layer, `ensemble` first."""
    probability: Vector | None
    is_fraud: Vector
    alerted: Vector
    days: float
    importance: dict[str, float]
    """By feature, the mean change of log-odds, up or down; empty where the supervised layer cannot say."""


def written(manifest: Manifest, measured: Measured | None) -> dict[str, bytes]:
    """The files of a report by name. Without labels there is nothing to measure by, and no pictures."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    drawn = [] if measured is None else [(caption, note, Markup(svg)) for caption, note, svg in pictures(manifest, measured)]
    found = {}
    for name, escaped in ((PAGE, True), (CARD, False)):
        environment = Environment(autoescape=escaped, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(files(__package__).joinpath(name).read_text("utf-8"))
        text = template.render(manifest=manifest, layers=list(layers(manifest)), confusions=list(confusions(manifest)), pictures=drawn)
        found[name] = text.encode()
    return found


def layers(manifest: Manifest) -> Iterator[tuple[str, list[str]]]:
    """Each layer's row: ROC-AUC, average precision, frauds found at three false-positive rates."""
    columns = ("roc_auc", "average_precision", "recall_at_fpr_0.001", "recall_at_fpr_0.005", "recall_at_fpr_0.01")
    for name, figures in manifest.metrics.items():
        if "roc_auc" in figures:
            yield name, [_number(figures.get(column), ".3f" if place < 2 else ".1%") for place, column in enumerate(columns)]


def confusions(manifest: Manifest) -> Iterator[tuple[str, list[str]]]:
    """Rows of what is stopped by rules, and from each threshold: precision, recall, F1, false-positive rate, and the four counts."""
    ensemble = manifest.metrics.get("ensemble", {})
    for name, figures, prefix in (
        ("rules", manifest.metrics.get("rules", {}), ""),
        (f"review, from {manifest.thresholds.review:.4f}", ensemble, "review_"),
        ("block" if manifest.thresholds.block is None else f"block, from {manifest.thresholds.block:.4f}", ensemble, "block_"),
    ):
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
    """Caption, note and SVG of each."""
    if not 0 < measured.is_fraud.sum() < len(measured.is_fraud):
        return
    yield "Frauds found against false positives", "ROC, its left end widened: that is where fraud teams work.", _roc(measured)
    yield "Precision against frauds found", "Of what is stopped, how much is fraud.", _precision(measured)
    yield "Frauds found against alerts a day", "By score alone; the mark is what rules find, and take.", _alerts(measured)
    yield "Scores", f"The line is the review threshold, {manifest.thresholds.review:.4f}.", _scores(manifest, measured)
    if measured.probability is not None:
        yield "Probability against share of frauds", "Ten groups of equal numbers of frauds; on the line is right.", _calibration(measured)
    if measured.importance:
        yield "What moves the supervised layer", "Mean change of the log-odds of fraud, up or down (Shapley values).", _importance(measured)


def _order(score: Vector, is_fraud: Vector) -> tuple[Vector, Vector]:
    """Frauds and genuine payments among the highest scores, for each number of them."""
    ordered = is_fraud[np.argsort(-score, kind="stable")]
    return np.cumsum(ordered), np.cumsum(1 - ordered)


def _thinned(*curves: Vector) -> list[Vector]:
    places = np.unique(np.geomspace(1, len(curves[0]), POINTS).astype(np.intp)) - 1
    return [curve[places] for curve in curves]


def _roc(measured: Measured) -> str:
    with figure(3.4) as (axes, svg):
        for (name, score), colour in zip(measured.scores.items(), COLOURS, strict=False):
            found, wrong = _order(score, measured.is_fraud)
            axes.plot(*_thinned(wrong / wrong[-1], found / found[-1]), color=colour, label=name)
        axes.set_xscale("symlog", linthresh=0.001)
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set(xlabel="false-positive rate", ylabel="frauds found", xlim=(0, 1), ylim=(0, 1.01))
        axes.legend(loc="lower right")
    return svg.getvalue()


def _precision(measured: Measured) -> str:
    with figure(3.4) as (axes, svg):
        for (name, score), colour in zip(measured.scores.items(), COLOURS, strict=False):
            found, wrong = _order(score, measured.is_fraud)
            axes.plot(*_thinned(found / found[-1], found / (found + wrong)), color=colour, label=name)
        axes.set(xlabel="frauds found", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
        axes.legend(loc="upper right")
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


def _importance(measured: Measured) -> str:
    strongest: Sequence[tuple[str, float]] = sorted(measured.importance.items(), key=lambda each: -each[1])[:SHOWN]
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
