"""Labels as in life: what analysts and chargebacks say, when, of which payments, and how often they are wrong."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from statistics import quantiles

import pytest

from aegis_app.core.label import Label
from aegis_app.core.payment import Outcome
from aegis_app.simulate import Desk, Labelled, read_stopped, simulate

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def payments() -> list[Labelled]:
    return list(simulate(1000, 40, 6, datetime(2026, 3, 1, tzinfo=UTC), fraud_rate=0.1))


def said(payments: Iterable[Labelled], stopped: dict[str, Outcome] | None = None) -> list[Label]:
    desk = Desk(7, stopped)
    labels: list[Label] = []
    for payment in payments:
        labels += desk.until(payment.arrived)
        desk.see(payment)
    return [*labels, *desk.rest()]


def all_that(outcome: Outcome, payments: Iterable[Labelled]) -> dict[str, Outcome]:
    return {payment.transaction.transaction_id: outcome for payment in payments}


def truth(payments: Iterable[Labelled]) -> dict[str, str | None]:
    return {payment.transaction.transaction_id: payment.fraud for payment in payments}


def test_labels_are_the_same_for_the_same_seed_and_come_in_order_of_time(payments: list[Labelled]) -> None:
    labels = said(payments)
    times = [label.labelled_at for label in labels]

    assert labels == said(payments)
    assert times == sorted(times)
    assert {label.source for label in labels} == {"analyst", "chargeback"}


def test_a_label_repeats_what_it_is_about_and_comes_after_it(payments: list[Labelled]) -> None:
    known = {payment.transaction.transaction_id: payment for payment in payments}

    for label in said(payments):
        about = known[label.transaction_id]
        txn = about.transaction
        assert (label.card_id, label.merchant_id, label.timestamp) == (txn.card_id, txn.merchant_id, txn.timestamp)
        assert label.labelled_at.timestamp() * 1000 > about.arrived
        assert label.fraud_type == (about.fraud if label.is_fraud else None)


def test_chargebacks_take_25_days_in_the_median_and_four_months_at_most(payments: list[Labelled]) -> None:
    days = [(label.labelled_at - label.timestamp) / DAY for label in said(payments, {}) if label.source == "chargeback"]
    twentieths = quantiles(days, n=20)

    assert twentieths[9] == pytest.approx(25, rel=0.08)
    assert 6 < twentieths[0] < 10
    assert 65 < twentieths[18] < 90
    assert 115 < max(days) <= 122.1  # late arrival comes on top


def test_of_frauds_that_nothing_stopped_one_in_twenty_never_gets_a_label_and_genuine_payments_get_none(payments: list[Labelled]) -> None:
    labels, what = said(payments, {}), truth(payments)
    frauds = sum(fraud is not None for fraud in what.values())

    assert len(labels) / frauds == pytest.approx(0.95, abs=0.012)
    assert all(label.source == "chargeback" and label.is_fraud and what[label.transaction_id] is not None for label in labels)


def test_analysts_say_within_hours_what_was_reviewed_and_are_wrong_in_three_of_a_hundred(payments: list[Labelled]) -> None:
    what = truth(payments)
    by_analysts = [label for label in said(payments, all_that(Outcome.REVIEW, payments)) if label.source == "analyst"]
    arrived = {payment.transaction.transaction_id: payment.arrived for payment in payments}
    hours = [(label.labelled_at.timestamp() * 1000 - arrived[label.transaction_id]) / 3_600_000 for label in by_analysts]
    wrong = [label for label in by_analysts if label.is_fraud is not (what[label.transaction_id] is not None)]

    assert {label.transaction_id for label in by_analysts} == set(what)
    assert 0 < min(hours) < max(hours) <= 12.001
    assert len(wrong) / len(by_analysts) == pytest.approx(0.03, abs=0.004)
    assert {label.is_fraud for label in wrong} == {True, False}


def test_what_an_analyst_let_pass_by_mistake_comes_back_as_a_chargeback(payments: list[Labelled]) -> None:
    labels = said(payments, all_that(Outcome.REVIEW, payments))
    passed = {label.transaction_id for label in labels if label.source == "analyst" and not label.is_fraud}
    returned = {label.transaction_id for label in labels if label.source == "chargeback"}

    assert len(returned) > 50
    assert returned <= passed


def test_of_blocked_payments_nobody_claims_anything_and_most_are_never_looked_at(payments: list[Labelled]) -> None:
    labels = said(payments, all_that(Outcome.BLOCK, payments))

    assert {label.source for label in labels} == {"analyst"}
    assert len(labels) / len(payments) == pytest.approx(0.3, abs=0.01)


def test_what_was_allowed_is_claimed_alike_whatever_was_stopped_beside_it(payments: list[Labelled]) -> None:
    half = payments[::2]
    beside = {payment.transaction.transaction_id for payment in half}
    alone, among = said(payments, {}), said(payments, all_that(Outcome.BLOCK, half))

    assert [label for label in among if label.transaction_id not in beside] == [
        label for label in alone if label.transaction_id not in beside
    ]


def test_without_decisions_some_people_of_the_bank_review_what_looks_odd_to_them(payments: list[Labelled]) -> None:
    what = truth(payments)
    reviewed = Counter(what[label.transaction_id] is not None for label in said(payments) if label.source == "analyst")
    frauds = sum(fraud is not None for fraud in what.values())

    assert reviewed[True] / frauds == pytest.approx(0.3, abs=0.03)
    assert reviewed[False] / (len(what) - frauds) == pytest.approx(0.002, abs=0.0006)


def test_decisions_about_other_payments_are_counted(payments: list[Labelled]) -> None:
    desk = Desk(7, {"of another run": Outcome.BLOCK, payments[0].transaction.transaction_id: Outcome.BLOCK})
    desk.see(payments[0])

    assert desk.unheard_of == 1


def test_of_decisions_those_that_stopped_something_are_read_and_a_bad_line_is_named() -> None:
    lines = [b'{"transaction_id": "a", "outcome": "allow"}', b'{"transaction_id": "b", "outcome": "block", "verdict": "block"}']

    assert read_stopped(lines) == {"b": Outcome.BLOCK}
    with pytest.raises(ValueError, match="line 3: "):
        read_stopped([*lines, b"no json"])
