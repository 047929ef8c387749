"""The strictest request wins, a failure is never "no risk", and a repeat is answered as before."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_app.core.card import BLANK
from aegis_app.core.decision import CODES, Decision, Receipt, decide, decode_ruling, encode_decision
from aegis_app.core.payment import SEVERITY, Outcome
from aegis_app.core.policy import Clause, Mode, Policy, State
from aegis_app.core.rules import Hit, Limits, Rule
from aegis_app.core.screen import TRANSACTIONS, Terms, adopt, screen
from tests.make import NOON, features, payment, receipt


def hits(txn: object, seen: object, limit: object) -> Hit:
    """Always."""
    return Hit("always")


def breaks(txn: object, seen: object, limit: object) -> Hit:
    """Break."""
    raise ValueError("no luck")


def policy(*clauses: Clause, mode: Mode = Mode.ENFORCE, on_failure: Outcome = Outcome.REVIEW) -> Policy:
    return Policy(mode, on_failure, clauses)


def clause(function: object = hits, asks: Outcome = Outcome.BLOCK, state: State = State.ON) -> Clause:
    return Clause(Rule(function, Limits), state, asks, Limits())  # type: ignore[arg-type]  # any function will do


CLAUSES = st.lists(
    st.builds(clause, st.sampled_from([hits, breaks]), st.sampled_from([Outcome.REVIEW, Outcome.BLOCK]), st.sampled_from(State)),
    max_size=5,
)


@given(CLAUSES, st.sampled_from([Outcome.REVIEW, Outcome.BLOCK]))
def test_one_more_hit_never_softens_the_outcome(clauses: list[Clause], asks: Outcome) -> None:
    txn = payment()
    before = decide(txn, features(), policy(*clauses), receipt(txn))
    after = decide(txn, features(), policy(*clauses, clause(asks=asks)), receipt(txn))

    assert SEVERITY[after.outcome] >= SEVERITY[before.outcome]
    assert (after.score or 0) >= (before.score or 0)


def test_observing_allows_and_keeps_the_verdict_beside_it() -> None:
    txn = payment()
    ruling = decide(txn, features(), policy(clause(), mode=Mode.OBSERVE), receipt(txn))

    assert (ruling.outcome, ruling.verdict) == (Outcome.ALLOW, Outcome.BLOCK)


def test_a_shadow_rule_is_reported_and_asks_for_nothing() -> None:
    txn = payment()
    ruling = decide(txn, features(), policy(clause(state=State.SHADOW)), receipt(txn))

    assert (ruling.verdict, ruling.rules, ruling.shadow_rules) == (Outcome.ALLOW, [], ["hits"])


@pytest.mark.parametrize("on_failure", [Outcome.REVIEW, Outcome.BLOCK])
def test_a_failed_rule_degrades_the_decision_and_asks_what_policy_says(on_failure: Outcome) -> None:
    txn = payment()
    ruling = decide(txn, features(), policy(clause(breaks), on_failure=on_failure), receipt(txn))

    assert ruling.degraded
    assert ruling.verdict is on_failure
    assert ruling.score is None
    assert [reason.text for reason in ruling.reasons] == ["breaks could not tell: ValueError: no luck"]


def test_the_strongest_reason_comes_first() -> None:
    txn = payment()
    mild = clause(asks=Outcome.REVIEW)

    ruling = decide(txn, features(), policy(mild, clause(breaks), clause()), receipt(txn))

    assert [reason.code for reason in ruling.reasons] == ["hits", "hits", "rule_failed"]
    assert ruling.verdict is Outcome.BLOCK


def packaged(mode: str = "enforce") -> Terms:
    from aegis_app.core.policy import parse_policy

    return Terms(policy=parse_policy(f'mode = "{mode}"\n[rules.velocity_1m]\nstate = "on"\nasks = "block"\nmost = 2\n'))


def test_a_repeated_transaction_id_gets_the_first_decision_again() -> None:
    card = None
    for offset in range(3):
        txn = payment(seconds=offset, transaction_id=f"t{offset}")
        first = screen(card, txn, packaged(), receipt(txn), offset)
        card = first.card

    again = screen(card, txn, packaged("observe"), receipt(txn), 3)

    assert first.ruling.verdict is Outcome.BLOCK
    assert again.ruling.duplicate
    assert not again.conflict
    assert (again.ruling.outcome, again.ruling.verdict, again.ruling.score) == (Outcome.BLOCK, Outcome.BLOCK, first.ruling.score)
    assert [reason.code for reason in again.ruling.reasons] == ["velocity_1m"]
    assert again.card.times == first.card.times
    assert again.card.seen[TRANSACTIONS] == 3


def test_a_repeated_id_with_other_content_is_a_conflict_and_the_first_decision_stands() -> None:
    first = screen(None, payment(transaction_id="t"), packaged(), receipt(payment()), 0)

    again = screen(first.card, payment(transaction_id="t", amount_minor=99), packaged(), receipt(payment()), 1)

    assert again.conflict
    assert again.ruling.outcome is first.ruling.outcome


def test_a_decision_found_on_the_log_teaches_what_it_taught_then() -> None:
    txn = payment()
    terms = packaged()
    screened = screen(None, txn, terms, receipt(txn), 7)

    assert adopt(None, txn, terms, screened.ruling, txn.at, 7) == screened.card


def test_a_decision_on_the_wire_is_the_payment_and_its_ruling() -> None:
    txn = payment(attributes={"V1": -1.5})
    ruling = decide(txn, features(), policy(clause()), receipt(txn))
    wire = encode_decision(txn, ruling)

    decision = msgspec.json.decode(wire, type=Decision)

    assert decode_ruling(wire) == ruling
    assert {name: getattr(decision, name) for name in txn.__struct_fields__} == {name: getattr(txn, name) for name in txn.__struct_fields__}
    assert decision.outcome is Outcome.BLOCK  # type: ignore[attr-defined]  # made by defstruct


def test_features_ride_on_what_was_not_allowed_and_on_a_share_by_hash() -> None:
    terms = msgspec.structs.replace(packaged(), feature_share=0.25)
    rulings = [screen(None, payment(transaction_id=f"t{n}"), terms, receipt(payment()), n).ruling for n in range(1000)]
    blocked = decide(payment(), features(), policy(clause()), receipt(payment()))

    assert 200 < sum(ruling.features is not None for ruling in rulings) < 300
    assert blocked.features is not None
    assert blocked.features["attempts_10m"] == 0


def test_a_decision_long_after_its_record_is_stale_and_says_so() -> None:
    txn = payment()

    assert decide(txn, features(), policy(), Receipt(txn.at, NOON, stale=True)).stale
    assert not decide(txn, features(), policy(), Receipt(txn.at, NOON)).stale


def test_every_code_fits_into_what_a_card_remembers() -> None:
    assert len(CODES) <= 64
    assert BLANK.ring == b""
