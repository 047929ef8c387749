"""The protocol of the Fraud-Detection-Handbook: train, wait until what was fraud is known, test on what comes then.

Days are whole, UTC, counted since 1970.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from msgspec import Struct

from models.evaluation.errors import EvaluationError
from models.evaluation.figures import Codes, Flags

WEEK: Final = 7


class Week(Struct, frozen=True):
    """Days of training and of the test after it."""

    train_start: int
    train_days: int
    test_start: int
    test_days: int = WEEK

    def __post_init__(self) -> None:
        if self.train_days < 1:
            raise EvaluationError("training covers no day")
        if self.delay < 0:
            raise EvaluationError("the test begins before training has ended")

    @property
    def train_end(self) -> int:
        """The first day after training."""
        return self.train_start + self.train_days

    @property
    def test_end(self) -> int:
        """The first day after the test."""
        return self.test_start + self.test_days

    @property
    def delay(self) -> int:
        """Days until it is known that a payment was fraud: those between training and test."""
        return self.test_start - self.train_end

    def train_rows(self, day: Codes) -> Flags:
        """Which payments are trained on."""
        return (self.train_start <= day) & (day < self.train_end)

    def test_rows(self, day: Codes, card: Codes, is_fraud: Flags) -> Flags:
        """Which payments are tested on: those of cards that were not known to be compromised that day.

        Known are cards with a fraud in the last seven days of training, and since then up to the day that lies more than `delay` back.
        """
        rows = np.zeros(len(day), bool)
        first = max(self.train_start, self.train_end - WEEK)
        for today in range(self.test_start, self.test_end):
            known = card[is_fraud & (first <= day) & (day < today - self.delay)]
            rows |= (day == today) & ~np.isin(card, known)
        return rows


def consecutive(train_start: int, train_days: int, test_start: int, number: int) -> Iterator[Week]:
    """So many weeks of test, one after the other, each after a training of its own that ends as long before it."""
    for week in range(number):
        yield Week(train_start + WEEK * week, train_days, test_start + WEEK * week)
