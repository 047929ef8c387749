"""The pictures of a report, as SVG text. Equal reports, equal pictures: no date, and ids by a fixed salt."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from matplotlib.axes import Axes
from numpy import arange

from aegis_app.backtest.report import Day, Judgement, Report
from aegis_app.core.policy import State
from models.drawing import FAINT, FRAUD, GENUINE, QUIET, figure

REVIEW: Final = "#e8a33d"
BLOCK: Final = "#8e2f5c"
ROW: Final = 0.27
"""Inches of height for a bar with its name."""


def pictures(report: Report) -> Iterator[tuple[str, str]]:
    """Caption and SVG of each; those without anything to show are left out. Two policies are drawn to one scale."""
    names = (" (A)", " (B)") if len(report.policies) == 2 else ("",)
    for name, judgement in zip(names, report.policies, strict=True):
        yield f"Alerts a day{name}", _alerts(judgement.days, max(each.most_alerts_a_day for each in report.policies))
    for name, judgement in zip(names, report.policies, strict=True):
        if any(rule.hits.payments for rule in judgement.rules):
            yield f"What rules hit{name}", _hits(judgement, max(rule.hits.payments for each in report.policies for rule in each.rules))
    for name, judgement in zip(names, report.policies, strict=True):
        if any(figures.fraud_type is not None for figures in judgement.frauds):
            yield f"Frauds by type{name}", _frauds(judgement)
    for name, judgement in zip(names, report.policies, strict=True):
        if judgement.overlaps:
            yield f"Share of a rule's hits (row) that another rule hit too{name}", _overlaps(judgement)


def _alerts(days: Sequence[Day], most: int) -> str:
    with figure(2.3) as (axes, svg):
        edges = arange(str(days[0].day), str(days[-1].day + timedelta(days=2)), dtype="datetime64[D]")
        blocked = [day.blocked for day in days]
        axes.stairs([day.alerts for day in days], edges, baseline=blocked, fill=True, color=REVIEW, label="review")
        axes.stairs(blocked, edges, fill=True, color=BLOCK, label="block")
        axes.set_ylim(0, 1.05 * max(1, most))
        axes.margins(x=0)
        _legend(axes)
    return svg.getvalue()


def _hits(judgement: Judgement, most: int) -> str:
    hit = [rule for rule in judgement.rules if rule.hits.payments]
    names = [rule.rule if rule.state == State.ON else f"{rule.rule} ({rule.state})" for rule in hit]
    counts = {
        ("fraud", FRAUD): [rule.hits.frauds for rule in hit],
        ("genuine", GENUINE): [rule.hits.genuine for rule in hit],
        ("not labelled", FAINT): [rule.hits.payments - rule.hits.labelled for rule in hit],
    }
    return _bars(names, counts, most)


def _frauds(judgement: Judgement) -> str:
    names = [figures.fraud_type or "of no type" for figures in judgement.frauds]
    counts = {
        ("block", BLOCK): [figures.blocked for figures in judgement.frauds],
        ("review", REVIEW): [figures.reviewed for figures in judgement.frauds],
        ("missed", FAINT): [figures.frauds - figures.blocked - figures.reviewed for figures in judgement.frauds],
    }
    return _bars(names, counts, max(figures.frauds for figures in judgement.frauds))


def _bars(names: Sequence[str], counts: Mapping[tuple[str, str], Sequence[int]], most: int) -> str:
    """A bar for each name, the first on top; its pieces by word and colour."""
    with figure(0.7 + ROW * len(names)) as (axes, svg):
        places = range(len(names))
        reached = [0] * len(names)
        for (word, color), lengths in counts.items():
            if any(lengths):
                axes.barh(places, lengths, left=reached, height=0.72, color=color, label=word)
                reached = [start + length for start, length in zip(reached, lengths, strict=True)]
        axes.set_yticks(places, names)
        axes.set_xlim(0, 1.02 * most)
        axes.invert_yaxis()
        _legend(axes)
    return svg.getvalue()


def _overlaps(judgement: Judgement) -> str:
    """Of each row's hits, the share that the column hit as well."""
    both = {overlap.rules: overlap.both.payments for overlap in judgement.overlaps}
    involved = [rule for rule in judgement.rules if any(rule.rule in pair for pair in both)]
    names = [rule.rule for rule in involved]
    shares = [[both.get((row.rule, name), both.get((name, row.rule), 0)) / row.hits.payments for name in names] for row in involved]
    with figure(1.5 + ROW * len(names)) as (axes, svg):
        axes.pcolormesh(shares, cmap="Purples", vmin=0, vmax=1, edgecolors="white", linewidth=1)
        centres = [place + 0.5 for place in range(len(names))]
        axes.set_xticks(centres, names, rotation=35, ha="right")
        axes.set_yticks(centres, names)
        axes.invert_yaxis()
        for row, of_row in zip(centres, shares, strict=True):
            for column, part in zip(centres, of_row, strict=True):
                if part:
                    axes.text(
                        column,
                        row,
                        f"{part:.0%}" if part >= 0.01 else "<1%",
                        ha="center",
                        va="center",
                        color="white" if part > 0.4 else QUIET,
                        fontsize=7,
                    )
    return svg.getvalue()


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)
