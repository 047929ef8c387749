"""A bundle on payments of which the end is known: each is decided on the same path as live, and scored on the way."""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from msgspec import Struct

from aegis_app.core.label import Label
from aegis_app.core.payment import ALLOW, DAY_MS, Transaction
from aegis_app.core.replay import replay
from aegis_app.core.terms import Terms
from models.evaluation.errors import EvaluationError
from models.evaluation.figures import Figures, Flags, Floats, Test
from models.evaluation.resampling import resample

ENSEMBLE: Final = "ensemble"


class Served(Struct, frozen=True):
    """Payments that models were asked about."""

    test: Test
    scores: dict[str, Floats]
    """Of each layer, and of all of them as `ensemble`."""
    stopped: Flags
    """Whether the models asked for review or block."""


def score(payments: Iterable[Transaction], labels: Iterable[Label], terms: Terms, begin: int, genuine: float = 1.0) -> Served:
    """What the models in `terms` say of payments from the moment `begin` on, milliseconds since 1970; before, rules alone decide.

    `labels` are learnt as they become known; what they speak of in the end is fraud. Refunds, reversals and repeats, which models are not
    asked about, are left out. Each genuine payment stands for so many as `genuine` says. Raises `EvaluationError`.
    """
    if terms.models is None:
        raise EvaluationError("policy asks no models: set state to something else than off in [models]")
    said = list(labels)
    bad = {label.transaction_id for label in said if label.is_fraud}
    rows, scores, stopped = [], [], []
    for txn, each in replay(payments, terms, said, asked_from=begin):
        if each.scored is not None:
            rows.append(
                (txn.transaction_id in bad, terms.rates.to_base(txn.amount_minor, txn.currency) or 0, txn.card_id, txn.at // DAY_MS)
            )
            stopped.append(each.scored.asks is not ALLOW)
            scores.append({**each.scored.layers, ENSEMBLE: each.scored.score})
    if not rows:
        raise EvaluationError("no payment from that moment on")
    is_fraud, amount, card, day = zip(*rows, strict=True)
    test = Test(is_fraud, amount, np.unique(card, return_inverse=True)[1], day, np.where(is_fraud, 1.0, genuine))
    found = {layer: np.array([found[layer] for found in scores], float) for layer in scores[0]}
    return Served(test, found, np.array(stopped))


class Found(Struct, frozen=True):
    """Payments that were stopped."""

    frauds: int
    money: float
    """Of those, in minor units of the base currency."""
    genuine: int


class Compared(Struct, frozen=True):
    """Two bundles on the same payments."""

    figures: tuple[Figures, Figures]
    """Of each one's ensemble."""
    above: dict[str, tuple[float, tuple[float, float]]]
    """By figure, how far the first is above the second, and the interval of that over the same draws."""
    both: Found
    first_alone: Found
    second_alone: Found


def compare(first: Served, second: Served, number: int, seed: int, progress: Callable[[int], object]) -> Compared:
    """Judge both by `number` draws of the cards, and tell what only one of them stops."""
    test = first.test
    drawn = resample([(test, {"first": first.scores[ENSEMBLE], "second": second.scores[ENSEMBLE]})], number, seed, progress)
    return Compared(
        (drawn.point["first"], drawn.point["second"]),
        {figure: drawn.difference("first", "second", figure) for figure in drawn.point["first"]},
        _found(test, first.stopped & second.stopped),
        _found(test, first.stopped & ~second.stopped),
        _found(test, second.stopped & ~first.stopped),
    )


def _found(test: Test, stopped: Flags) -> Found:
    caught = stopped & test.is_fraud
    return Found(int(caught.sum()), float(test.amount[caught].sum()), int(stopped.sum() - caught.sum()))
