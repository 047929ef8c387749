"""How what a bundle is given, and says, is spread now, against how it was in training: counts by bin, to be compared elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import numpy as np
from msgspec import Meta, Struct

from models.inputs import Rows, Vector

SCORE: Final = "score"
"""Names the score by all layers among features and layers."""
BINS: Final = 10
"""At most, besides that of what is not known."""
_NULL: Final = BINS
_WIDTH: Final = BINS + 1
TOGETHER: Final = 1024
"""Rows that are counted at once: one at a time they would cost more than they are scored for."""


class Histogram(Struct, frozen=True):
    """Tenths of what was known, as far as values differ; and what was not."""

    edges: Annotated[tuple[float, ...], Meta(description="upper ends of all bins but the last, belonging to them")]
    shares: Annotated[tuple[float, ...], Meta(description="of each bin; the last is of what was not known")]


def histogram(values: Vector) -> Histogram:
    """Of the values of one feature, in 32 bits; NaN is not known."""
    values = values.astype(np.float32)
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS, method="lower")) if len(known) else known
    edges = edges[edges < known.max()] if len(known) else edges
    of = Histogram(tuple(edges.tolist()), (0.0,) * (len(edges) + 2))
    drift = Drift({"": of}, [""])
    drift.add(values[:, None])
    counts = drift.counts()[""]
    return Histogram(of.edges, tuple(number / max(1, len(values)) for number in counts))


class Drift:
    """Counts by bin of what came by since a bundle was loaded."""

    def __init__(self, histograms: Mapping[str, Histogram], columns: Sequence[str]) -> None:
        """`columns` are those of the rows to come; the ones that have a histogram are counted."""
        self._names = [name for name in columns if name in histograms]
        self._places = np.array([columns.index(name) for name in self._names], np.intp)
        self._ends = [len(histograms[name].edges) for name in self._names]
        self._edges = np.full((BINS - 1, len(self._names)), np.inf, np.float32)
        for place, name in enumerate(self._names):
            self._edges[: self._ends[place], place] = histograms[name].edges
        self._counts = np.zeros((len(self._names), _WIDTH), np.int64)
        self._waiting: list[Rows] = []
        self._number = 0

    def add(self, rows: Rows) -> None:
        """Take note of rows, which must not change afterwards."""
        if not self._names:
            return
        self._waiting.append(rows)
        self._number += len(rows)
        if self._number >= TOGETHER:
            self._count()

    def _count(self) -> None:
        values = np.ascontiguousarray(np.concatenate(self._waiting).T[self._places])
        self._waiting, self._number = [], 0
        bins = np.zeros(values.shape, np.int8)
        for edges in self._edges:
            bins += (values > edges[:, None]).view(np.int8)
        bins[np.isnan(values)] = _NULL
        for counts, each in zip(self._counts, bins, strict=True):
            counts += np.bincount(each, minlength=_WIDTH)

    def counts(self) -> dict[str, list[int]]:
        """By feature or score, those of each bin; the last is of what was not known."""
        if self._waiting:
            self._count()
        table = zip(self._names, self._ends, self._counts.tolist(), strict=True)
        return {name: [*counts[: end + 1], counts[_NULL]] for name, end, counts in table}
