"""What is counted is what happened."""

import re
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from aegis_app import metrics
from aegis_app.core.card import RING
from aegis_app.core.decision import Reason
from aegis_app.core.label import Source
from aegis_app.core.lists import Lists
from aegis_app.core.payment import Kind
from aegis_app.core.policy import Policy, parse_policy
from aegis_app.core.rates import Rates
from aegis_app.core.screen import Screened, learn_label, screen
from aegis_app.core.terms import Terms
from tests.make import entry, label, payment, receipt, remember

BOUNDS = (0.1, 0.5, 1.0)
RATES = Rates("EUR", {"EUR": 1.0, "JPY": 160.0})


@given(st.lists(st.one_of(st.sampled_from([0.0, *BOUNDS]), st.floats(0, 3))))
def test_a_distribution_is_a_histogram(values: list[float]) -> None:
    usual = Histogram("usual", "As prometheus_client counts.", ["layer"], buckets=BOUNDS, registry=CollectorRegistry())
    ours = metrics.Distribution("aegis_test", "As we count.", ["layer"], buckets=BOUNDS)
    REGISTRY.unregister(ours)
    usual.labels("rules")
    for value in values:
        usual.labels("rules").observe(value)
    ours.observe(values, "rules")

    (expected,), (found,) = usual.collect(), ours.collect()

    assert counted(found) == counted(expected)
    assert next(sample.value for sample in found.samples if sample.name.endswith("_sum")) == pytest.approx(sum(values))


def counted(family: Metric) -> dict[tuple[str, float], float]:
    return {
        (sample.labels["layer"], float(sample.labels.get("le", -1))): sample.value
        for sample in family.samples
        if sample.name.endswith(("_bucket", "_count"))
    }


def changes(*screened: tuple[Screened, Any], currency: str = "EUR") -> dict[str, float]:
    """What a chunk of these adds to the series, by name and labels."""
    before = samples()
    tally = metrics.Tally(currency)
    for judged, txn in screened:
        tally.add(judged, txn)
    tally.count()
    return {name: value - before.get(name, 0.0) for name, value in samples().items() if value != before.get(name, 0.0)}


def samples() -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in REGISTRY.collect()
        if family.name.startswith("aegis_")
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def named(name: str, **labels: str) -> str:
    return f"{name}{sorted(labels.items())}"


POLICY = parse_policy('mode = "observe"\n[rules.velocity_1m]\nstate = "on"\nasks = "block"\nmost = 1\n', "test")


def judged(txn: Any, card: Any = None, policy: Policy = POLICY) -> tuple[Screened, Any]:
    return screen(card, txn, Terms(policy, rates=RATES), receipt(txn), 100), txn


def test_an_allowed_payment_adds_its_money_in_whole_units_of_the_base_currency() -> None:
    added = changes(judged(payment(amount_minor=8000, currency="JPY")), judged(payment(amount_minor=25_50)))

    both = {"outcome": "allow", "verdict": "allow"}
    assert added[named("aegis_payments_total", **both)] == 2
    assert added[named("aegis_amount_total", **both)] == pytest.approx(50.0 + 25.5)
    assert added[named("aegis_score_count", layer="rules")] == 2
    assert named("aegis_late_total") not in added


def test_money_that_is_given_back_or_has_no_rate_is_not_added() -> None:
    added = changes(judged(payment(kind=Kind.REFUND)), judged(payment(currency="CHF")))

    assert not any(name.startswith("aegis_amount_total") for name in added)
    assert added[named("aegis_unrated_total")] == 1


def test_a_hit_is_counted_with_its_score_and_what_was_asked_in_vain() -> None:
    card = remember(payment(seconds=-20), payment(seconds=-10))
    added = changes(judged(payment(), card))

    assert added[named("aegis_payments_total", outcome="allow", verdict="block")] == 1
    assert added[named("aegis_rule_hits_total", rule="velocity_1m", mode="on")] == 1
    assert added[named("aegis_score_sum", layer="rules")] == pytest.approx(0.9)
    assert added[named("aegis_score_bucket", layer="rules", le="0.9")] == 1
    assert named("aegis_score_bucket", layer="rules", le="0.8") not in added


def test_a_repeat_adds_neither_money_nor_hits_and_a_conflict_is_seen() -> None:
    first = payment(seconds=-10)
    card = remember(payment(seconds=-20), first)
    added = changes(judged(first, card), judged(msgspec.structs.replace(first, amount_minor=1), card))

    assert added[named("aegis_duplicates_total")] == 2
    assert added[named("aegis_conflicts_total")] == 1
    assert not any(name.startswith(("aegis_amount_total", "aegis_rule_hits_total", "aegis_score")) for name in added)


def test_lists_and_chance_that_decided_are_counted_apart_from_rules() -> None:
    entries = entry("deny"), entry("deny", "country", "FR"), entry("allow", "merchant", "baker")
    denied = Terms(POLICY, Lists().changed([(each.key, each) for each in entries], "1"))
    by_chance = parse_policy('mode = "enforce"\ncontrol_share = 0.5\n', "test")
    txn, other = payment(), payment(minute=1, card_id="card-2")
    added = changes(
        (screen(None, txn, denied, receipt(txn), 100), txn), (screen(None, other, Terms(by_chance), receipt(other), 101), other)
    )

    assert added[named("aegis_list_hits_total", list="deny")] == 1
    assert added[named("aegis_list_hits_total", list="allow")] == 1
    assert named("aegis_list_hits_total", list="watch") not in added
    assert added[named("aegis_controls_total", outcome="review")] == 1
    assert not any(name.startswith("aegis_rule_hits_total") for name in added)


def test_labels_are_counted_and_apart_those_that_correct_and_those_that_habit_cannot_follow() -> None:
    past = [payment(minute=60 * number, transaction_id=f"t{number}", merchant_id="shop") for number in range(RING + 1)]
    card, before, tally = remember(*past), samples(), metrics.LabelTally()
    for offset, (txn, is_fraud) in enumerate([(past[0], True), (past[1], True), (past[1], False), (past[2], False), (past[2], True)]):
        said = label(txn, is_fraud=is_fraud, source=Source.ANALYST, after=timedelta(hours=offset))
        heard = learn_label(card, said, offset)
        tally.add(said, heard)
        card = heard.card
    tally.count()
    added = {name: value - before.get(name, 0.0) for name, value in samples().items() if value != before.get(name, 0.0)}

    of_fraud, of_none = {"source": "analyst", "is_fraud": "true"}, {"source": "analyst", "is_fraud": "false"}
    assert added == {
        named("aegis_labels_total", **of_fraud): 3,
        named("aegis_labels_total", **of_none): 2,
        named("aegis_labels_corrected_total", **of_none): 1,
        named("aegis_labels_corrected_total", **of_fraud): 1,
        named("aegis_labels_ignored_total", reason="not_held"): 1,
    }


def test_a_late_payment_and_a_failed_layer_are_counted() -> None:
    card = remember(payment())
    late = payment(minute=-10)
    screened, _ = judged(late, card)
    failed = msgspec.structs.replace(screened.ruling, degraded=True, score=None, reasons=[Reason("rule_failed", "no luck")])
    added = changes((msgspec.structs.replace(screened, ruling=failed), late), judged(payment(minute=1), card))

    assert added[named("aegis_late_total")] == 1
    assert added[named("aegis_degraded_total", layer="rules")] == 1
    assert added[named("aegis_score_count", layer="rules")] == 1


def test_each_payment_is_timed_from_its_record_and_a_clock_ahead_counts_as_no_time() -> None:
    before = samples()
    metrics.published([1000, 1000, 9000, 9500], sent=1.5, acknowledged=2.0)
    added = {name: value - before.get(name, 0.0) for name, value in samples().items()}

    assert added[named("aegis_decision_seconds_count")] == 4
    assert added[named("aegis_decision_seconds_bucket", le="0.0025")] == 2
    assert added[named("aegis_decision_seconds_sum")] == pytest.approx(2.0)
    assert added[named("aegis_stage_seconds_sum", stage="publish")] == pytest.approx(0.5)


def test_a_worker_and_what_runs_beside_it_export_their_own() -> None:
    worker, beside = metrics.exported().decode(), metrics.exported(beside=True).decode()

    assert "# TYPE aegis_ready gauge" in worker
    assert "aegis_sink_" not in worker
    assert "# TYPE aegis_sink_away gauge" in beside
    assert set(re.findall(r"^(?:# TYPE )?(aegis_[a-z]+)", beside, re.MULTILINE)) <= {"aegis_sink", "aegis_alerts", "aegis_broadcast"}
    assert "process_start_time_seconds" in worker
    assert "process_start_time_seconds" in beside


def test_bins_are_written_as_others_read_them() -> None:
    metrics.DRIFT.set("b", {"amount": [3, 0, 12345678], 'odd "\\\n': [1, 2]})
    try:
        families = {family.name: family for family in text_string_to_metric_families(metrics.exported().decode())}
        assert b"aegis_drift" not in metrics.exported(beside=True)
    finally:
        metrics.DRIFT.clear()

    drift = families["aegis_drift_payments"]
    assert (drift.type, families["aegis_drift_expected_ratio"].samples) == ("counter", [])
    assert [(sample.labels["bundle"], sample.labels["feature"], sample.labels["bin"], sample.value) for sample in drift.samples] == [
        *(("b", "amount", name, number) for name, number in (("0", 3), ("1", 0), ("null", 12345678))),
        *(("b", 'odd "\\\n', name, number) for name, number in (("0", 1), ("null", 2))),
    ]
    assert b"\naegis_drift" not in metrics.exported()


def test_what_has_not_happened_yet_is_exported_as_nothing() -> None:
    metrics.begin(["payments-of-this-test"], ["lists-of-this-test"], ["a-table-of-this-test"])

    found = samples()

    assert found[named("aegis_dead_letters_total", topic="payments-of-this-test", reason="malformed")] == 0
    assert named("aegis_rule_hits_total", rule="card_testing", mode="shadow") in found
    assert named("aegis_degraded_total", layer="rules") in found
    assert found[named("aegis_broadcast_refused_total", topic="lists-of-this-test")] == 0
    assert found[named("aegis_memory_reads_total", table="a-table-of-this-test")] == 0
    assert found[named("aegis_memory_writes_total", table="a-table-of-this-test")] == 0
    assert named("aegis_decision_seconds_count") in found
    assert named("aegis_score_count", layer="rules") in found
    assert named("aegis_list_hits_total", list="deny") in found
    assert named("aegis_controls_total", outcome="allow") in found
