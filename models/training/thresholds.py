"""From what a fraud team states to the scores from which payments are reviewed and blocked."""

from typing import Final, TypeAlias

import numpy as np
from msgspec import Struct

from models.bundle import Cost, Thresholds
from models.inputs import Vector
from models.training.errors import TrainingError

SURE: Final = 0.9
"""Share of frauds among payments that are blocked."""
FEWEST: Final = 10
"""Payments that such a share is found from."""


class AlertsPerDay(Struct, frozen=True):
    """As many alerts as a team can look at, rules' and models' together."""

    number: float


class FalsePositives(Struct, frozen=True):
    """The share of genuine payments that may be stopped by models."""

    rate: float


Target: TypeAlias = AlertsPerDay | FalsePositives | Cost


class Chosen(Struct, frozen=True):
    """The payments that thresholds are chosen from."""

    score: Vector
    is_fraud: Vector
    """NaN: not known."""
    alerted: Vector
    """By rules."""
    amount: Vector
    """Minor units of the base currency; NaN: not known."""
    days: float


def choose(target: Target, payments: Chosen) -> Thresholds:
    """Review where the target says; block where frauds are at least nine of ten, or where costs say."""
    match target:
        case AlertsPerDay(number):
            return _thresholds(f"at most {number:g} alerts a day", _by_alerts(number, payments), _block(payments), payments)
        case FalsePositives(rate):
            return _thresholds(f"false positives of at most {rate:.3%}", _by_false_positives(rate, payments), _block(payments), payments)
        case Cost():
            review, block = _by_cost(target, payments)
            return _thresholds("least cost", review, block, payments)


def _thresholds(by: str, review: float, block: float | None, payments: Chosen) -> Thresholds:
    alerts = (payments.alerted | (payments.score >= review)).sum() / payments.days
    return Thresholds(by=by, review=review, block=None if block is None else max(block, review), alerts_per_day=float(alerts))


def _by_alerts(number: float, payments: Chosen) -> float:
    left = int(number * payments.days) - int(payments.alerted.sum())
    if left <= 0:
        raise TrainingError(
            f"rules alone send {payments.alerted.sum() / payments.days:,.0f} alerts a day, so none of {number:g} is left for models; "
            "ask for more alerts a day, or make the matrix with a policy of fewer rules"
        )
    return _highest(payments.score[~payments.alerted], left)


def _by_false_positives(rate: float, payments: Chosen) -> float:
    """Without labels every payment counts as genuine, which asks for fewer alerts, not more."""
    known = np.isfinite(payments.is_fraud)
    genuine = payments.score[payments.is_fraud == 0] if known.any() else payments.score
    return _highest(genuine, int(rate * len(genuine)))


def _highest(scores: Vector, number: int) -> float:
    """The score from which at most `number` of these are reached."""
    descending = np.sort(scores)[::-1]
    if number >= len(descending):
        return 0.0
    return float(np.nextafter(descending[number], np.inf))


def _block(payments: Chosen) -> float | None:
    known = np.isfinite(payments.is_fraud)
    order = np.argsort(-payments.score[known], kind="stable")
    score, frauds = payments.score[known][order], np.cumsum(payments.is_fraud[known][order])
    reached = np.arange(1, len(score) + 1)
    ends = np.append(np.diff(score) != 0, True)[: len(score)]
    sure = np.flatnonzero(ends & (reached >= FEWEST) & (frauds >= SURE * reached))
    return float(score[sure[-1]]) if len(sure) else None


def _by_cost(cost: Cost, payments: Chosen) -> tuple[float, float | None]:
    """The thresholds that would have cost least, each on its own."""
    known = np.isfinite(payments.is_fraud) & np.isfinite(payments.amount)
    if not known.any():
        raise TrainingError("costs need labels; give --labels, or state --alerts-per-day")
    order = np.argsort(-payments.score[known], kind="stable")
    score, fraud, amount = (values[known][order] for values in (payments.score, payments.is_fraud == 1, payments.amount))
    gains = gained(cost, fraud, amount)
    return _best(score, gains["review"]) or 1.0, _best(score, gains["block"])


def gained(cost: Cost, fraud: Vector, amount: Vector) -> dict[str, Vector]:
    """What reviewing, or blocking, the first so many of these payments saves, in minor units; less where it costs."""
    saved = np.where(fraud, amount * (1.0 - cost.recovery), 0.0)
    genuine = cost.block_minor + cost.block_share * amount
    return {"review": np.cumsum(saved - cost.review_minor), "block": np.cumsum(np.where(fraud, saved, -genuine))}


def _best(score: Vector, gain: Vector) -> float | None:
    """The score down to which most is gained; `None` where nothing is."""
    best = int(np.argmax(gain))
    return float(score[best]) if gain[best] > 0 else None
