"""From findings to an outcome: short, pure, and carrying its reasons."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from math import prod
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace
from xxhash import xxh32_intdigest

from aegis_app.core.card import Settled
from aegis_app.core.case import Case
from aegis_app.core.features import Features
from aegis_app.core.lists import Entry, ListName
from aegis_app.core.payment import ALLOW, GIVES_BACK, SEVERITY, Millis, Outcome, Transaction, encode_transaction, strictest
from aegis_app.core.policy import Clause, Policy, State
from aegis_app.core.rules import CLEAR, RULES, UNKNOWN, Failed, Hit
from aegis_app.core.scores import Cause, Scored
from aegis_app.core.terms import Terms

CODES: Final = (
    "velocity_1m",
    "velocity_10m",
    "velocity_1h",
    "velocity_24h",
    "impossible_travel",
    "amount_spike",
    "new_country_high_amount",
    "card_testing",
    "rule_failed",
    "far_above_largest",
    "strange_merchant",
    "local_then_transfer",
    "many_merchants",
    "new_device_high_amount",
    "tested_then_large",
    "account_drained",
    "recurring_changed",
    "cash_far_from_home",
    "many_refused",
    "deny_list",
    "watch_list",
    "allow_list",
    "control",
    "merchant_testing",
    "merchant_burst",
    "merchant_frauds",
    "device_many_cards",
    "card_confirmed_fraud",
    "models",
    "layer_failed",
    "model_amount",
    "model_velocity",
    "model_rhythm",
    "model_place",
    "model_merchant",
    "model_device",
    "model_payee",
    "model_channel",
    "model_history",
    "model_attributes",
    "model_others",
    "model_unusual",
)
"""Reason codes, the rules' names among them. Append only: a set of them is kept in memory as bits."""
_BIT: Final = {code: 1 << place for place, code in enumerate(CODES)}
_RULES: Final = frozenset(rule.name for rule in RULES)
FAILURES: Final = frozenset({"rule_failed", "layer_failed"})

CONVINCED: Final = {Outcome.REVIEW: 0.5, Outcome.BLOCK: 0.9}
"""How much of the remaining doubt a request takes away where rules alone give the score."""
MODELS: Final = "models"
_NOT_CONVINCING: Final = FAILURES | {MODELS}
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
    rates: Annotated[str | None, Meta(description="version of the exchange rates")] = None
    control_probability: Annotated[
        float | None,
        Meta(
            description="where chance made the outcome: how probable that is for a payment like it; not kept for a duplicate, see reasons"
        ),
    ] = None
    decided_at: datetime
    duplicate: Annotated[bool, Meta(description="a repeat of a transaction_id; the first decision stands")] = False
    conflict: Annotated[bool, Meta(description="that repeat came with other content, of which nothing was decided")] = False
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
    explain: bool = False
    """Somebody will ask why, whatever is decided."""


class Request(Struct, frozen=True, gc=False):
    """That something be done with a payment, and why."""

    asks: Outcome
    reason: Reason


class Findings(Struct, frozen=True, gc=False):
    """What the rules found."""

    hits: list[tuple[Clause, Hit]]
    shadows: list[str]
    failures: list[Failed]


_NO_FINDINGS: Final = Findings(_NONE, _NONE, _NONE)


def check(txn: Transaction, seen: Features, policy: Policy) -> Findings:
    """Ask every rule of `policy`; none about what gives money back, which is no attempt and no habit."""
    if txn.kind in GIVES_BACK:
        return _NO_FINDINGS
    hits: list[tuple[Clause, Hit]] = _NONE
    shadows: list[str] = _NONE
    failures: list[Failed] = _NONE
    for clause, ask, limits in policy.asked:
        try:
            found = ask(txn, seen, limits)
        except Exception as error:  # the one broad except of the core: a broken rule is a finding, and must not stop the others
            failures = [*failures, Failed(clause.rule.name, f"{type(error).__name__}: {error}")]
            continue
        if found is CLEAR or found is UNKNOWN:
            continue
        if not isinstance(found, Hit):
            failures = [*failures, Failed(clause.rule.name, f"it answered {found!r}")]
        elif clause.state is State.ON:
            hits = [*hits, (clause, found)]
        else:
            shadows = [*shadows, clause.rule.name]
    return Findings(hits, shadows, failures)


def decide(case: Case, seen: Features, terms: Terms, receipt: Receipt, scored: Scored | None = None) -> Ruling:
    """Check a payment against lists and rules, and decide: the strictest request wins, but for those that an allow list beats.

    `scored` is what models said of it; `None` where they were not asked.
    """
    txn, policy, said = case.txn, terms.policy, _SILENT if scored is None else scored
    findings = check(txn, seen, policy)
    entries = terms.lists.about(txn)
    asked = findings.hits or findings.failures or entries or said.failures or said.asks is not ALLOW
    requests = _requests(findings, said, entries, policy) if asked else _NONE
    verdict = strictest([request.asks for request in requests])
    outcome, controlled = verdict if policy.enforces else ALLOW, False
    failed = bool(findings.failures or said.failures)
    if policy.control_share > 0 and policy.enforces and _draw(txn.transaction_id, _CONTROL) < policy.control_share:
        outcome, controlled = _controlled(case, policy, verdict, is_sure=not (entries or failed))
    show = verdict is not ALLOW or controlled or receipt.explain or _draw(txn.transaction_id, _FEATURES) < terms.feature_share
    return Ruling(
        outcome=outcome,
        verdict=verdict,
        score=_score(requests, findings, scored),
        probability=said.probability,
        reasons=_reasons(requests, entries, outcome if controlled else None),
        rules=[clause.rule.name for clause, _ in findings.hits],
        shadow_rules=findings.shadows,
        isolation_forest=said.layers.get("isolation_forest"),
        autoencoder=said.layers.get("autoencoder"),
        supervised=said.layers.get("supervised"),
        policy=policy.version,
        bundle=said.bundle,
        lists=terms.lists.version,
        risk=terms.risk,
        rates=terms.rates.version,
        control_probability=policy.control_share if controlled else None,
        decided_at=receipt.decided_at,
        degraded=failed,
        stale=receipt.stale,
        redriven=receipt.redriven,
        features=seen.named() if show else None,
    )


_SILENT: Final = Scored(bundle=None, layers={}, score=None, probability=None)


def explained(ruling: Ruling, causes: Sequence[Cause]) -> Ruling:
    """A ruling with what models say of its why, behind what decided."""
    return replace(ruling, reasons=[*ruling.reasons, *(Reason(code, text) for code, text in causes)])


def _requests(findings: Findings, said: Scored, entries: Sequence[Entry], policy: Policy) -> list[Request]:
    """What lists, rules and models ask for, strictest first; of equals in this order.

    An allow list beats models, and requests of rules for review.
    """
    named = {entry.list for entry in entries}
    requests = [Request(_ASKED[entry.list], _listed(entry)) for entry in entries if entry.list is not ListName.ALLOW]
    for clause, hit in findings.hits:
        if clause.asks is Outcome.BLOCK or ListName.ALLOW not in named:
            requests.append(Request(clause.asks, Reason(clause.rule.name, hit.sentence)))
    if policy.models.state is State.ON:
        asks = min(said.asks, policy.models.most, key=SEVERITY.__getitem__)
        if asks is not ALLOW and ListName.ALLOW not in named:
            requests.append(Request(asks, Reason(MODELS, said.sentence)))
        requests += [Request(policy.on_failure, Reason("layer_failed", f"{layer} could not tell: {why}")) for layer, why in said.failures]
    for failure in findings.failures:
        requests.append(Request(policy.on_failure, Reason("rule_failed", f"{failure.rule} could not tell: {failure.error}")))
    return sorted(requests, key=lambda request: (-SEVERITY[request.asks], request.reason.code in FAILURES))


_ASKED: Final = {ListName.DENY: Outcome.BLOCK, ListName.WATCH: Outcome.REVIEW}


def _listed(entry: Entry) -> Reason:
    return Reason(f"{entry.list}_list", f"the {entry.of} is on the {entry.list} list: {entry.reason}")


def _score(requests: list[Request], findings: Findings, scored: Scored | None) -> float | None:
    """1 for what is denied; else what models say, of whose remaining doubt each request of rules and lists takes its part.

    Without models, `None` where a rule failed and none was hit; with them, where no layer could tell and no rule was hit.
    """
    if requests and requests[0].reason.code == "deny_list":
        return 1.0
    asks = [request.asks for request in requests if request.reason.code not in _NOT_CONVINCING]
    certain = scored.score if scored is not None else None if findings.failures else 0.0
    if not asks:
        return certain
    doubt = prod(1 - CONVINCED[ask] for ask in asks)
    return 1 - doubt if certain is None else 1 - (1 - certain) * doubt


def _reasons(requests: list[Request], entries: Sequence[Entry], by_chance: Outcome | None) -> list[Reason]:
    reasons = [request.reason for request in requests] if requests else _NONE
    if entries:
        reasons = [*reasons, *(_listed(entry) for entry in entries if entry.list is ListName.ALLOW)]
    if by_chance is not None:
        what = "let through" if by_chance is Outcome.ALLOW else "sent to review"
        reasons = [*reasons, Reason("control", f"{what} by chance, so that verdicts can be measured")]
    return reasons


def _controlled(case: Case, policy: Policy, verdict: Outcome, *, is_sure: bool) -> tuple[Outcome, bool]:
    """The outcome of a payment drawn as a control, and whether it is one.

    Nothing is that a list decided, or where a rule failed (`is_sure`); and no high amount passes.
    """
    if not is_sure or verdict is Outcome.REVIEW:
        return verdict, False
    if verdict is Outcome.ALLOW:
        return Outcome.REVIEW, True
    small = case.amount is not None and case.amount <= policy.control_most_minor
    return (Outcome.ALLOW, True) if small else (verdict, False)


_FEATURES: Final = 0
_CONTROL: Final = 1
"""Seeds of draws that do not depend on each other."""


def _draw(transaction_id: str, seed: int) -> float:
    """A number in [0, 1) that belongs to the payment."""
    return xxh32_intdigest(transaction_id.encode(), seed) * 2.0**-32


def repeat(settled: Settled, terms: Terms, receipt: Receipt, *, conflict: bool = False) -> Ruling:
    """Answer a repeated payment as it was answered before: same outcome, verdict, score and reason codes.

    What is not kept is not made up: neither sentences nor `control_probability`. What each rule asked for then is not kept either,
    reasons are in the order of what `terms` has them ask for.
    """
    codes = _ordered((code for code in CODES if settled.codes & _BIT[code]), terms.policy)
    return Ruling(
        outcome=settled.outcome,
        verdict=settled.verdict,
        score=settled.score,
        reasons=[Reason(code, "as decided when this payment came first") for code in codes],
        rules=[code for code in codes if code in _RULES],
        policy=terms.policy.version,
        lists=terms.lists.version,
        risk=terms.risk,
        rates=terms.rates.version,
        decided_at=receipt.decided_at,
        duplicate=True,
        conflict=conflict,
        degraded=not FAILURES.isdisjoint(codes),
        stale=receipt.stale,
        redriven=receipt.redriven,
    )


def _ordered(codes: Iterable[str], policy: Policy) -> list[str]:
    """Strongest first, as in `_requests`; then what asks for nothing: the allow list, chance, and what models say of the why."""
    asks = {"deny_list": Outcome.BLOCK, "watch_list": Outcome.REVIEW}
    asks |= {clause.rule.name: clause.asks for clause in policy.clauses}
    asks |= {MODELS: policy.models.most, "layer_failed": policy.on_failure, "rule_failed": policy.on_failure}
    place = {code: place for place, code in enumerate(asks)}
    return sorted(codes, key=lambda code: (-SEVERITY[asks.get(code, ALLOW)], place.get(code, len(place))))


_encode = msgspec.json.Encoder().encode
decode_ruling: Final = msgspec.json.Decoder(Ruling).decode


class _Ids(Struct, frozen=True, gc=False):
    transaction_id: str
    card_id: str


_decode_ids = msgspec.json.Decoder(_Ids).decode


def standing(records: Sequence[bytes], txn: Transaction) -> Ruling | None:
    """The first ruling among records of `decisions` that is about `txn`: an offset alone may be that of a topic made anew since."""
    for record in records:
        try:
            ids = _decode_ids(record)
        except (msgspec.DecodeError, UnicodeDecodeError):  # a stranger's: no decision of ours
            continue
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
