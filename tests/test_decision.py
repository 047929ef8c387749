"""The strictest request wins, a failure is never "no risk", and a repeat is answered as before."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_app.core.card import Card, Settled
from aegis_app.core.decision import CODES, Decision, Receipt, Ruling, decide, decode_ruling, encode_decision, explained, repeat
from aegis_app.core.lists import Entry, Lists
from aegis_app.core.payment import SEVERITY, Kind, Outcome
from aegis_app.core.policy import Clause, Mode, ModelClause, Policy, State, parse_policy
from aegis_app.core.rules import RULES, Hit, Limits, Rule
from aegis_app.core.scores import Scored
from aegis_app.core.screen import TRANSACTIONS, adopt, screen
from aegis_app.core.terms import Terms
from tests.make import NOON, cased, entry, features, payment, receipt


def hits(txn: object, seen: object, limit: object) -> Hit:
    """Always."""
    return Hit("always")


def breaks(txn: object, seen: object, limit: object) -> Hit:
    """Break."""
    raise ValueError("no luck")


def under(*clauses: Clause, mode: Mode = Mode.ENFORCE, on_failure: Outcome = Outcome.REVIEW, **others: Any) -> Terms:
    return Terms(Policy(mode, on_failure, clauses, **others))


def clause(function: object = hits, asks: Outcome = Outcome.BLOCK, state: State = State.ON) -> Clause:
    return Clause(Rule(function, Limits), state, asks, Limits())  # type: ignore[arg-type]  # any function will do


CLAUSES = st.lists(
    st.builds(clause, st.sampled_from([hits, breaks]), st.sampled_from([Outcome.REVIEW, Outcome.BLOCK]), st.sampled_from(State)),
    max_size=5,
)


@given(CLAUSES, st.sampled_from([Outcome.REVIEW, Outcome.BLOCK]))
def test_one_more_hit_never_softens_the_outcome(clauses: list[Clause], asks: Outcome) -> None:
    txn = payment()
    before = decide(cased(txn), features(), under(*clauses), receipt(txn))
    after = decide(cased(txn), features(), under(*clauses, clause(asks=asks)), receipt(txn))

    assert SEVERITY[after.outcome] >= SEVERITY[before.outcome]
    assert (after.score or 0) >= (before.score or 0)


def test_observing_allows_and_keeps_the_verdict_beside_it() -> None:
    txn = payment()
    ruling = decide(cased(txn), features(), under(clause(), mode=Mode.OBSERVE), receipt(txn))

    assert (ruling.outcome, ruling.verdict) == (Outcome.ALLOW, Outcome.BLOCK)


def test_a_shadow_rule_is_reported_and_asks_for_nothing() -> None:
    txn = payment()
    ruling = decide(cased(txn), features(), under(clause(state=State.SHADOW)), receipt(txn))

    assert (ruling.verdict, ruling.rules, ruling.shadow_rules) == (Outcome.ALLOW, [], ["hits"])


@pytest.mark.parametrize("on_failure", [Outcome.REVIEW, Outcome.BLOCK])
def test_a_failed_rule_degrades_the_decision_and_asks_what_policy_says(on_failure: Outcome) -> None:
    txn = payment()
    ruling = decide(cased(txn), features(), under(clause(breaks), on_failure=on_failure), receipt(txn))

    assert ruling.degraded
    assert ruling.verdict is on_failure
    assert ruling.score is None
    assert [reason.text for reason in ruling.reasons] == ["breaks could not tell: ValueError: no luck"]


def test_a_rule_that_answers_nonsense_failed() -> None:
    ruling = decide(cased(payment()), features(), under(clause(lambda txn, seen, limit: None)), receipt(payment()))

    assert ruling.degraded
    assert ruling.verdict is Outcome.REVIEW


def test_the_strongest_reason_comes_first() -> None:
    txn = payment()
    mild = clause(asks=Outcome.REVIEW)

    ruling = decide(cased(txn), features(), under(mild, clause(breaks), clause()), receipt(txn))

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
    assert not again.ruling.conflict
    assert (again.ruling.outcome, again.ruling.verdict, again.ruling.score) == (Outcome.BLOCK, Outcome.BLOCK, first.ruling.score)
    assert [reason.code for reason in again.ruling.reasons] == ["velocity_1m"]
    assert again.card.attempts == first.card.attempts
    assert again.card.seen[TRANSACTIONS] == 3


def test_a_repeat_orders_its_reasons_by_what_they_ask_for() -> None:
    policy = parse_policy(
        'mode = "enforce"\n[rules.velocity_1m]\nasks = "review"\nstate = "on"\n[rules.amount_spike]\nasks = "block"\nstate = "on"\n'
    )
    first = ["deny_list", "amount_spike", "watch_list", "velocity_1m", "rule_failed", "allow_list", "control"]
    settled = Settled(Outcome.BLOCK, Outcome.BLOCK, 1.0, sum(1 << CODES.index(code) for code in first))

    again = repeat(settled, Terms(policy), receipt(payment()))

    assert [reason.code for reason in again.reasons] == first
    assert again.rules == ["amount_spike", "velocity_1m"]


def test_a_repeat_of_what_chance_decided_says_so_without_a_probability_that_nobody_kept() -> None:
    chance = under(control_share=0.5)
    txn = next(
        each for each in (payment(transaction_id=f"t{n}") for n in range(99)) if decided(chance, transaction_id=each.transaction_id).reasons
    )
    first = screen(None, txn, chance, receipt(txn), 0)

    again = screen(first.card, txn, under(control_share=0.1), receipt(txn), 1).ruling

    assert first.ruling.control_probability == 0.5
    assert (again.outcome, again.duplicate, again.control_probability) == (Outcome.REVIEW, True, None)
    assert [reason.code for reason in again.reasons] == ["control"]


def test_a_repeated_id_with_other_content_is_a_conflict_and_the_first_decision_stands() -> None:
    first = screen(None, payment(transaction_id="t"), packaged(), receipt(payment()), 0)

    again = screen(first.card, payment(transaction_id="t", amount_minor=99), packaged(), receipt(payment()), 1)

    assert again.ruling.conflict
    assert again.ruling.outcome is first.ruling.outcome


def test_a_decision_found_on_the_log_teaches_what_it_taught_then() -> None:
    txn = payment()
    terms = packaged()
    screened = screen(None, txn, terms, receipt(txn), 7)

    assert adopt(None, txn, terms, screened.ruling, txn.at, 7) == (screened.card, screened.tidings)


def test_a_decision_on_the_wire_is_the_payment_and_its_ruling() -> None:
    txn = payment(attributes={"V1": -1.5})
    ruling = decide(cased(txn), features(), under(clause()), receipt(txn))
    wire = encode_decision(txn, ruling)

    decision = msgspec.json.decode(wire, type=Decision)

    assert decode_ruling(wire) == ruling
    assert {name: getattr(decision, name) for name in txn.__struct_fields__} == {name: getattr(txn, name) for name in txn.__struct_fields__}
    assert decision.outcome is Outcome.BLOCK  # type: ignore[attr-defined]  # made by defstruct


def test_features_ride_on_what_was_not_allowed_and_on_a_share_by_hash() -> None:
    terms = msgspec.structs.replace(packaged(), feature_share=0.25)
    rulings = [screen(None, payment(transaction_id=f"t{n}"), terms, receipt(payment()), n).ruling for n in range(1000)]
    blocked = decide(cased(payment()), features(), under(clause()), receipt(payment()))

    assert 200 < sum(ruling.features is not None for ruling in rulings) < 300
    assert blocked.features is not None
    assert blocked.features["attempts_10m"] == 0


def test_a_decision_long_after_its_record_is_stale_and_says_so() -> None:
    txn = payment()

    assert decide(cased(txn), features(), under(), Receipt(txn.at, NOON, stale=True)).stale
    assert not decide(cased(txn), features(), under(), Receipt(txn.at, NOON)).stale


def test_every_code_fits_into_what_a_card_remembers() -> None:
    assert len(CODES) <= 64
    assert set(CODES) >= {rule.name for rule in RULES}


def listed(*entries: Entry, clauses: tuple[Clause, ...] = (), **policy: Any) -> Terms:
    lists = Lists().changed([(each.key, each) for each in entries], "7")
    return msgspec.structs.replace(under(*clauses, **policy), lists=lists)


def decided(terms: Terms, **fields: Any) -> Ruling:
    txn = payment(**fields)
    return decide(cased(txn), features(), terms, receipt(txn))


REVIEWS, BLOCKS = clause(asks=Outcome.REVIEW), clause(asks=Outcome.BLOCK)


@pytest.mark.parametrize(
    ("entries", "clauses", "verdict", "codes"),
    [
        (["deny"], [], Outcome.BLOCK, ["deny_list"]),
        (["watch"], [], Outcome.REVIEW, ["watch_list"]),
        (["allow"], [], Outcome.ALLOW, ["allow_list"]),
        (["deny", "allow"], [], Outcome.BLOCK, ["deny_list", "allow_list"]),
        (["watch", "allow"], [], Outcome.REVIEW, ["watch_list", "allow_list"]),
        (["allow"], [REVIEWS], Outcome.ALLOW, ["allow_list"]),
        (["allow"], [BLOCKS], Outcome.BLOCK, ["hits", "allow_list"]),
        (["allow"], [clause(breaks)], Outcome.REVIEW, ["rule_failed", "allow_list"]),
        (["watch"], [BLOCKS], Outcome.BLOCK, ["hits", "watch_list"]),
        (["deny"], [BLOCKS, REVIEWS], Outcome.BLOCK, ["deny_list", "hits", "hits"]),
    ],
)
def test_deny_beats_all_and_allow_beats_what_asks_for_review(
    entries: list[str], clauses: list[Clause], verdict: Outcome, codes: list[str]
) -> None:
    ruling = decided(listed(*(entry(name) for name in entries), clauses=tuple(clauses)))

    assert (ruling.verdict, [reason.code for reason in ruling.reasons]) == (verdict, codes)
    assert ruling.lists == "7"


def test_who_is_denied_ranks_above_whoever_a_rule_hits() -> None:
    denied, hit = decided(listed(entry("deny"))), decided(under(BLOCKS, BLOCKS))

    assert (denied.score, denied.reasons[0].text) == (1.0, "the card is on the deny list: reported stolen")
    assert hit.score is not None
    assert hit.score < 1


def test_lists_only_observe_where_the_policy_observes() -> None:
    ruling = decided(listed(entry("deny"), mode=Mode.OBSERVE))

    assert (ruling.outcome, ruling.verdict) == (Outcome.ALLOW, Outcome.BLOCK)


def test_an_entry_that_expired_by_event_time_has_no_effect() -> None:
    gone = listed(entry("deny", until=NOON))

    assert decided(gone).verdict is Outcome.ALLOW
    assert decided(gone, seconds=-1).verdict is Outcome.BLOCK


def drawn(terms: Terms, **fields: Any) -> list[Ruling]:
    return [decided(terms, transaction_id=f"t{number}", **fields) for number in range(2000)]


def test_a_few_would_be_blocks_pass_so_that_they_can_be_learnt_from() -> None:
    rulings = drawn(under(BLOCKS, control_share=0.1, control_most_minor=25_00))
    passed = [ruling for ruling in rulings if ruling.outcome is Outcome.ALLOW]

    assert 150 < len(passed) < 250
    assert {ruling.verdict for ruling in rulings} == {Outcome.BLOCK}
    assert {ruling.control_probability for ruling in passed} == {0.1}
    assert {ruling.control_probability for ruling in rulings if ruling not in passed} == {None}
    assert passed[0].reasons[-1].code == "control"
    assert passed[0].settled().outcome is Outcome.ALLOW  # and so a repeat gets it again


def test_a_few_allowed_payments_go_to_review_so_that_misses_are_found() -> None:
    rulings = drawn(under(control_share=0.1))
    reviewed = [ruling for ruling in rulings if ruling.outcome is Outcome.REVIEW]

    assert 150 < len(reviewed) < 250
    assert {ruling.verdict for ruling in rulings} == {Outcome.ALLOW}
    assert all(ruling.features is not None for ruling in reviewed)


@pytest.mark.parametrize(
    "terms",
    [
        under(BLOCKS, control_share=0.5, control_most_minor=24_99),
        under(REVIEWS, control_share=0.5),
        under(BLOCKS, control_share=0.5, mode=Mode.OBSERVE),
        listed(entry("deny"), control_share=0.5),
        listed(entry("allow"), control_share=0.5),
    ],
    ids=["too high", "asks for review", "observes", "denied", "on an allow list"],
)
def test_chance_decides_nothing_else(terms: Terms) -> None:
    assert {ruling.control_probability for ruling in drawn(terms)} == {None}


@pytest.mark.parametrize("kind", [Kind.REFUND, Kind.REVERSAL])
def test_no_rule_is_asked_about_what_gives_money_back_but_lists_are(kind: Kind) -> None:
    assert decided(under(BLOCKS), kind=kind).verdict is Outcome.ALLOW
    assert decided(listed(entry("deny")), kind=kind).verdict is Outcome.BLOCK


def test_where_a_rule_failed_chance_lets_nothing_pass() -> None:
    assert {ruling.outcome for ruling in drawn(under(clause(breaks), on_failure=Outcome.BLOCK, control_share=0.5))} == {Outcome.BLOCK}


def test_reviews_because_of_earlier_blocks_come_to_an_end() -> None:
    terms = Terms(
        parse_policy(
            'mode = "enforce"\n[rules.velocity_1m]\nstate = "on"\nasks = "block"\nmost = 2\n'
            '[rules.many_refused]\nstate = "on"\nasks = "review"\nmost = 3\n'
        )
    )
    card: Card | None = None
    verdicts: list[Outcome] = []
    for number, seconds in enumerate([*range(6), *(7200 * day for day in range(1, 40))]):
        txn = payment(seconds=seconds, transaction_id=f"t{number}")
        screened = screen(card, txn, terms, receipt(txn), number)
        card = screened.card
        verdicts.append(screened.ruling.verdict)

    assert verdicts[2:6] == [Outcome.BLOCK] * 4
    assert set(verdicts[6:17]) == {Outcome.REVIEW}  # a day
    assert set(verdicts[19:]) == {Outcome.ALLOW}


def scored(asks: Outcome = Outcome.ALLOW, score: float | None = 0.2, **fields: Any) -> Scored:
    usual: dict[str, Any] = {"bundle": "b1", "layers": {"supervised": score}, "probability": 0.1, "sentence": "models say so"}
    return Scored(**usual | {"score": score, "asks": asks} | fields)


def ruled(said: Scored | None, terms: Terms, **fields: Any) -> Ruling:
    txn = payment(**fields)
    return decide(cased(txn), features(), terms, receipt(txn), said)


SAID_REVIEW, SAID_BLOCK = scored(Outcome.REVIEW, 0.7), scored(Outcome.BLOCK, 0.95)
FAILED = scored(failures=(("autoencoder", "no luck"),))


@pytest.mark.parametrize(
    ("said", "terms", "verdict", "codes"),
    [
        (scored(), under(), Outcome.ALLOW, []),
        (SAID_REVIEW, under(), Outcome.REVIEW, ["models"]),
        (SAID_BLOCK, under(), Outcome.BLOCK, ["models"]),
        (SAID_REVIEW, under(BLOCKS), Outcome.BLOCK, ["hits", "models"]),
        (SAID_BLOCK, under(REVIEWS), Outcome.BLOCK, ["models", "hits"]),
        (SAID_BLOCK, under(BLOCKS), Outcome.BLOCK, ["hits", "models"]),
        (SAID_BLOCK, listed(entry("allow")), Outcome.ALLOW, ["allow_list"]),
        (SAID_BLOCK, listed(entry("deny")), Outcome.BLOCK, ["deny_list", "models"]),
        (SAID_BLOCK, under(models=ModelClause(state=State.SHADOW)), Outcome.ALLOW, []),
        (SAID_BLOCK, under(models=ModelClause(most=Outcome.REVIEW)), Outcome.REVIEW, ["models"]),
        (FAILED, under(), Outcome.REVIEW, ["layer_failed"]),
        (FAILED, under(on_failure=Outcome.BLOCK), Outcome.BLOCK, ["layer_failed"]),
        (FAILED, listed(entry("allow")), Outcome.REVIEW, ["layer_failed", "allow_list"]),
        (FAILED, under(models=ModelClause(state=State.SHADOW)), Outcome.ALLOW, []),
    ],
)
def test_models_ask_beside_rules_and_lists_and_the_strictest_wins(said: Scored, terms: Terms, verdict: Outcome, codes: list[str]) -> None:
    ruling = ruled(said, terms)

    assert (ruling.verdict, [reason.code for reason in ruling.reasons]) == (verdict, codes)
    assert ruling.degraded is bool(said.failures)
    assert (ruling.bundle, ruling.supervised, ruling.autoencoder, ruling.probability) == ("b1", said.score, None, 0.1)


def test_the_score_is_the_models_and_each_request_takes_its_part_of_the_doubt_that_is_left() -> None:
    assert ruled(scored(score=0.2), under()).score == 0.2
    assert ruled(SAID_BLOCK, under()).score == 0.95
    assert ruled(scored(score=0.2), under(REVIEWS)).score == pytest.approx(0.6)
    assert ruled(SAID_BLOCK, under(BLOCKS)).score == pytest.approx(0.995)
    assert ruled(scored(), listed(entry("deny"))).score == 1.0
    assert ruled(scored(score=0.2), under(clause(breaks))).score == 0.2
    assert ruled(scored(score=None), under()).score is None, "no layer could tell, which is not 'no risk'"
    assert ruled(scored(score=None), under(BLOCKS)).score == pytest.approx(0.9)


@given(st.sampled_from([scored(), SAID_REVIEW, SAID_BLOCK, FAILED]), CLAUSES, st.sampled_from([Outcome.REVIEW, Outcome.BLOCK]))
def test_models_never_soften_what_rules_ask_for(said: Scored, clauses: list[Clause], asks: Outcome) -> None:
    terms = under(*clauses, clause(asks=asks))
    alone, both = ruled(None, terms), ruled(said, terms)

    assert SEVERITY[both.verdict] >= SEVERITY[alone.verdict]
    assert (both.score or 0) >= (alone.score or 0)


def test_where_a_layer_failed_chance_lets_nothing_pass() -> None:
    terms = under(on_failure=Outcome.BLOCK, control_share=0.5)

    assert {ruled(FAILED, terms, transaction_id=f"t{number}").outcome for number in range(200)} == {Outcome.BLOCK}


def test_a_repeat_of_what_models_decided_says_so_again() -> None:
    first = explained(ruled(SAID_BLOCK, under(REVIEWS)), [("model_amount", "amount 4,000.00 EUR"), ("model_unusual", "unlike")])
    failed = ruled(FAILED, under())

    again = repeat(first.settled(), under(), receipt(payment()))

    assert [reason.code for reason in again.reasons] == ["models", "model_amount", "model_unusual"]
    assert (again.rules, again.degraded, again.score) == ([], False, first.score)
    assert repeat(failed.settled(), under(), receipt(payment())).degraded
