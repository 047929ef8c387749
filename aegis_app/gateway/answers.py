"""What a caller hears of a payment."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.decision import Reason
from aegis_app.core.payment import Outcome


class Action(StrEnum):
    """What the caller is to do; for `review`, as `AEGIS_REVIEW_ACTION` says."""

    APPROVE = "approve"
    APPROVE_AND_QUEUE = "approve_and_queue"
    CHALLENGE = "challenge"
    HOLD = "hold"
    DECLINE = "decline"


class Explanation(Struct, frozen=True):
    """How it came to the decision, for `?explain=true`."""

    layers: Annotated[
        dict[str, float | None], Meta(description="what each layer of models says, 0..1; null could not tell, or was not asked")
    ]
    shadow_rules: Annotated[list[str], Meta(description="rules that were hit without effect")]
    contributions: Annotated[list[Reason], Meta(description="what models say of their why, strongest first")]
    features: Annotated[
        dict[str, Any] | None, Meta(description="the payment described; null where the decision does not carry it, see AEGIS_FEATURE_SHARE")
    ]


class Answer(Struct, frozen=True, kw_only=True):
    """A payment's decision; or, with `fallback`, what is to be done while there is none."""

    transaction_id: str
    outcome: Annotated[Outcome, Meta(description="what is to be done")]
    action: Action
    verdict: Annotated[Outcome | None, Meta(description="what policy asks; the outcome where it enforces; null in a fallback")] = None
    score: Annotated[float | None, Meta(description="ranks payments, 0..1, 1 is fraud; null where nobody could tell")] = None
    probability: Annotated[float | None, Meta(description="calibrated probability of fraud")] = None
    reasons: Annotated[list[Reason], Meta(description="strongest first")] = []
    rules: Annotated[list[str], Meta(description="rules that were hit")] = []
    policy: Annotated[str | None, Meta(description="version of the policy")] = None
    bundle: Annotated[str | None, Meta(description="version of the models")] = None
    lists: Annotated[str | None, Meta(description="version of the lists")] = None
    decided_at: datetime | None = None
    duplicate: Annotated[bool, Meta(description="the transaction_id came before; its first decision stands")] = False
    degraded: Annotated[bool, Meta(description="a rule or layer failed")] = False
    stale: Annotated[bool, Meta(description="decided over 5 minutes after it was taken in")] = False
    fallback: Annotated[bool, Meta(description="there was no decision by the deadline; it follows, at `decision`")] = False
    recorded: Annotated[bool, Meta(description="false: Kafka had not acknowledged the payment yet; send it again")] = True
    source: Annotated[str | None, Meta(description="where Kafka holds the payment, as partition:offset; its decision says the same")] = None
    decision: Annotated[str, Meta(description="where the ledger shows the decision")]
    explanation: Explanation | None = None


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
            reasons=[Reason("deadline", f"no decision within {waited_ms:,} ms")],
            fallback=True,
            recorded=source is not None,
            source=source,
            decision=decision_url(transaction_id),
        )


def decision_url(transaction_id: str) -> str:
    return f"/v1/decisions/{quote(transaction_id, safe='')}"


def _explanation(found: _Decided) -> Explanation:
    layers = {name: getattr(found, name) for name in ("isolation_forest", "autoencoder", "supervised")}
    return Explanation(layers, found.shadow_rules, [reason for reason in found.reasons if reason.code.startswith("model_")], found.features)


class Predicted(Struct, frozen=True, kw_only=True):
    """The answer of `POST /predict`."""

    transaction_id: str
    fraud_score: Annotated[float | None, Meta(description="0..1, 1 is fraud; null where nobody could tell")]
    action: Action
    reason: Annotated[str, Meta(description="the strongest, as a sentence")]
    fallback: bool


class Checked(Struct, frozen=True, kw_only=True):
    """The answer of `POST /api/check-fraud`."""

    transaction_id: str
    fraud_score: Annotated[float | None, Meta(description="0..1, 1 is fraud; null where nobody could tell")]
    is_fraud: Annotated[bool, Meta(description="whether policy asks to block it")]
    risk_level: Annotated[str, Meta(description="by what policy asks: low (allow), medium (review) or high (block)")]
    factors: Annotated[Sequence[str], Meta(description="reasons as sentences, strongest first")]
    processing_time_ms: float
    action: Action
    fallback: bool


LEVELS: Final = {Outcome.ALLOW: "low", Outcome.REVIEW: "medium", Outcome.BLOCK: "high"}


def predicted(answer: Answer) -> Predicted:
    return Predicted(
        transaction_id=answer.transaction_id,
        fraud_score=answer.score,
        action=answer.action,
        reason=answer.reasons[0].text if answer.reasons else "nothing stands out",
        fallback=answer.fallback,
    )


def checked(answer: Answer, seconds: float) -> Checked:
    verdict = answer.outcome if answer.verdict is None else answer.verdict
    return Checked(
        transaction_id=answer.transaction_id,
        fraud_score=answer.score,
        is_fraud=verdict is Outcome.BLOCK,
        risk_level=LEVELS[verdict],
        factors=[reason.text for reason in answer.reasons],
        processing_time_ms=round(seconds * 1000, 2),
        action=answer.action,
        fallback=answer.fallback,
    )
