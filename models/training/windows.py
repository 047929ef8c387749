"""Four windows in time order, so that nothing is judged by what it was made from, nor by what nobody could have known."""

from datetime import UTC, datetime
from math import floor
from typing import Final, NamedTuple

import numpy as np

from models.bundle import Window
from models.inputs import Vector
from models.training.errors import TrainingError
from models.training.sample import DAY_MS, Sample

SHARES: Final = {"fit": 0.6, "combine": 0.15, "choose": 0.1, "report": 0.15}
"""Of the time that the gaps leave."""
LEAST: Final = 100
"""Payments in a window."""
LABEL_DELAY: Final = "--label-delay", "a shorter --label-delay needs fewer"
MATURITY: Final = (
    "--maturity, because some payments have no label",
    "labels of every payment, the genuine ones too, or a shorter --maturity need fewer",
)
"""What sets the days between two windows, and what shortens them."""


class Span(NamedTuple):
    """Payments that follow each other, and the moment from which they are used: what is known by then teaches."""

    name: str
    rows: slice
    start: float
    end: float
    used_at: float

    def known(self, sample: Sample) -> Vector:
        """Places of those whose label was known when they were used."""
        known = np.isfinite(sample.is_fraud[self.rows]) & (sample.known_at[self.rows] <= self.used_at)
        places: Vector = self.rows.start + np.flatnonzero(known)
        return places

    def summary(self, sample: Sample) -> Window:
        """For people."""
        known = self.known(sample)
        return Window(
            name=self.name,
            start=datetime.fromtimestamp(self.start / 1000, UTC),
            end=datetime.fromtimestamp(self.end / 1000, UTC),
            payments=self.rows.stop - self.rows.start,
            labelled=len(known),
            frauds=int(sample.is_fraud[known].sum()),
        )


def split(sample: Sample, gap_days: float, set_by: tuple[str, str] = LABEL_DELAY) -> dict[str, Span]:
    """The windows by name, each `gap_days` after the one before; a window is used when the next begins. Raises `TrainingError`."""
    first, last, gap = float(sample.times[0]), float(sample.times[-1]) + 1, gap_days * DAY_MS
    usable = last - first - gap * (len(SHARES) - 1)
    option, shorter = set_by
    gaps = f"{len(SHARES)} windows with {gap_days:g} days between them ({option})"
    if usable <= 0:
        least = floor(gap_days * (len(SHARES) - 1)) + 1
        raise TrainingError(
            f"{(last - first) / DAY_MS:.1f} days of payments are too few for {gaps}: at least {least} days are needed; {shorter}"
        )
    spans, start = {}, first
    for name, share in SHARES.items():
        end = last if name == "report" else start + share * usable
        rows = slice(*np.searchsorted(sample.times, [start, end]).tolist())
        if rows.stop - rows.start < LEAST:
            raise TrainingError(
                f"{rows.stop - rows.start} payments in the window to {name}, and {LEAST} are the least: {len(sample.times):,} on "
                f"{(last - first) / DAY_MS:.1f} days are too few for {gaps}; {shorter}"
            )
        spans[name] = Span(name, rows, start, end, np.inf if name == "report" else end + gap)
        start = end + gap
    return spans
