"""What chance may have done to figures: the bootstrap, by cards.

Cards are drawn, not payments: frauds come in runs on a card, and payments drawn one by one would pass for more evidence than they are. The
same draw serves every layer and every week, so that differences are of like with like.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from models.evaluation.figures import Figures, Floats, Ranking, Test, mean

RESAMPLES: Final = 1000
LEVEL: Final = 0.95

Scored = tuple[Test, Mapping[str, Any]]
"""Payments to judge by, and scores of each layer for them."""


class Resampled:
    """Figures of several layers over several weeks; each is the mean of the weeks."""

    def __init__(self, weeks: list[dict[str, Figures]], draws: list[dict[str, Figures]]) -> None:
        self.weeks = weeks
        """By layer."""
        self.point = {layer: mean([week[layer] for week in weeks]) for layer in weeks[0]}
        self._draws = draws

    def interval(self, layer: str, figure: str) -> tuple[float, float]:
        """Within which the figure lies for 95 % of the draws; `nan` where none can be told."""
        return _interval(np.array([draw[layer][figure] for draw in self._draws]))

    def difference(self, layer: str, other: str, figure: str) -> tuple[float, tuple[float, float]]:
        """By how much `layer` is above `other`, and its interval over the same draws."""
        above = np.array([draw[layer][figure] - draw[other][figure] for draw in self._draws])
        return self.point[layer][figure] - self.point[other][figure], _interval(above)


def _interval(values: Floats) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def resample(
    weeks: Sequence[Scored], number: int = RESAMPLES, seed: int = 0, progress: Callable[[int], object] = lambda done: None
) -> Resampled:
    """Judge every layer on every week, then again on `number` draws of the cards; the codes of cards are the same in all weeks.

    Costs about 2 ms a draw, layer and week of 60,000 payments.
    """
    rankings = [(test, {layer: Ranking(test, scores) for layer, scores in layers.items()}) for test, layers in weeks]
    cards = 1 + max(int(test.card.max()) for test, _ in weeks)
    present = np.unique(np.concatenate([test.card for test, _ in weeks]))
    random, draws = np.random.default_rng(seed), []
    for _ in range(number):
        copies = np.zeros(cards)
        copies[present] = random.multinomial(len(present), np.full(len(present), 1 / len(present)))
        drawn = _judged(rankings, copies)
        draws.append({layer: mean([week[layer] for week in drawn]) for layer in drawn[0]})
        progress(1)
    return Resampled(_judged(rankings, np.ones(cards)), draws)


def _judged(rankings: Sequence[tuple[Test, Mapping[str, Ranking]]], copies: Floats) -> list[dict[str, Figures]]:
    judged = []
    for test, layers in rankings:
        weight = test.weight * copies[test.card]
        judged.append({layer: ranking.figures(weight, copies) for layer, ranking in layers.items()})
    return judged
