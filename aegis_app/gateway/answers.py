"""What a caller hears of a payment, from its decision or without one; and the same in the shapes of other systems."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.answer import Action, Answer, Explanation, Fallback
from aegis_app.core.decision import Reason
from aegis_app.core.payment import Outcome, Transaction, strictest
from aegis_app.core.policy import Mode


class _Decided(Struct, frozen=True, kw_only=True, gc=False):
    """Of a record on `decisions`, what an answer takes."""

    transaction_id: str
    outcome: Outcome
    verdict: Outcome
    score: float | None
    probability: float | None = None
    reasons: list[Reason] = []
    rules: list[str] = []
    shadow_rules: list[str] = []
    isolation_forest: float | None = None
    autoencoder: float | None = None
    supervised: float | None = None
    policy: str
    bundle: str | None = None
    lists: str | None = None
    decided_at: datetime
    duplicate: bool = False
    conflict: bool = False
    degraded: bool = False
    stale: bool = False
    features: dict[str, Any] | None = None


_decode: Final = msgspec.json.Decoder(_Decided).decode
encode: Final = msgspec.json.Encoder().encode
_ACTIONS: Final = {Outcome.ALLOW: Action.APPROVE, Outcome.BLOCK: Action.DECLINE}


class Answers:
    """`review`: what that asks of the caller."""

    def __init__(self, review: str) -> None:
        self._actions = _ACTIONS | {Outcome.REVIEW: Action(review)}

    def decided(self, record: bytes, source: str | None, *, explain: bool) -> Answer:
        """By a record on `decisions`."""
        found = _decode(record)
        return Answer(
            transaction_id=found.transaction_id,
            outcome=found.outcome,
            action=self._actions[found.outcome],
            verdict=found.verdict,
            score=found.score,
            probability=found.probability,
            reasons=found.reasons,
            rules=found.rules,
            policy=found.policy,
            bundle=found.bundle,
            lists=found.lists,
            decided_at=found.decided_at,
            duplicate=found.duplicate,
            conflict=found.conflict,
            degraded=found.degraded,
            stale=found.stale,
            source=source,
            decision=decision_url(found.transaction_id),
            explanation=_explanation(found) if explain else None,
        )

    def fallback(self, transaction_id: str, outcome: Outcome, source: str | None, waited_ms: int) -> Answer:
        """Without a decision."""
        return Answer(
            transaction_id=transaction_id,
            outcome=outcome,
            action=self._actions[outcome],
            reasons=[Reason("deadline", f"fallback: no decision within {waited_ms:,} ms")],
            fallback=True,
            recorded=source is not None,
            source=source,
            decision=decision_url(transaction_id),
        )


def fallback(txn: Transaction, answer: Answer, at: datetime, waited_ms: int) -> Fallback:
    """That `answer` was given without a decision."""
    return Fallback(
        transaction_id=txn.transaction_id,
        card_id=txn.card_id,
        timestamp=txn.timestamp,
        outcome=answer.outcome,
        action=answer.action,
        answered_at=at,
        waited_ms=waited_ms,
        source=answer.source,
    )


def decision_url(transaction_id: str) -> str:
    return f"/v1/decisions/{quote(transaction_id, safe='')}"


def _explanation(found: _Decided) -> Explanation:
    layers = {name: getattr(found, name) for name in ("isolation_forest", "autoencoder", "supervised")}
    return Explanation(layers, found.shadow_rules, [reason for reason in found.reasons if reason.code.startswith("model_")], found.features)


_SCORE: Final = Meta(description="0..1, 1 is fraud; null where nobody could tell, as in a fallback")
_MODE: Final = Meta(
    description="observe: `action` is approve, whatever policy asks; null where the gateway does not have the policy that decided"
)


class Predicted(Struct, frozen=True, kw_only=True):
    """The answer of `POST /predict`."""

    transaction_id: str
    fraud_score: Annotated[float | None, _SCORE]
    action: Action
    mode: Annotated[Mode | None, _MODE]
    reason: Annotated[str, Meta(description="the strongest, as a sentence")]
    fallback: bool
    alone: Annotated[bool, Meta(description="it named no card, and was judged by itself: no card's past speaks in this")]


class Checked(Struct, frozen=True, kw_only=True):
    """The answer of `POST /api/check-fraud`."""

    transaction_id: str
    fraud_score: Annotated[float | None, _SCORE]
    is_fraud: Annotated[bool, Meta(description="whether policy asks to block it")]
    risk_level: Annotated[
        str, Meta(description="by what policy asks: low (allow), medium (review) or high (block); a fallback is never low")
    ]
    factors: Annotated[Sequence[str], Meta(description="reasons as sentences, strongest first")]
    processing_time_ms: float
    action: Action
    mode: Annotated[Mode | None, _MODE]
    fallback: bool


LEVELS: Final = {Outcome.ALLOW: "low", Outcome.REVIEW: "medium", Outcome.BLOCK: "high"}


def predicted(answer: Answer, mode: Mode | None, *, alone: bool) -> Predicted:
    factors = _factors(answer)
    return Predicted(
        transaction_id=answer.transaction_id,
        fraud_score=answer.score,
        action=answer.action,
        mode=mode,
        reason=factors[0] if factors else "nothing stands out",
        fallback=answer.fallback,
        alone=alone,
    )


def checked(answer: Answer, mode: Mode | None, seconds: float) -> Checked:
    verdict = strictest([answer.outcome, Outcome.REVIEW]) if answer.verdict is None else answer.verdict
    return Checked(
        transaction_id=answer.transaction_id,
        fraud_score=answer.score,
        is_fraud=verdict is Outcome.BLOCK,
        risk_level=LEVELS[verdict],
        factors=_factors(answer),
        processing_time_ms=round(seconds * 1000, 2),
        action=answer.action,
        mode=mode,
        fallback=answer.fallback,
    )


def _factors(answer: Answer) -> list[str]:
    """Sentences; those of a repeat all say the same, and have their codes before them."""
    return [f"{reason.code}: {reason.text}" if answer.duplicate else reason.text for reason in answer.reasons]
