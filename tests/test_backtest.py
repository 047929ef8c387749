"""The back-test: figures equal to a count by hand, whoever shares the work, and a page that stands alone."""

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_app.backtest.labels import Truth, read_labels
from aegis_app.backtest.page import page
from aegis_app.backtest.report import Group, Report, report
from aegis_app.backtest.run import Job, backtest, cores_for
from aegis_app.backtest.sheets import sheets
from aegis_app.backtest.tally import MOST_CASES, Tally
from aegis_app.core.decision import Reason, Ruling
from aegis_app.core.payment import Outcome, Transaction, encode_transaction
from aegis_app.core.policy import Policy, parse_policy
from aegis_app.core.rates import EUROS, Rates
from aegis_app.core.rules import RULES
from aegis_app.core.terms import Terms
from aegis_app.simulate import simulate
from models.datasets import DatasetError
from models.datasets.aegis import write_parquet
from models.datasets.parquet import pyarrow
from tests.make import NOON, label, payment

FRAUD, GENUINE, UNKNOWN = Truth(True), Truth(False), Truth(None)
ALLOW, REVIEW, BLOCK = Outcome


def policy(**clauses: str) -> Policy:
    """The rules given, each as state, asks and most; all others are off."""
    texts = {rule.name: 'state = "off"' for rule in RULES}
    for name, clause in clauses.items():
        state, asks, most = clause.split()
        texts[name] = f'state = "{state}"\nasks = "{asks}"\nmost = {most}'
    return parse_policy("".join(f"[rules.{name}]\n{text}\n" for name, text in texts.items()))


STRICT = policy(velocity_1m="on block 2", velocity_10m="on review 3", velocity_1h="shadow review 1")
MILD = policy(velocity_10m="on review 3")


def lines(payments: Iterable[Transaction]) -> bytes:
    return b"".join(encode_transaction(txn) + b"\n" for txn in payments)


def judged(
    source: Path, policies: Sequence[Policy] = (STRICT,), truths: dict[str, Truth] | None = None, processes: int = 1, **given: Any
) -> Report:
    job = {"unlabelled": None, "token": False, "truths": {} if truths is None else truths} | given
    tally = backtest(Job(source=source, terms=tuple(Terms(each) for each in policies), **job), processes, lambda number: None)
    return report("payments", tally, len(job["truths"]), [("policy", each) for each in policies])


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """On one day a burst at card a, the second half of it fraud, and a payment in another currency; two days later a burst at card c."""
    file = tmp_path / "by_hand.jsonl"
    later = 48 * 3600
    payments = [
        *(payment(seconds=second, card_id="a", transaction_id=f"a{second}", amount_minor=10_00) for second in (1, 2, 3, 4)),
        payment(seconds=9, card_id="b", transaction_id="b1", amount_minor=5_00, currency="USD"),
        payment(seconds=4, card_id="a", transaction_id="a4", amount_minor=10_00),  # a repeat
        *(
            payment(seconds=later + second, card_id="c", customer_id="ann", transaction_id=f"c{second}", amount_minor=10_00)
            for second in (1, 2, 3)
        ),
    ]
    file.write_bytes(lines(payments))
    return file


TRUTHS = {
    "a1": GENUINE,
    "a2": GENUINE,
    "a3": Truth(True, "burst"),
    "a4": Truth(True, "burst"),
    "b1": FRAUD,
    "c2": GENUINE,
    "c3": GENUINE,
    "elsewhere": FRAUD,
}


def group(payments: int, frauds: int, genuine: int, money: dict[str, int], fraud_money: dict[str, int]) -> Group:
    return Group(payments, frauds, genuine, money, fraud_money)


def test_figures_of_a_file_counted_by_hand(by_hand: Path) -> None:
    found = judged(by_hand, truths=TRUTHS)
    (one,) = found.policies

    assert found.payments == group(8, 3, 4, {"EUR": 70_00, "USD": 5_00}, {"EUR": 20_00, "USD": 5_00})
    assert (found.repeats, found.labels, found.labels_of_unknown_payments, found.refused) == (1, 8, 1, 0)
    assert (str(found.first_day), str(found.last_day), found.days) == ("2026-03-04", "2026-03-06", 3)
    review, block, both = one.flagged
    assert (review.caught.payments, review.precision, review.recall, review.false_positive_rate) == (0, None, 0, 0)
    assert block.caught == group(3, 2, 1, {"EUR": 30_00}, {"EUR": 20_00})
    assert (block.precision, block.recall, block.false_positive_rate, block.a_day) == (2 / 3, 2 / 3, 1 / 4, 1.0)
    assert (both.verdicts, both.caught) == ((REVIEW, BLOCK), block.caught)
    assert [(day.payments, day.reviewed, day.blocked) for day in one.days] == [(5, 0, 2), (0, 0, 0), (3, 0, 1)]
    assert (one.most_alerts_a_day, one.median_alerts_a_day) == (2, 1)
    assert (one.blocked_genuine_payments, one.blocked_genuine_cards, one.blocked_genuine_customers) == (1, 1, 1)
    assert [(each.fraud_type, each.frauds, each.reviewed, each.blocked, each.recall) for each in one.frauds] == [
        ("burst", 2, 0, 2, 1.0),
        (None, 1, 0, 0, 0.0),
    ]


def test_what_each_rule_was_worth_counted_by_hand(by_hand: Path) -> None:
    (one,) = judged(by_hand, truths=TRUTHS).policies
    minute, ten, hour = one.rules

    assert [(rule.rule, rule.state, rule.asks) for rule in one.rules] == [
        ("velocity_1m", "on", BLOCK),
        ("velocity_10m", "on", REVIEW),
        ("velocity_1h", "shadow", REVIEW),
    ]
    assert minute.hits == group(3, 2, 1, {"EUR": 30_00}, {"EUR": 20_00})
    assert (minute.precision, minute.recall) == (2 / 3, 2 / 3)
    assert (minute.alone, minute.alone_precision) == (group(2, 1, 1, {"EUR": 20_00}, {"EUR": 10_00}), 1 / 2)
    assert (ten.hits, ten.alone) == (group(1, 1, 0, {"EUR": 10_00}, {"EUR": 10_00}), Group())
    assert hour.hits == group(5, 2, 3, {"EUR": 50_00}, {"EUR": 20_00})
    assert hour.alone == group(2, 0, 2, {"EUR": 20_00}, {})  # what it would add if it were on
    assert [(each.rules, each.both.payments) for each in one.overlaps] == [
        (("velocity_1m", "velocity_10m"), 1),
        (("velocity_1m", "velocity_1h"), 3),
        (("velocity_10m", "velocity_1h"), 1),
    ]


def test_rules_that_are_off_are_named_where_the_others_have_their_rows(by_hand: Path) -> None:
    found = judged(by_hand)
    note = next(sheet.note for sheet in sheets(found) if sheet.title == "Rules")

    assert {*found.policies[0].off} == {rule.name for rule in RULES} - {"velocity_1m", "velocity_10m", "velocity_1h"}
    assert note.endswith(f"Off, and not asked: {', '.join(found.policies[0].off)}.")


def test_changes_between_two_policies_counted_by_hand_each_with_examples_and_reasons(by_hand: Path) -> None:
    found = judged(by_hand, (STRICT, MILD), TRUTHS)

    assert [(each.before, each.after, each.payments.payments, each.payments.frauds) for each in found.changes] == [
        (BLOCK, ALLOW, 2, 1),
        (BLOCK, REVIEW, 1, 1),
    ]
    loosened, softened = ([case.transaction_id for case in each.examples] for each in found.changes)
    assert (loosened, softened) == (["a3", "c3"], ["a4"])
    (case,) = found.changes[1].examples
    assert [[reason.code for reason in reasons] for reasons in case.reasons] == [["velocity_1m", "velocity_10m"], ["velocity_10m"]]
    assert case.truth == Truth(True, "burst")
    assert judged(by_hand, (STRICT, STRICT), TRUTHS).changes == ()


def test_without_labels_hits_alerts_overlaps_and_changes_are_told_and_what_needs_labels_is_not(by_hand: Path) -> None:
    found = judged(by_hand, (STRICT, MILD))
    one = found.policies[0]

    assert [rule.hits.payments for rule in one.rules] == [3, 1, 5]
    assert {rule.precision for rule in one.rules} == {None}
    assert (one.flagged[1].a_day, one.flagged[1].recall, one.flagged[1].false_positive_rate, one.frauds) == (1.0, None, None, ())
    assert len(one.overlaps) == 3
    assert [each.payments.payments for each in found.changes] == [2, 1]


def test_money_is_in_the_base_currency_where_there_is_a_rate(by_hand: Path) -> None:
    job = Job(by_hand, (Terms(STRICT, rates=Rates("EUR", {"EUR": 1.0, "USD": 1.25})),), TRUTHS, None, False)

    found = report("payments", backtest(job, 1, lambda number: None), len(TRUTHS), [("policy", STRICT)])

    assert (found.payments.money, found.payments.fraud_money) == ({"EUR": 74_00}, {"EUR": 24_00})


def test_what_no_label_speaks_of_can_be_taken_for_genuine(by_hand: Path) -> None:
    found = judged(by_hand, truths=TRUTHS, unlabelled=False)

    assert (found.payments.frauds, found.payments.genuine) == (3, 5)


@pytest.mark.parametrize("processes", [1, 2])
def test_progress_hears_of_every_payment_whoever_judges_it(tmp_path: Path, processes: int) -> None:
    file, told = tmp_path / "many.jsonl", list[int]()
    file.write_bytes(lines(payment(card_id=f"c{n}", transaction_id=f"t{n}") for n in range(2500)))

    backtest(Job(file, (Terms(STRICT),), {}, None, False), processes, told.append)

    assert sum(told) == 2500
    assert max(told) == 1000


def test_labels_of_payments_before_the_day_are_heard_of_and_judge_nothing(by_hand: Path) -> None:
    file = by_hand.with_name("labelled.jsonl")
    file.write_bytes(lines(payment(seconds=second, transaction_id=f"t{second}") for second in range(4)))
    truths = {"t0": FRAUD, "t1": GENUINE, "t2": FRAUD, "of another file": FRAUD}

    found = judged(file, truths=truths, since=NOON + timedelta(seconds=2))

    assert (found.payments.payments, found.payments.frauds, found.payments.genuine) == (2, 1, 0)
    assert (found.labels, found.labels_of_unknown_payments) == (4, 1)


def test_payments_before_a_day_are_learnt_from_and_not_counted(by_hand: Path) -> None:
    file = by_hand.with_name("burst.jsonl")
    file.write_bytes(lines(payment(seconds=second, transaction_id=f"t{second}") for second in range(4)))

    found = judged(file, since=NOON + timedelta(seconds=2))

    assert found.payments.payments == 2
    assert [each.caught.payments for each in found.policies[0].flagged if each.verdicts == (BLOCK,)] == [
        2
    ]  # the third and fourth in a minute


def test_whether_a_policy_enforces_makes_no_difference(by_hand: Path) -> None:
    texts = [f'mode = "{mode}"\n[rules.velocity_1m]\nstate = "on"\nasks = "block"\nmost = 2\n' for mode in ("observe", "enforce")]
    observed, enforced = (judged(by_hand, (parse_policy(text),), TRUTHS).policies[0] for text in texts)

    assert observed.flagged == enforced.flagged
    assert observed.rules == enforced.rules


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_the_report_does_not_depend_on_how_many_share_the_work(tmp_path: Path, suffix: str) -> None:
    course = list(simulate(300, 20, 4, NOON, fraud_rate=0.05))
    truths = {each.transaction.transaction_id: Truth(each.fraud is not None, each.fraud) for each in course}
    path = tmp_path / f"payments.{suffix}"
    payments = [each.transaction for each in course]
    if suffix == "jsonl":
        path.write_bytes(lines(payments[:50]) + b"no json\n" + lines(payments[50:]))
    else:
        write_parquet(path, payments)

    one, three = (judged(path, (STRICT, MILD), truths, processes) for processes in (1, 3))

    assert msgspec.json.encode(three) == msgspec.json.encode(one)
    assert one.payments.payments == len(course)
    assert one.refused == (suffix == "jsonl")
    assert all(change.payments.payments > MOST_CASES for change in one.changes[:1])  # or else no example had to give way


def test_a_bad_row_ends_all_processes_with_its_reason(tmp_path: Path) -> None:
    arrow, parquet = pyarrow()
    path = tmp_path / "bad.parquet"
    columns = {
        "transaction_id": ["t", "u"],
        "card_id": ["c", "d"],
        "currency": ["EUR"] * 2,
        "amount_minor": [5, -1],
        "timestamp": [NOON] * 2,
    }
    parquet.write_table(arrow.table(columns), path)

    with pytest.raises(DatasetError, match=r"bad\.parquet, row 2: .*amount_minor"):
        judged(path, processes=2)


def test_a_small_file_is_not_worth_a_second_process(by_hand: Path) -> None:
    assert cores_for(by_hand) == 1


def ruling(verdict: Outcome, rules: Iterable[str], shadow_rules: Iterable[str], degraded: bool, duplicate: bool) -> Ruling:
    return Ruling(
        outcome=ALLOW,
        verdict=verdict,
        score=None,
        reasons=[Reason(rule, "") for rule in rules],
        rules=[*rules],
        shadow_rules=[*shadow_rules],
        policy="",
        decided_at=NOON,
        degraded=degraded,
        duplicate=duplicate,
    )


ON, SHADOW = ("velocity_1m", "velocity_10m"), ("velocity_1h",)
rulings = st.builds(
    ruling, st.sampled_from(Outcome), st.sets(st.sampled_from(ON)), st.sets(st.sampled_from(SHADOW)), st.booleans(), st.just(False)
)
truths = (
    st.builds(Truth, st.none())
    | st.builds(Truth, st.just(False))
    | st.builds(Truth, st.just(True), st.sampled_from(["one", "other", None]))
)
counted = st.tuples(
    st.builds(
        lambda hour, card, amount, currency, customer: payment(
            minute=60 * hour, card_id=card, amount_minor=amount, currency=currency, customer_id=customer
        ),
        st.integers(0, 72),
        st.sampled_from("abcdefgh"),
        st.integers(0, 100),
        st.sampled_from(["EUR", "JPY"]),
        st.sampled_from(["ann", "bo", None]),
    ),
    truths,
    st.tuples(rulings, rulings),
)
Counted = tuple[Transaction, Truth, tuple[Ruling, Ruling]]


def tallied(payments: Iterable[Counted]) -> Tally:
    tally = Tally.of(2)
    for txn, truth, both in payments:
        tally.count(txn, truth, both, EUROS)
    return tally


def reported(tally: Tally) -> Report:
    return report("payments", tally, 0, [("A", STRICT), ("B", STRICT)])


def plain(payments: Iterable[Counted]) -> Group:
    """A count that knows of no cells."""
    found = Group()
    for txn, truth, _ in payments:
        found.payments += 1
        found.frauds += truth.is_fraud is True
        found.genuine += truth.is_fraud is False
        found.money[txn.currency] = found.money.get(txn.currency, 0) + txn.amount_minor
        if truth.is_fraud is True:
            found.fraud_money[txn.currency] = found.fraud_money.get(txn.currency, 0) + txn.amount_minor
    return found


@given(st.lists(counted, min_size=1, max_size=40))
def test_every_figure_equals_a_plain_recount(payments: list[Counted]) -> None:
    found = reported(tallied(payments))

    assert found.payments == plain(payments)
    for place, each in enumerate(found.policies):
        said = [(txn, truth, both[place]) for txn, truth, both in payments]
        for flagged in each.flagged:
            assert flagged.caught == plain([one for one in payments if one[2][place].verdict in flagged.verdicts])
        for rule in each.rules:
            hits = [one for one in payments if rule.rule in one[2][place].rules + one[2][place].shadow_rules]
            assert rule.hits == plain(hits)
            assert rule.alone == plain([one for one in hits if not set(one[2][place].rules) - {rule.rule}])
        overlaps = {overlap.rules: overlap.both for overlap in each.overlaps}
        for one, other in product((*ON, *SHADOW), repeat=2):
            both_hit = [paid for paid in payments if {one, other} <= {*paid[2][place].rules, *paid[2][place].shadow_rules}]
            if (one, other) in overlaps:
                assert overlaps[one, other] == plain(both_hit)
            else:
                assert one == other or (other, one) in overlaps or not both_hit
        assert sum(day.payments for day in each.days) == len(payments)
        assert sum(day.alerts for day in each.days) == sum(said_so.verdict is not ALLOW for _, _, said_so in said)
        assert sum(figures.frauds for figures in each.frauds) == found.payments.frauds
        harmed = [txn for txn, truth, said_so in said if truth.is_fraud is False and said_so.verdict is BLOCK]
        assert each.blocked_genuine_payments == len(harmed)
        assert each.blocked_genuine_cards == len({txn.card_id for txn in harmed})
        assert each.blocked_genuine_customers == len({txn.customer_id for txn in harmed} - {None})
        assert each.degraded == sum(said_so.degraded for _, _, said_so in said)
    changed = [one for one in payments if one[2][0].verdict is not one[2][1].verdict]
    assert sum(change.payments.payments for change in found.changes) == len(changed)


@given(st.lists(counted, min_size=1, max_size=60), st.permutations(range(3)))
def test_tallies_of_different_cards_add_up_in_any_order(payments: list[Counted], order: list[int]) -> None:
    whole = Tally.of(2)
    for part in order:
        whole.merge(tallied(one for one in payments if ord(one[0].card_id) % 3 == part))

    assert msgspec.json.encode(reported(whole)) == msgspec.json.encode(reported(tallied(payments)))


def test_examples_are_the_earliest_of_different_cards_however_they_come() -> None:
    burst = [(payment(minute=minute, card_id=f"card-{minute // 2}"), UNKNOWN, _changed()) for minute in range(20)]

    for payments in (burst, burst[::-1]):
        (change,) = reported(tallied(payments)).changes
        assert [case.timestamp for case in change.examples] == [NOON + timedelta(minutes=2 * card) for card in range(MOST_CASES)]


def _changed() -> tuple[Ruling, Ruling]:
    return ruling(ALLOW, (), (), False, False), ruling(BLOCK, ON, (), False, False)


@pytest.mark.parametrize(
    ("labels", "truth"),
    [
        ([{"is_fraud": True, "fraud_type": "one"}], Truth(True, "one")),
        ([{"is_fraud": False, "fraud_type": "one"}], GENUINE),
        ([{"is_fraud": True, "source": "analyst"}, {"is_fraud": False, "source": "customer"}], GENUINE),
        ([{"is_fraud": False, "source": "customer"}, {"is_fraud": True, "source": "chargeback"}], GENUINE),
        ([{"is_fraud": True, "source": "chargeback"}, {"is_fraud": False, "source": "issuer"}], FRAUD),
        ([{"is_fraud": True, "source": "issuer"}, {"is_fraud": False, "source": "analyst"}], FRAUD),
        ([{"is_fraud": True, "source": "analyst"}, {"is_fraud": False, "source": "automatic"}], FRAUD),
        ([{"is_fraud": True, "source": "automatic"}, {"is_fraud": False}], FRAUD),
        (
            [
                {"is_fraud": True, "source": "issuer", "labelled_at": "2026-03-02T00:00:00Z"},
                {"is_fraud": False, "source": "issuer", "labelled_at": "2026-03-01T23:00:00-02:00"},
            ],
            GENUINE,
        ),
        (
            [
                {"is_fraud": True, "source": "issuer", "labelled_at": "2026-03-02T00:00:00Z"},
                {"is_fraud": False, "source": "issuer", "labelled_at": "2026-03-01T23:00:00Z"},
            ],
            FRAUD,
        ),
        ([{"is_fraud": True, "labelled_at": "2026-03-02T00:00:00Z"}, {"is_fraud": False}], FRAUD),
        ([{"is_fraud": True}, {"is_fraud": False}], GENUINE),
        (
            [
                {"is_fraud": True, "source": "customer", "labelled_at": "2026-03-01T00:00:00Z"},
                {"is_fraud": False, "source": "analyst", "labelled_at": "2026-03-09T00:00:00Z"},
            ],
            FRAUD,
        ),
    ],
)
def test_of_several_labels_the_strongest_source_wins_then_the_latest(labels: list[dict[str, Any]], truth: Truth) -> None:
    written = [json.dumps({"transaction_id": "t"} | label).encode() for label in labels]

    assert read_labels(written, lambda number, error: pytest.fail(str(error))) == {"t": truth}


def test_lines_without_a_label_are_refused_by_number_and_the_rest_go_on() -> None:
    refused: dict[int, Exception] = {}
    written = [
        b'{"transaction_id": "t", "is_fraud": true}',
        b"\n",
        b"no json",
        b'{"transaction_id": "u"}',
        b'{"transaction_id": "u", "is_fraud": true, "source": "rumour"}',
        b'{"transaction_id": "v", "is_fraud": false}',
    ]

    assert read_labels(written, refused.__setitem__) == {"t": FRAUD, "v": GENUINE}
    assert list(refused) == [3, 4, 5]


def test_the_page_stands_alone_and_what_strangers_wrote_is_no_markup(tmp_path: Path) -> None:
    evil = '<script>alert("$x$")</script>'
    file = tmp_path / "payments.jsonl"
    file.write_bytes(lines(payment(seconds=second, transaction_id=f"{evil}{second}", card_id=evil) for second in range(4)))

    text = page(judged(file, (STRICT, MILD), {f"{evil}{second}": Truth(True, evil) for second in range(4)}))

    assert text.count("<svg") == 7  # the milder policy has one rule only, so none that overlap
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not [word for word in ("src=", "<link", "@import", "url(http") if word in text]


def test_the_same_report_is_the_same_page(by_hand: Path) -> None:
    assert page(judged(by_hand, truths=TRUTHS)) == page(judged(by_hand, truths=TRUTHS))


def test_memory_hears_labels_when_they_became_known(tmp_path: Path) -> None:
    off = "".join(f'[rules.{rule.name}]\nstate = "off"\n' for rule in RULES if rule.name != "card_confirmed_fraud")
    asking = parse_policy(off)
    file = tmp_path / "payments.jsonl"
    payments = [payment(minute=minute, card_id=card, transaction_id=f"{card}{minute}") for minute in (0, 60, 120) for card in "ab"]
    file.write_bytes(lines(payments))
    said = label(payments[0], is_fraud=True, after=timedelta(minutes=90))

    for processes in (1, 2):
        job = Job(file, (Terms(asking),), {}, None, False, heard=(said,))
        found = report("by hand", backtest(job, processes, lambda number: None), 0, [("one", asking)])
        assert {rule.rule: rule.hits.payments for rule in found.policies[0].rules}["card_confirmed_fraud"] == 1
