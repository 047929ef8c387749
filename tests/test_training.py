"""What is learnt from which payments, and what is refused."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from msgspec import json

from aegis_app.cli import main
from models.bundle import Cost, Thresholds, load
from models.ensemble import Isotonic, Sigmoid, Stacked, Weighted
from models.inputs import Vector
from models.scoring import Scorer
from models.training import AlertsPerDay, FalsePositives, Plan, Sample, TrainingError, autoencoder, combine, prepare, read_sample, train
from models.training.chance import WRONG, band
from models.training.figures import ranking, reached, stopping, stopping_highest
from models.training.report import importance
from models.training.sample import DAY_MS
from models.training.supervised import search
from models.training.thresholds import Chosen, choose
from models.training.windows import split
from tests.conftest import Trained
from tests.samples import START, sample, write


def at(minute: float) -> datetime:
    return datetime.fromtimestamp(START / 1000 + 60 * minute, UTC)


# The sample


def labels(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_bytes(b"".join(json.encode(line) + b"\n" for line in lines))
    return path


def test_labels_join_and_each_is_known_from_its_own_time(tmp_path: Path) -> None:
    matrix = write(tmp_path / "m.parquet", [{}, {}, {"verdict": "review"}, {"verdict": "block"}])
    said = labels(
        tmp_path / "l.jsonl",
        {"transaction_id": "t0", "is_fraud": True, "labelled_at": at(999), "source": "analyst"},
        {"transaction_id": "t1", "is_fraud": True, "fraud_type": "takeover"},
        {"transaction_id": "elsewhere", "is_fraud": True},
    )

    made = read_sample(matrix, said, label_delay=7, maturity=60)
    np.testing.assert_array_equal(made.is_fraud, [1, 1, 0, np.nan])
    assert made.fraud_type.tolist() == ["", "takeover", "", ""]
    assert made.known_at.tolist() == [START + 999 * 60_000, START + 60_000 + 7 * DAY_MS, START + 120_000 + 60 * DAY_MS, np.inf]
    assert made.alerted.tolist() == [False, False, True, True]
    assert made.partly_labelled


def test_of_several_labels_the_strongest_source_counts_then_the_latest(tmp_path: Path) -> None:
    matrix = write(tmp_path / "m.parquet", [{}, {}])
    said = labels(
        tmp_path / "l.jsonl",
        {"transaction_id": "t0", "is_fraud": True, "source": "chargeback", "labelled_at": at(5)},
        {"transaction_id": "t0", "is_fraud": False, "source": "analyst", "labelled_at": at(9)},
        {"transaction_id": "t1", "is_fraud": False, "source": "analyst", "labelled_at": at(9)},
        {"transaction_id": "t1", "is_fraud": True, "source": "analyst", "labelled_at": at(8)},
    )

    assert read_sample(matrix, said, 7, 60).is_fraud.tolist() == [1, 0]


def test_a_matrix_is_read_in_the_order_of_its_times_with_attributes_as_columns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"timestamp": at(9), "card_id": "c2", "amount": 5, "attributes": {"V2": 0.5}, "is_fraud": True, "control_probability": 0.02},
        {"timestamp": at(1), "amount": None, "attributes": {"V1": -1.0, "V2": 2.0}, "is_fraud": False, "control_probability": None},
    ]
    made = read_sample(write(tmp_path / "m.parquet", rows), None, 7, 60)

    assert made.features == ("amount", "hour", "attributes.V1", "attributes.V2")
    np.testing.assert_array_equal(made.rows, np.array([[np.nan, 12, -1, 2], [5, 12, np.nan, 0.5]], np.float32))
    assert made.is_fraud.tolist() == [0, 1]
    assert made.weights.tolist() == [1, 50]
    assert len(set(made.cards)) == 2
    assert not made.partly_labelled


def test_payments_that_are_to_judge_by_are_left_out(tmp_path: Path) -> None:
    matrix = write(tmp_path / "m.parquet", [{"amount": number} for number in range(4)])
    until = START + 2 * 60_000

    made = read_sample(matrix, None, 7, 60, until)
    assert made.column("amount").tolist() == [0, 1]
    assert made.times.tolist() == [START, START + 60_000]
    assert made.cards.tolist() == [0, 0]
    with pytest.raises(TrainingError, match="no payment before --until"):
        read_sample(matrix, None, 7, 60, START)


def test_without_labels_nothing_is_known(tmp_path: Path) -> None:
    made = read_sample(write(tmp_path / "m.parquet", [{}, {}]), None, 7, 60)

    assert not made.has_labels


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"transaction_id": "t0"}', "line 1: Object missing required field `is_fraud`"),
        (b'{"transaction_id": "t0", "is_fraud": "yes"}', "line 1: Expected `bool`"),
        (b'{"transaction_id": "x", "is_fraud": true}', "none of its 1 labels is of a payment in the matrix"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "l.jsonl").write_bytes(line)

    with pytest.raises(TrainingError, match=message):
        read_sample(write(tmp_path / "m.parquet", [{}]), tmp_path / "l.jsonl", 7, 60)


def test_what_is_no_matrix_is_refused(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    parquet.write_table(table({"amount": [1]}), tmp_path / "m.parquet")
    with pytest.raises(TrainingError, match="no column transaction_id, card_id, timestamp, verdict; make the matrix with `aegis features`"):
        read_sample(tmp_path / "m.parquet", None, 7, 60)
    (tmp_path / "payments.jsonl").write_text("{}\n")
    with pytest.raises(
        TrainingError, match=r"is no matrix; make one of payments first: aegis features \S+payments\.jsonl --out matrix\.parquet$"
    ):
        read_sample(tmp_path / "payments.jsonl", None, 7, 60)
    (tmp_path / "m.parquet").write_text("PAR1")
    with pytest.raises(TrainingError, match=r"^\S+m\.parquet: "):
        read_sample(tmp_path / "m.parquet", None, 7, 60)


# Windows


def test_windows_follow_each_other_a_gap_apart_and_hold_what_was_known_in_time() -> None:
    made = sample(5000)
    late = np.random.default_rng(1).random(5000) < 0.1
    made = replace(made, known_at=np.where(late, made.times + 20.0 * DAY_MS, made.known_at))
    spans = list(split(made, 7.0).values())

    assert [span.name for span in spans] == ["fit", "combine", "choose", "report"]
    for span, later in pairwise(spans):
        assert later.start == span.used_at == span.end + 7 * DAY_MS
        assert made.times[span.rows].max() < span.end
        assert made.times[later.rows].min() >= later.start
        known = span.known(made)
        assert (made.known_at[known] <= later.start).all()
        assert 0 < (~late[known]).sum() < span.rows.stop - span.rows.start
    assert len(spans[-1].known(made)) == spans[-1].rows.stop - spans[-1].rows.start


def test_days_or_payments_that_are_too_few_are_refused() -> None:
    too_few = r"20\.0 days of payments are too few for 4 windows with 7 days between them \(--label-delay\): at least 22 days are needed"
    with pytest.raises(TrainingError, match=too_few):
        split(sample(5000, days=20), 7.0)
    with pytest.raises(TrainingError, match=r"in the window to fit, .*: 100 on \d+\.\d days are too few for 4 windows"):
        split(sample(100), 7.0)


def test_payments_without_labels_teach_only_once_they_are_old() -> None:
    """So that frauds, which are reported, do not teach where genuine payments, which are not, do not yet."""
    too_few = r"with 60 days between them \(--maturity, because some .*\): at least 181 days are needed; labels of every payment"
    with pytest.raises(TrainingError, match=too_few):
        train(sample(partly_labelled=True), Plan(), Path("never"))


# Refusals


def without(made: Sample, kind: int) -> Sample:
    return replace(made, is_fraud=np.where(made.is_fraud == kind, np.nan, made.is_fraud))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (replace(sample(), is_fraud=np.full(8000, np.nan)), "no labels: give --labels FILE, or --supervised none"),
        (without(sample(), 1), "the supervised layer takes 10 frauds in the window to fit, and 0 were known"),
        (without(sample(), 0), "the supervised layer takes 10 genuine payments in the window to fit, and 0 were known"),
        (sample(fraud_share=0.005), r"fitted weights takes 10 frauds in the window to combine, and \d were known"),
        (replace(sample(), rows=np.ones((8000, 14), np.float32)), "no feature varies"),
    ],
    ids=["no labels", "no frauds", "no genuine", "few frauds", "constant"],
)
def test_payments_that_cannot_teach_are_refused(made: Sample, message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        train(made, Plan(), tmp_path / "never")

    assert list(tmp_path.iterdir()) == []


# Inputs


def test_features_that_say_nothing_are_left_out_and_named(trained: Trained) -> None:
    assert trained.manifest.left_out == {"age_days": "tells the date: memory begins with the data", "gap_z": "never known"}
    assert "gap_z" not in trained.manifest.features

    made = sample(500)
    rows = made.rows.copy()
    rows[:, 0] = 3
    assert prepare.useful(made.features, rows)[1] == {"amount": "always 3"} | trained.manifest.left_out


def test_codes_are_inputs_by_value_and_rare_ones_none() -> None:
    made = sample(2000)
    rows = made.rows.copy()
    rows[:2, made.features.index("channel")] = 7
    inputs = prepare.plain(made.features, rows, ["amount", "channel"])

    assert inputs.names == ("amount", "channel=1", "channel=2", "channel=4")


def test_long_tails_are_seen_and_scaled() -> None:
    made = sample(5000)
    inputs = prepare.scaled(made.features, made.rows, ["amount", "merchant_share", "hour", "kmh"], {})
    table = inputs.of(made.features)(made.rows)

    assert inputs.long_tailed == (True, False, False, True)
    assert np.abs(np.median(table, axis=0)).max() < 0.05
    assert np.quantile(table, 0.95, axis=0) - np.quantile(table, 0.05, axis=0) == pytest.approx([2, 2, 2, 0.9], rel=0.5)


def test_only_the_side_on_which_frauds_lie_is_unusual() -> None:
    names = ("amount", "hour_share", "attributes.V1")
    rows = np.random.default_rng(1).normal(size=(1000, 3)).astype(np.float32)
    table = prepare.scaled(names, rows, names).of(names)(rows)

    assert table.min(axis=0).tolist() == [0.0, pytest.approx(-2, abs=0.5), pytest.approx(-2, abs=0.5)]
    assert table.max(axis=0).tolist() == [pytest.approx(2, abs=0.5), 0.0, pytest.approx(2, abs=0.5)]
    assert (table == 0).mean(axis=0) == pytest.approx([0.5, 0.5, 0.0], abs=0.01)


def test_an_autoencoder_does_not_learn_to_repeat_the_frauds_among_its_rows() -> None:
    chance = np.random.default_rng(1)
    rows = chance.normal(size=(5000, 6)).astype(np.float32) * 0.5
    rows[::200, :2] = 8.0
    network = autoencoder.fit(rows, 20, 1, lambda done, of: None)
    errors = autoencoder.mean_squared_error(network, rows)

    assert errors[::200].min() > 0.5 * (rows[::200] ** 2).mean(axis=1).min()
    assert np.median(errors) < 0.5 * np.median((rows**2).mean(axis=1))


def test_an_autoencoder_does_not_repeat_what_lies_beyond_all_that_it_learnt() -> None:
    rows = np.repeat(np.random.default_rng(1).normal(size=(5000, 1)), 6, axis=1).astype(np.float32)
    network = autoencoder.fit(rows, 20, 1, lambda done, of: None)
    near, beyond = autoencoder.mean_squared_error(network, np.array([[1.0] * 6, [10.0] * 6], np.float32))

    assert near < 0.05
    assert beyond > 25


def test_a_cold_start_has_no_input_that_labels_tell() -> None:
    chosen = ["amount", "merchant_fraud_share_last_3", "days_since_card_fraud", "attributes.V1", "kind"]

    assert prepare.unusual(chosen, cold_start=True) == ("amount", "attributes.V1")
    assert prepare.unusual(chosen, cold_start=False) == ("amount", "merchant_fraud_share_last_3", "attributes.V1")


# The ensemble


def test_every_set_of_layers_that_may_stand_has_a_combination(trained: Trained) -> None:
    kinds = {key: type(each) for key, each in trained.manifest.combinations.items()}

    assert len(kinds) == 7
    assert set(kinds.values()) == {Stacked}
    for each in trained.manifest.combinations.values():
        assert isinstance(each, Stacked)
        assert min(each.weights.values()) > 0


def test_a_layer_that_counts_against_fraud_is_taken_out() -> None:
    chance = np.random.default_rng(1)
    is_fraud = (chance.random(3000) < 0.1).astype(float)
    evidence = {"isolation_forest": -2 * is_fraud + chance.normal(size=3000), "supervised": 3 * is_fraud + chance.normal(size=3000)}
    made = combine.stacked(evidence, is_fraud, np.ones(3000))

    both = made["isolation_forest+supervised"]
    assert isinstance(both, Stacked)
    assert set(both.weights) == {"supervised"}
    assert made["isolation_forest"] == Weighted({"isolation_forest": 1.0})


def test_stated_weights_are_shared_out_among_the_layers_that_stand() -> None:
    names = ("isolation_forest", "autoencoder", "supervised")
    made = combine.weighted(names, combine.shares(names, 0.6, 0.4))

    assert made["isolation_forest+autoencoder+supervised"].weights == {"isolation_forest": 0.2, "autoencoder": 0.2, "supervised": 0.6}
    assert made["autoencoder+supervised"].weights == pytest.approx({"autoencoder": 0.25, "supervised": 0.75})
    assert made["isolation_forest"].weights == {"isolation_forest": 1.0}


@pytest.mark.parametrize(("payments", "kind"), [(20_000, Sigmoid), (200_000, Isotonic)])
def test_probabilities_are_those_of_frauds_by_two_numbers_or_by_a_curve(payments: int, kind: type) -> None:
    chance = np.random.default_rng(1)
    probability = chance.beta(0.2, 8, payments)
    is_fraud = (chance.random(payments) < probability).astype(float)
    score = probability**0.5
    made = combine.calibrated(score, is_fraud, np.ones(payments))
    found = made.probability(score)

    assert isinstance(made, kind)
    assert found.mean() == pytest.approx(is_fraud.mean(), rel=0.01)
    high = score > 0.4
    assert found[high].mean() == pytest.approx(is_fraud[high].mean(), rel=0.15)


# Thresholds


def payments_to_choose_from(number: int = 4000) -> Chosen:
    chance = np.random.default_rng(1)
    is_fraud = (chance.random(number) < 0.05).astype(float)
    score = np.clip(chance.normal(0.3 + 0.5 * is_fraud, 0.1), 0, 1)
    is_fraud[chance.random(number) < 0.2] = np.nan
    return Chosen(score, is_fraud, chance.random(number) < 0.01, chance.lognormal(8, 1, number), days=10.0)


def test_alerts_are_spent_by_rules_and_models_together() -> None:
    payments = payments_to_choose_from()
    found = choose(AlertsPerDay(20), payments)

    assert (payments.alerted | (payments.score >= found.review)).sum() == 200
    assert found.alerts_per_day == 20
    with pytest.raises(TrainingError, match=r"rules alone send \d alerts a day, so none of 1 is left"):
        choose(AlertsPerDay(1), payments)


def test_false_positives_are_those_of_genuine_payments() -> None:
    payments = payments_to_choose_from()
    found = choose(FalsePositives(0.01), payments)
    genuine = payments.score[payments.is_fraud == 0]

    assert (genuine >= found.review).sum() == int(0.01 * len(genuine))


def test_blocked_is_what_is_fraud_nine_times_of_ten() -> None:
    payments = payments_to_choose_from()
    block = choose(FalsePositives(0.01), payments).block
    assert block is not None

    known = np.isfinite(payments.is_fraud)
    assert payments.is_fraud[known & (payments.score >= block)].mean() >= 0.9
    next_lower = payments.score[known & (payments.score < block)].max()
    assert payments.is_fraud[known & (payments.score >= next_lower)].mean() < 0.9


def test_the_cheapest_thresholds_cost_least() -> None:
    payments, cost = payments_to_choose_from(600), Cost(recovery=0.8, block_minor=800, block_share=0.1, review_minor=400)
    found = choose(cost, payments)

    known = np.isfinite(payments.is_fraud)
    score, fraud, amount = payments.score[known], payments.is_fraud[known] == 1, payments.amount[known]

    def lost(threshold: float, of_each: Vector) -> float:
        stopped = score >= threshold
        return float((amount * 0.2)[fraud & ~stopped].sum() + of_each[stopped].sum())

    reviews, blocks = np.full(len(score), 400.0), np.where(fraud, 0.0, 800 + 0.1 * amount)
    assert lost(found.review, reviews) == pytest.approx(min(lost(each, reviews) for each in score))
    assert found.block is not None
    assert lost(found.block, blocks) == pytest.approx(min(lost(each, blocks) for each in score if each >= found.review))


# Figures


def test_figures_are_those_counted_by_hand() -> None:
    is_fraud = np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    figures = ranking(score, is_fraud)

    assert figures["roc_auc"] == pytest.approx(15 / 16)
    assert figures["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["recall_at_fpr_0.01"] == 0.5
    stopped = stopping(score >= 0.6, is_fraud)
    assert (stopped["precision"], stopped["recall"], stopped["false_positive_rate"]) == (0.5, 1.0, 0.25)
    assert ranking(score, np.zeros(10)) == {}

    numbers = reached(score, Thresholds(by="test", review=0.6, block=2.0, alerts_per_day=1))
    assert numbers == {"review": 4, "block": 0}
    highest = stopping_highest(score - 9, is_fraud, numbers)
    assert {name: highest[f"review_{name}"] for name in stopped} == stopped
    assert (highest["block_true_positives"], highest["block_precision"], highest["block_false_negatives"]) == (0, None, 2)


# Whole trainings


def test_the_report_window_is_measured_by_layer(trained: Trained) -> None:
    figures = trained.manifest.metrics

    assert set(figures) == {
        "isolation_forest",
        "autoencoder",
        "supervised",
        "unsupervised",
        "unsupervised_label_free",
        "svm",
        "without_isolation_forest",
        "without_autoencoder",
        "without_supervised",
        "rules",
        "rules_or_models",
        "ensemble",
    }
    assert figures["svm"]["roc_auc"] == pytest.approx(0.85, abs=0.1)
    assert (figures["without_supervised"]["roc_auc"] or 1) < (figures["ensemble"]["roc_auc"] or 0)
    assert (figures["rules_or_models"]["recall"] or 0) >= max(figures["rules"]["recall"] or 0, figures["ensemble"]["review_recall"] or 0)
    assert figures["ensemble"]["roc_auc"] == pytest.approx(0.87, abs=0.08)
    fraud, genuine = (figures["autoencoder"][f"mean_squared_error_{kind}"] for kind in ("fraud", "genuine"))
    assert fraud is not None
    assert genuine is not None
    assert fraud > 1.5 * genuine
    assert trained.manifest.thresholds.alerts_per_day <= 12


def test_the_report_needs_nothing_else_and_says_what_the_manifest_says(trained: Trained) -> None:
    page = (trained.path / "report.html").read_text()
    card = (trained.path / "model_card.md").read_text()

    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', page) == []
    assert page.count("<svg") == 7
    assert "mathdefault" not in page
    precision = trained.manifest.metrics["ensemble"]["average_precision"]
    assert f"{precision:.3f}" in page
    assert f"{precision:.3f}" in card
    assert re.search(rf"<td>{precision:.3f} \(0\.\d+ to 0\.\d+\)</td>", page)
    without = trained.manifest.metrics["without_supervised"]["average_precision"]
    assert re.search(rf">all without supervised</td><td>{without:.3f}</td><td>[\d.]+%</td><td>-0\.\d+ \(-0\.\d+ to ", page)
    assert f"in spreads: {trained.manifest.metrics['autoencoder']['mean_squared_error_fraud']:.3f}\nof frauds" in page
    assert "rules and the autoencoder alone" not in page + card
    assert all(f"{layer.name} alone, as many as reviewed</td><td>" in page for layer in trained.manifest.layers)
    assert re.search(r">up to [\d,.]+ EUR<", page)
    assert ">online</td>" in page
    assert re.search(r">frauds: quiet</td><td></td><td>\d+</td><td>[\d.]+%</td><td></td><td></td>", page)
    assert ">frauds: spree<" in page
    assert all(f"| {window.name} |" in card for window in trained.manifest.windows)
    assert "left out: gap_z, never known" in page


def test_a_band_holds_the_curve_and_is_wider_where_frauds_come_in_runs_on_a_card() -> None:
    random = np.random.default_rng(1)
    is_fraud = (random.random(4000) < 0.05).astype(float)
    score = random.normal(is_fraud * 2)
    single, runs = np.arange(4000), np.arange(4000) // 40
    is_fraud[np.isin(runs, runs[is_fraud == 1][:3])] = 1

    alone, together = (band(score, is_fraud, cards, 1) for cards in (single, runs))
    for name in ("found", "precision"):
        low, high = getattr(alone, name)
        assert (low <= high).all()
    order = np.argsort(-score)
    found = np.cumsum(is_fraud[order]) / is_fraud.sum()
    wrong = np.cumsum(1 - is_fraud[order]) / (1 - is_fraud).sum()
    curve = np.interp(WRONG, wrong, found)
    assert (alone.found[0] - 1e-9 <= curve).all()
    assert (curve <= alone.found[1] + 1e-9).all()
    middle = slice(40, 100)
    assert np.ptp(together.found, axis=0)[middle].mean() > 1.3 * np.ptp(alone.found, axis=0)[middle].mean()


def test_costs_are_drawn_where_they_are_stated(tmp_path: Path) -> None:
    train(sample(2500), Plan(trees=10, epochs=2, weights=(0.7, 0.3), target=Cost(recovery=0.1)), tmp_path / "b")

    assert "Saved against payments stopped a day" in (tmp_path / "b" / "report.html").read_text()


def test_importance_is_added_up_by_feature() -> None:
    found = importance(np.array([[1.0, -2.0, 0.5], [-1.0, -2.0, 0.5]]), ("amount", "channel", "channel"))

    assert found == {"amount": 1.0, "channel": 1.5}


def test_equal_seeds_and_payments_make_equal_models_and_another_seed_others(tmp_path: Path) -> None:
    made, plan = sample(2500), Plan(trees=10, epochs=2, weights=(0.7, 0.3), supervised="random-forest")
    first, second = (train(made, plan, tmp_path / name) for name in ("first", "second"))
    other = train(made, Plan(trees=10, epochs=2, supervised="none", seed=2), tmp_path / "other")

    assert first.version == second.version
    one, another = (load(tmp_path / name) for name in ("first", "other"))
    assert [one.read(layer.file) == another.read(layer.file) for layer in other.layers] == [False, False]


def test_without_labels_two_layers_serve(tmp_path: Path) -> None:
    made = replace(sample(2500), is_fraud=np.full(2500, np.nan))
    train(made, Plan(supervised="none", trees=10, epochs=8, target=AlertsPerDay(10)), tmp_path / "cold")
    bundle = load(tmp_path / "cold")
    scores = Scorer(bundle).score(made.rows[:, [made.features.index(name) for name in bundle.manifest.features]])

    assert list(scores.layers) == ["isolation_forest", "autoencoder"]
    assert scores.score.tolist() == np.maximum(*scores.layers.values()).tolist()
    assert np.isnan(scores.probability).all()
    assert bundle.manifest.metrics == {}
    assert "Nothing is measured" in bundle.read("report.html").decode()
    fraud = sample(2500).is_fraud == 1
    assert np.median(scores.score[fraud]) > np.quantile(scores.score[~fraud], 0.75)


def test_a_search_finds_settings_and_its_folds_keep_the_gap() -> None:
    made = sample(1000, fraud_share=0.1)
    told: list[tuple[int, int]] = []
    found = search(made.rows, made.is_fraud, made.weights, made.times, 7 * DAY_MS, 2, 1, lambda done, of: told.append((done, of)))

    assert told == [(1, 2), (2, 2)]
    assert {"max_depth", "rounds", "learning_rate"} < set(found)
    with pytest.raises(TrainingError, match="--search finds no stretch of time"):
        search(made.rows, made.is_fraud, made.weights, made.times, 70 * DAY_MS, 2, 1, lambda done, of: None)


# Commands


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_from_payments_to_a_bundle_by_commands(tmp_path: Path) -> None:
    """Simulated, described, trained, listed, shown, verified; and a changed file is found."""
    payments, truth, matrix, bundle = (str(tmp_path / name) for name in ("p.jsonl", "t.jsonl", "m.parquet", "first"))
    simulated = run("simulate", "--cards", "60", "--days", "50", "--fraud-rate", "0.03", "--out", payments, "--truth", truth)
    assert simulated.exit_code == 0, simulated.output
    assert run("features", payments, "--out", matrix).exit_code == 0
    result = run("train", matrix, "--labels", truth, "--alerts-per-day", "40", "--trees", "20", "--out", bundle)

    assert result.exit_code == 0, result.output
    assert "boosted trees" in result.stderr
    assert "at most 40 alerts a day" in result.stdout
    listed = run("bundles", "list", str(tmp_path))
    assert bundle in listed.output
    shown = run("bundles", "show", bundle, "--json")
    assert json.decode(shown.output)["base_currency"] == "EUR"
    assert "is whole, and scores" in run("bundles", "verify", bundle).output
    (tmp_path / "first" / "supervised.onnx").write_bytes(b"")
    broken = run("bundles", "verify", bundle)
    assert broken.exit_code == 1
    assert "is not what was written" in broken.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alerts-per-day", "3", "--fpr", "0.1"], "chosen by one of"),
        (["--cost", "1,2"], "four numbers"),
        (["--cost", "2,1,1,1"], "share from 0 to 1"),
        (["--ensemble", "weighted:0,0"], "stacking, or two weights"),
        (["--ensemble", "best"], "stacking, or two weights"),
        (["--format", "aegis"], "JSON lines do not say what was fraud, as tables do (--label-delay); give --labels"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(tmp_path: Path, options: Sequence[str], message: str) -> None:
    source = tmp_path / "payments.jsonl"
    source.touch()
    result = run("train", str(source), "--out", str(tmp_path / "b"), *options)

    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_what_training_refuses_is_one_line(tmp_path: Path) -> None:
    matrix = write(tmp_path / "m.parquet", [{}] * 100)
    result = run("train", str(matrix), "--out", str(tmp_path / "b"))

    assert result.exit_code == 1
    assert "aegis: 0.1 days of payments are too few" in result.output
    there = run("train", str(matrix), "--out", str(tmp_path))
    assert "is there already" in there.output


def test_no_bundles_are_said_to_be_none(tmp_path: Path) -> None:
    assert "no bundles in" in run("bundles", "list", str(tmp_path)).output
