"""An evaluation in JSON, and as a table for people."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import isnan
from typing import Any, Final

from models.evaluation.figures import Test
from models.evaluation.handbook import CEILING, PUBLISHED, Judged
from models.evaluation.resampling import Resampled
from models.evaluation.weeks import Week

DAY_S: Final = 86_400
SHOWN: Final = {"roc_auc": "ROC-AUC", "average_precision": "AP", "card_precision_100": "CP@100"}
"""On a terminal; the handbook published these."""


def as_json(data: str, judged: Sequence[Judged], found: Resampled) -> dict[str, Any]:
    """The figures of each layer, under its name, as the mean of the weeks, with `intervals`; and under `weeks` of each week.

    `null` is what cannot be told.
    """
    layers = {layer: {**_plain(point), "intervals": _intervals(found, layer)} for layer, point in found.point.items()}
    weeks = [
        {**_dates(each.week), "payments": len(each.places), "frauds": int(each.test.is_fraud.sum())}
        | {layer: _plain(point) for layer, point in of.items()}
        for each, of in zip(judged, found.weeks, strict=True)
    ]
    published = {"train_start": "2018-07-25", "test_start": "2018-08-08", **PUBLISHED, "perfect detector": CEILING}
    return {"data": data, **layers, "weeks": weeks, "published": published}


def bundle_as_json(data: str, bundle: str, test: Test, found: Resampled) -> dict[str, Any]:
    """The figures of each layer of a bundle, under its name, with `intervals`."""
    layers = {layer: {**_plain(point), "intervals": _intervals(found, layer)} for layer, point in found.point.items()}
    return {"data": data, "bundle": bundle, "payments": len(test.is_fraud), "frauds": int(test.is_fraud.sum()), **layers}


def bundle_lines(test: Test, found: Resampled) -> Iterator[str]:
    """The same as a table."""
    yield f"tested from {day(int(test.day.min()))} to {day(int(test.day.max()))}"
    yield f"{len(test.is_fraud):,} payments, {test.is_fraud.sum():,} frauds"
    yield from _table(found)


def _plain(point: dict[str, float]) -> dict[str, float | None]:
    return {name: None if isnan(value) else value for name, value in point.items()}


def _intervals(found: Resampled, layer: str) -> dict[str, list[float | None]]:
    return {name: [None if isnan(bound) else bound for bound in found.interval(layer, name)] for name in found.point[layer]}


def _dates(week: Week) -> dict[str, Any]:
    return {
        "train_start": day(week.train_start),
        "train_days": week.train_days,
        "test_start": day(week.test_start),
        "test_days": week.test_days,
        "delay_days": week.delay,
    }


def day(number: int) -> str:
    """A day since 1970 as people write it."""
    return f"{datetime.fromtimestamp(number * DAY_S, UTC):%Y-%m-%d}"


def lines(judged: Sequence[Judged], found: Resampled) -> Iterator[str]:
    """A table: a row for each layer with 95 % intervals, and below what the handbook published."""
    frauds, payments = (sum(counts) for counts in zip(*((int(each.test.is_fraud.sum()), len(each.places)) for each in judged), strict=True))
    first, last = judged[0].week, judged[-1].week
    weeks = "1 week" if len(judged) == 1 else f"{len(judged)} weeks, figures are their means"
    yield f"tested from {day(first.test_start)} to {day(last.test_end - 1)}, {weeks}"
    yield f"trained on {first.train_days} days, which end {first.delay} days before the test"
    yield f"{payments:,} payments of cards not known to be compromised, {frauds:,} frauds"
    yield from _table(found)
    yield "published, trained on 7 days from 2018-07-25, tested on 7 from 2018-08-08:"
    for layer, point in PUBLISHED.items():
        yield _row(layer, [f"{value:.3f}" for value in point.values()])
    yield _row("a perfect detector", [f"{low:.3f} to {high:.3f}" for low, high in CEILING.values()])


def _table(found: Resampled) -> Iterator[str]:
    yield _row("", list(SHOWN.values()))
    for layer, point in found.point.items():
        bounds = [found.interval(layer, name) for name in SHOWN]
        yield _row(layer, [f"{point[name]:.3f} ({low:.3f} to {high:.3f})" for name, (low, high) in zip(SHOWN, bounds, strict=True)])


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:24}" + "".join(f"{cell:24}" for cell in cells).rstrip()
