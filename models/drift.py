"""How what a bundle is given, and says, is spread now, against how it was in training: counts by bin, to be compared elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import numpy as np
from msgspec import Meta, Struct

from models.inputs import Vector

SCORE: Final = "score"
"""Names the score by all layers among features and layers."""
BINS: Final = 10
"""At most, besides that of what is not known."""
TOGETHER: Final = 1024
"""Rows that are counted at once: one at a time they would cost more than they are scored for."""


class Histogram(Struct, frozen=True):
    """Tenths of what was known, as far as values differ; and what was not."""

    edges: Annotated[tuple[float, ...], Meta(description="upper ends of all bins but the last, belonging to them")]
    shares: Annotated[tuple[float, ...], Meta(description="of each bin; the last is of what was not known")]


def histogram(values: Vector) -> Histogram:
    """Of the values of one feature; NaN is not known."""
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS, method="lower")) if len(known) else np.empty(0)
    edges = edges[edges < known.max()] if len(known) else edges
    counts = _counted(values, edges)
    return Histogram(tuple(edges.tolist()), tuple((counts / max(1, len(values))).tolist()))


def _counted(values: Vector, edges: Vector) -> Vector:
    unknown = np.isnan(values)
    bins = np.where(unknown, len(edges) + 1, np.searchsorted(edges, values))
    return np.bincount(bins, minlength=len(edges) + 2)


class Drift:
    """Counts by bin of what came by since a bundle was loaded."""

    def __init__(self, histograms: Mapping[str, Histogram], columns: Sequence[str]) -> None:
        """`columns` are those of the rows to come; the ones that have a histogram are counted."""
        self._places = [(name, place) for place, name in enumerate(columns) if name in histograms]
        self._edges = {name: np.array(histograms[name].edges) for name, _ in self._places}
        self._counts = {name: np.zeros(len(edges) + 2, np.int64) for name, edges in self._edges.items()}
        self._waiting: list[Vector] = []
        self._number = 0

    def add(self, rows: Vector) -> None:
        """Take note of rows, which must not change afterwards."""
        if not self._places:
            return
        self._waiting.append(rows)
        self._number += len(rows)
        if self._number >= TOGETHER:
            self._count()

    def _count(self) -> None:
        rows = np.concatenate(self._waiting)
        for name, place in self._places:
            self._counts[name] += _counted(rows[:, place], self._edges[name])
        self._waiting, self._number = [], 0

    def counts(self) -> dict[str, list[int]]:
        """By feature or score, those of each bin; the last is of what was not known."""
        if self._waiting:
            self._count()
        return {name: counts.tolist() for name, counts in self._counts.items()}
