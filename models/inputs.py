"""From features to what a model is given: one way, for training and for serving.

Rows are float32, a column for each name, null as NaN. A payment's attributes are columns beside its features.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.float32]
Vector: TypeAlias = NDArray[Any]

ATTRIBUTES: Final = "attributes."
"""What the names of attributes begin with."""
CODED: Final = frozenset({"kind", "channel", "category", "country"})
"""Features that are names written as numbers: more of them is not more of anything."""
MOST: Final = 10.0
"""Scaled inputs lie within this many spreads of the centre."""


class Plain(Struct, frozen=True, tag="plain"):
    """Features as they are, null as null; and for each frequent code whether it is this one. A code that is not among them is none."""

    features: tuple[str, ...]
    codes: tuple[tuple[str, float], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs, in their order."""
        return (*self.features, *(f"{feature}={code:g}" for feature, code in self.codes))

    @property
    def sources(self) -> tuple[str, ...]:
        """The feature that each input is made of."""
        return (*self.features, *(feature for feature, _ in self.codes))

    def of(self, names: Sequence[str]) -> Callable[[Rows], Rows]:
        """What makes inputs of rows with these columns."""
        plain, coded = _places(self.features, names), _places([feature for feature, _ in self.codes], names)
        if not self.codes:
            return lambda rows: rows[:, plain]
        codes = np.array([code for _, code in self.codes], np.float32)
        return lambda rows: np.concatenate([rows[:, plain], rows[:, coded] == codes], axis=1, dtype=np.float32)


class Scaled(Struct, frozen=True, tag="scaled", omit_defaults=True):
    """Long tails as log(1 + x); then distances from the centre in spreads, within ±10; null counts as the centre, and so does the side
    of it that is not unusual. Without `sides` it is written as before there were any: a bundle's version is a hash of that.
    """

    features: tuple[str, ...]
    long_tailed: tuple[bool, ...]
    centres: tuple[float, ...]
    """Medians, in log where long-tailed."""
    spreads: tuple[float, ...]
    """Half of what the middle 90 % span; the standard deviation where that is nothing."""
    sides: tuple[int, ...] = ()
    """1: only more than the centre is unusual; -1: only less; 0: both. Empty: both, of all."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs, in their order."""
        return self.features

    @property
    def sources(self) -> tuple[str, ...]:
        """The feature that each input is made of."""
        return self.features

    def of(self, names: Sequence[str]) -> Callable[[Rows], Rows]:
        """What makes inputs of rows with these columns."""
        places, long_tailed = _places(self.features, names), np.flatnonzero(self.long_tailed)
        centres, spreads = np.array(self.centres, np.float32), np.array(self.spreads, np.float32)
        sides = np.array(self.sides or [0] * len(places))
        lows, highs = (np.where(sides == side, 0.0, most).astype(np.float32) for side, most in ((1, -MOST), (-1, MOST)))

        def read(rows: Rows) -> Rows:
            values = rows[:, places]
            values[:, long_tailed] = np.log1p(np.maximum(values[:, long_tailed], 0))
            values -= centres
            values /= spreads
            np.clip(values, lows, highs, out=values)
            values[np.isnan(values)] = 0.0
            return values

        return read


Inputs: TypeAlias = Plain | Scaled


def in_parts(score: Callable[[Rows], Vector], rows: Rows) -> Vector:
    """Scores, found a part at a time, so that what is made on the way stays small."""
    parts = np.array_split(rows, max(1, len(rows) // 50_000))
    return np.concatenate([score(part) for part in parts]).astype(np.float64)


def _places(features: Sequence[str], names: Sequence[str]) -> Vector:
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[feature] for feature in features], np.intp)
