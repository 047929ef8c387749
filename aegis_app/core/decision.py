"""From findings to an outcome: short, pure, and carrying its reasons."""

from collections.abc import Sequence
from datetime import datetime
from math import prod
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.card import Settled
from aegis_app.core.features import Features
from aegis_app.core.payment import SEVERITY, Millis, Outcome, Transaction, encode_transaction, strictest
from aegis_app.core.policy import Clause, Policy, State
from aegis_app.core.rules import RULES, Failed, Hit

CODES: Final = (*(rule.name for rule in RULES), "rule_failed")
"""Reason codes in their permanent order; a set of them is kept in memory as bits."""
_BIT: Final = {code: 1 << place for place, code in enumerate(CODES)}

CONVINCED: Final = {Outcome.REVIEW: 0.5, Outcome.BLOCK: 0.9}
"""How much of the remaining doubt a hit takes away where rules alone give the score."""
STALE_MS: Final = 5 * 60_000

_NONE: Final[list[Any]] = []


class Reason(Struct, frozen=True, gc=False):
    """Why a payment was not simply allowed."""

    code: str
    text: str


class Ruling(Struct, frozen=True, kw_only=True, gc=False):
    """All that is decided about a payment; with the payment's own fields it is the record on `decisions`."""

    outcome: Annotated[Outcome, Meta(description="what is to be done")]
    verdict: Annotated[Outcome, Meta(description="what policy asks; the outcome where it enforces")]
    score: Annotated[float | None, Meta(description="ranks payments, 0..1, 1 is fraud")]
    probability: Annotated[float | None, Meta(description="calibrated probability of fraud")] = None
    reasons: Annotated[list[Reason], Meta(description="strongest first")] = []
    rules: Annotated[list[str], Meta(description="rules that were hit")] = []
    shadow_rules: Annotated[list[str], Meta(description="rules that were hit without effect")] = []
    isolation_forest: float | None = None
    autoencoder: float | None = None
    supervised: float | None = None
    policy: Annotated[str, Meta(description="version of the policy")]
    bundle: Annotated[str | None, Meta(description="version of the models")] = None
    lists: Annotated[str | None, Meta(description="version of the lists")] = None
    risk: Annotated[str | None, Meta(description="version of the merchants' risk")] = None
    control_probability: float | None = None
    decided_at: datetime
    duplicate: Annotated[bool, Meta(description="a repeat of a transaction_id; the first decision stands")] = False
    degraded: Annotated[bool, Meta(description="a rule or layer failed")] = False
    stale: Annotated[bool, Meta(description="decided over 5 minutes after its record was written")] = False
    redriven: Annotated[bool, Meta(description="came back from the dead letters")] = False
    features: Annotated[dict[str, Any] | None, Meta(description="the payment described; not in every decision")] = None

    def settled(self) -> Settled:
        """The part that memory keeps."""
        codes = sum({_BIT.get(reason.code, 0) for reason in self.reasons}) if self.reasons else 0
        return Settled(self.outcome, self.verdict, self.score, codes)


class Receipt(Struct, frozen=True, gc=False):
    """How a payment came in: noted, but deciding nothing save what "in the future" means."""

    written: Millis
    decided_at: datetime
    stale: bool = False
    redriven: bool = False


def decide(txn: Transaction, seen: Features, policy: Policy, receipt: Receipt, show_features: bool = False) -> Ruling:
    """Check `txn` against every rule of `policy` and decide: the strictest request wins."""
    hits: list[tuple[Clause, Hit]] = _NONE
    shadows: list[str] = _NONE
    failures: list[Failed] = _NONE
    for clause in policy.asked:
        found = clause.rule.check(txn, seen, clause.limits)
        if isinstance(found, str):
            continue
        if isinstance(found, Failed):
            failures = [*failures, found]
        elif clause.state is State.ON:
            hits = [*hits, (clause, found)]
        else:
            shadows = [*shadows, clause.rule.name]
    if not hits and not failures:
        return Ruling(
            outcome=Outcome.ALLOW,
            verdict=Outcome.ALLOW,
            score=0.0,
            shadow_rules=shadows,
            policy=policy.version,
            decided_at=receipt.decided_at,
            stale=receipt.stale,
            redriven=receipt.redriven,
            features=msgspec.to_builtins(seen) if show_features else None,
        )
    hits = sorted(hits, key=lambda hit: -SEVERITY[hit[0].asks])
    asks = [clause.asks for clause, _ in hits]
    verdict = strictest([*asks, policy.on_failure] if failures else asks)
    return Ruling(
        outcome=verdict if policy.enforces else Outcome.ALLOW,
        verdict=verdict,
        score=1 - prod(1 - CONVINCED[ask] for ask in asks) if hits else None,
        reasons=[
            *(Reason(clause.rule.name, hit.sentence) for clause, hit in hits),
            *(Reason("rule_failed", f"{failure.rule} could not tell: {failure.error}") for failure in failures),
        ],
        rules=[clause.rule.name for clause, _ in hits],
        shadow_rules=shadows,
        policy=policy.version,
        decided_at=receipt.decided_at,
        degraded=bool(failures),
        stale=receipt.stale,
        redriven=receipt.redriven,
        features=msgspec.to_builtins(seen) if show_features or verdict is not Outcome.ALLOW else None,
    )


def repeat(settled: Settled, policy: Policy, receipt: Receipt) -> Ruling:
    """Answer a repeated payment as it was answered before: same outcome, verdict, score and reason codes."""
    codes = [code for code in CODES if settled.codes & _BIT[code]]
    return Ruling(
        outcome=settled.outcome,
        verdict=settled.verdict,
        score=settled.score,
        reasons=[Reason(code, "as decided when this payment came first") for code in codes],
        rules=[code for code in codes if code != "rule_failed"],
        policy=policy.version,
        decided_at=receipt.decided_at,
        duplicate=True,
        stale=receipt.stale,
        redriven=receipt.redriven,
    )


_encode = msgspec.json.Encoder().encode
decode_ruling: Final = msgspec.json.Decoder(Ruling).decode


class _Ids(Struct, frozen=True, gc=False):
    transaction_id: str
    card_id: str


_decode_ids = msgspec.json.Decoder(_Ids).decode


def standing(records: Sequence[bytes], txn: Transaction) -> Ruling | None:
    """The first ruling among records of `decisions` that is about `txn`: an offset alone may be that of a topic made anew since."""
    for record in records:
        ids = _decode_ids(record)
        if (ids.transaction_id, ids.card_id) == (txn.transaction_id, txn.card_id):
            return decode_ruling(record)
    return None


Decision: Final = msgspec.defstruct(
    "Decision",
    [
        *((field.encode_name, field.type, field.default) for field in msgspec.structs.fields(Ruling) if not field.required),
        *((field.encode_name, field.type) for field in msgspec.structs.fields(Ruling) if field.required),
    ],
    bases=(Transaction,),
    frozen=True,
    kw_only=True,
)
"""The record on `decisions`, for its JSON Schema and for readers in Python: a `Transaction` with its `Ruling`."""


def encode_decision(txn: Transaction, ruling: Ruling) -> bytes:
    """One flat JSON object: the payment's own fields, then the ruling's. Joined as text, because encoding both at once is slower."""
    return encode_transaction(txn)[:-1] + b"," + _encode(ruling)[1:]
