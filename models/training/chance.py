"""What chance may have done to figures and curves of the report window: measured again for cards drawn with replacement."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from msgspec import Struct

from models.evaluation.figures import Codes, Floats, Test
from models.evaluation.resampling import LEVEL, Resampled, resample
from models.inputs import Vector

DRAWS: Final = 200
WRONG: Final[Floats] = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 120)])
"""False-positive rates at which a curve is read."""
FOUND: Final[Floats] = np.linspace(0.0, 1.0, 101)[1:]
"""Shares of the frauds."""


def drawn(scores: Mapping[str, Vector], is_fraud: Vector, cards: Codes, amount: Vector, seed: int) -> Resampled:
    """All scores on the same draws."""
    test = Test(is_fraud == 1, np.nan_to_num(amount), cards, np.zeros(len(cards)))
    return resample([(test, scores)], DRAWS, seed)


class Band(Struct, frozen=True):
    """Within which a curve lies for 95 % of the draws; two rows, its lower and its upper edge."""

    found: Floats
    """Frauds found, at each of `WRONG`."""
    precision: Floats
    """At each of `FOUND`."""


def band(score: Vector, is_fraud: Vector, card: Codes, seed: int) -> Band:
    """Of the ROC and the precision of `score`; there are frauds and genuine payments. Costs about 3 ms a draw of 60,000 payments."""
    order = np.argsort(-score, kind="stable")
    fraud, card = is_fraud[order], card[order]
    cards, random = int(card.max()) + 1, np.random.default_rng(seed)
    curves = []
    for _ in range(DRAWS):
        weight = random.multinomial(cards, np.full(cards, 1 / cards))[card]
        found, wrong = np.cumsum(weight * fraud), np.cumsum(weight * (1 - fraud))
        if found[-1] and wrong[-1]:
            share = found / found[-1]
            sure = found / np.maximum(found + wrong, 1)
            curves.append((np.interp(WRONG, wrong / wrong[-1], share), sure[np.searchsorted(share, FOUND - 1e-9)]))
    bounds = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    roc, precision = (np.quantile(each, bounds, axis=0) for each in zip(*curves, strict=True))
    return Band(roc, precision)
