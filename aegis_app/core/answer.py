"""What a caller of the gateway hears of a payment."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

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
    features: Annotated[dict[str, Any] | None, Meta(description="the payment described; null for a repeat, which is not described anew")]


class Fallback(Struct, frozen=True, kw_only=True):
    """What a caller was answered without a decision, exactly as it travels on `fallbacks`. The payment is decided all the same."""

    transaction_id: str
    card_id: str
    timestamp: Annotated[datetime, Meta(tz=True, description="when the payment took place")]
    outcome: Annotated[Outcome, Meta(description="as answered")]
    action: Annotated[Action, Meta(description="as answered")]
    answered_at: Annotated[datetime, Meta(tz=True)]
    waited_ms: Annotated[int, Meta(ge=0, description="the caller's deadline")]
    source: Annotated[
        str | None, Meta(description="where Kafka holds the payment, as partition:offset; null where that was not known yet")
    ] = None


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
    conflict: Annotated[bool, Meta(description="it came with other content then: nothing was decided about this one")] = False
    degraded: Annotated[bool, Meta(description="a rule or layer failed")] = False
    stale: Annotated[bool, Meta(description="decided over 5 minutes after it was taken in")] = False
    fallback: Annotated[bool, Meta(description="there was no decision by the deadline; it follows, at `decision`")] = False
    recorded: Annotated[bool, Meta(description="false: Kafka had not acknowledged the payment yet; send it again")] = True
    source: Annotated[str | None, Meta(description="where Kafka holds the payment, as partition:offset; its decision says the same")] = None
    decision: Annotated[str, Meta(description="where the ledger shows the decision")]
    explanation: Explanation | None = None
