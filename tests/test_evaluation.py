"""Figures by hand, against scikit-learn, and against what the Fraud-Detection-Handbook published."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from models.evaluation import EvaluationError, Ranking, Test, Week, average_precision, consecutive, figures, resample, roc_auc

DATA = Path(__file__).parents[2] / "shared/data/handbook_2018-04-01_2018-08-31.parquet"


def judged_by(is_fraud: list[int], **other: list[float]) -> Test:
    """Payments of equal amount, each of a card of its own, on one day."""
    number = len(is_fraud)
    return Test(is_fraud, **({"amount": [1.0] * number, "card": list(range(number)), "day": [0] * number} | other))


def test_figures_by_hand() -> None:
    # Falling: fraud, genuine, fraud and genuine in one, genuine.
    test = judged_by([1, 0, 1, 0, 0], amount=[30.0, 9.0, 10.0, 9.0, 9.0])
    found = figures(test, [0.9, 0.8, 0.5, 0.5, 0.1])

    # Pairs of fraud and genuine: the first fraud above all 3; the second above 1, equal to 1, below 1.
    assert found["roc_auc"] == pytest.approx((3 + 1 + 0.5) / 6)
    # At the first alert recall rises by a half with precision 1; with the tie by a half with precision 2 of 4.
    assert found["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    # One of three false positives is far above 1 %: only the first alert comes without any.
    assert found["recall_at_fpr_0.01"] == 0.5
    assert found["precision_at_fpr_0.01"] == 1.0
    assert found["value_weighted_recall_at_fpr_0.01"] == 30 / 40


def test_one_false_positive_in_a_hundred_is_within_one_percent_and_two_are_not() -> None:
    is_fraud = [0, 1, 0, 1] + [0] * 98
    scores = [1.0, 0.9, 0.8, 0.7] + [0.0] * 98
    found = figures(judged_by(is_fraud), scores)

    assert found["recall_at_fpr_0.01"] == 0.5
    assert found["precision_at_fpr_0.01"] == 0.5
    assert found["recall_at_fpr_0.005"] == 0.0
    assert np.isnan(found["precision_at_fpr_0.001"])


def test_payments_of_equal_score_are_flagged_together_or_not_at_all() -> None:
    found = figures(judged_by([1, 0, 1, 0]), [1, 1, 0, 0])

    assert found["recall_at_fpr_0.01"] == 0.0
    assert found["roc_auc"] == 0.5


def test_card_precision_counts_cards_by_their_highest_score_and_those_found_leave_the_list() -> None:
    # First day 150 cards, each with two payments. Cards 0 to 9 had a fraud, on the payment with the lower score; so had card 140.
    first = [(card, 0, card in (*range(10), 140) and low, 1 - card / 1000 - low / 2) for card in range(150) for low in (0, 1)]
    # Second day: cards 0 to 9 defrauded again, and in front again; card 140 now is 105th, and in the list once they are gone.
    second = [(card, 1, card in (*range(10), 140), 1 - card / 1000) for card in (*range(104), 140)]
    card, day, is_fraud, scores = zip(*first, *second, strict=True)
    test = Test(is_fraud, [1.0] * len(card), card, day)

    assert figures(test, scores)["card_precision_100"] == pytest.approx((10 / 100 + 1 / 100) / 2)


def test_card_precision_divides_by_a_hundred_where_there_are_fewer_cards() -> None:
    assert figures(judged_by([1, 0, 0]), [1, 0, 0])["card_precision_100"] == 1 / 100


def test_a_card_drawn_twice_is_two_cards() -> None:
    test = judged_by([0] * 99 + [1, 1])
    ranking = Ranking(test, np.arange(101, 0, -1))
    copies = np.ones(101)
    copies[99], copies[0] = 2, 0

    assert ranking.figures(copies[test.card], copies)["card_precision_100"] == 2 / 100


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=60))
def test_curves_are_those_of_scikit_learn(rows: list[tuple[bool, int, int]]) -> None:
    is_fraud, scores, weight = map(np.array, zip(*rows, strict=True))
    if not weight[is_fraud].sum() or not weight[~is_fraud].sum():
        return

    assert roc_auc(is_fraud, scores, weight) == pytest.approx(metrics.roc_auc_score(is_fraud, scores, sample_weight=weight))
    assert average_precision(is_fraud, scores, weight) == pytest.approx(
        metrics.average_precision_score(is_fraud, scores, sample_weight=weight)
    )


def test_recall_at_a_false_positive_rate_is_that_of_scikit_learns_curve() -> None:
    random = np.random.default_rng(1)
    is_fraud = random.random(20_000) < 0.02
    scores = np.round(random.normal(size=20_000) + 2 * is_fraud, 2)
    found = figures(Test(is_fraud, np.ones(20_000), np.arange(20_000), np.zeros(20_000)), scores)

    false, true, _ = metrics.roc_curve(is_fraud, scores, drop_intermediate=False)
    for rate in (0.001, 0.005, 0.01):
        assert found[f"recall_at_fpr_{rate}"] == pytest.approx(true[false <= rate].max())


def test_a_weight_is_so_many_equal_rows() -> None:
    assert average_precision([1, 0, 1], [3, 2, 1], [1, 3, 2]) == pytest.approx(average_precision([1, 0, 0, 0, 1, 1], [3, 2, 2, 2, 1, 1]))


@pytest.mark.parametrize(
    ("is_fraud", "scores", "message"),
    [
        ([], [], "no payment"),
        ([0, 0], [1, 2], "all 2 payments to judge by are genuine"),
        ([1], [1], "all 1 payments to judge by are fraud"),
        ([1, 0], [1], "1 scores for 2 payments"),
        ([1, 0], [float("nan"), 0], "1 payments have no score"),
    ],
)
def test_what_cannot_be_judged_is_said(is_fraud: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        figures(judged_by(is_fraud), scores)


def made_up(seed: int, number: int = 4000) -> tuple[Test, dict[str, Any]]:
    random = np.random.default_rng(seed)
    card = random.integers(0, 400, number)
    is_fraud = random.random(number) < 0.05
    good = random.normal(size=number) + 2 * is_fraud
    test = Test(is_fraud, random.random(number), card, np.sort(random.integers(0, 7, number)))
    return test, {"good": good, "worse": good + random.normal(size=number), "same": good * 2}


def test_intervals_hold_the_figure_and_a_seed_gives_them_again() -> None:
    first, again, other = (resample([made_up(1)], number=200, seed=seed) for seed in (3, 3, 4))
    low, high = first.interval("good", "roc_auc")

    assert low < first.point["good"]["roc_auc"] < high
    assert again.interval("good", "roc_auc") == (low, high) != other.interval("good", "roc_auc")


def test_the_width_of_an_interval_is_that_of_theory() -> None:
    test, layers = made_up(1)
    alone = Test(test.is_fraud, test.amount, np.arange(len(test.card)), test.day)
    low, high = resample([(alone, layers)], number=600).interval("good", "roc_auc")

    fraud, genuine = layers["good"][test.is_fraud], layers["good"][~test.is_fraud]
    above = fraud[:, None] > genuine  # DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44(3)
    variance = above.mean(axis=1).var() / len(fraud) + above.mean(axis=0).var() / len(genuine)
    assert (high - low) / (2 * 1.96) == pytest.approx(variance**0.5, rel=0.15)


def test_a_paired_difference_is_narrower_than_what_it_is_between() -> None:
    found = resample([made_up(1), made_up(2)], number=200)
    above, (low, high) = found.difference("good", "worse", "average_precision")
    single = found.interval("good", "average_precision")

    assert above == pytest.approx(found.point["good"]["average_precision"] - found.point["worse"]["average_precision"])
    assert 0 < low < above < high
    assert high - low < single[1] - single[0]
    assert found.difference("good", "same", "average_precision") == (0, (0, 0))


def test_figures_of_several_weeks_are_their_means() -> None:
    weeks = [made_up(1), made_up(2)]
    found = resample(weeks, number=2)

    single = [figures(test, layers["good"])["roc_auc"] for test, layers in weeks]
    assert found.point["good"]["roc_auc"] == pytest.approx(sum(single) / 2)
    assert [week["good"]["roc_auc"] for week in found.weeks] == single


def test_cards_known_to_be_compromised_are_not_tested() -> None:
    # Training on days 0 to 9, delay of 7, test from day 17. Each card pays on each day; a fraud makes it known 8 days later.
    day, card = (each.ravel() for each in np.meshgrid(np.arange(30), np.arange(6), indexing="ij"))
    frauds = {0: 2, 1: 3, 2: 9, 3: 10, 4: 11, 5: 16}  # by card, the day
    is_fraud = np.array([frauds[int(one)] == today for today, one in zip(day, card, strict=True)])
    week = Week(train_start=0, train_days=10, test_start=17)

    rows = week.test_rows(day, card, is_fraud)

    tested = {one: [int(today) for today in day[rows & (card == one)]] for one in range(6)}
    assert tested == {
        0: list(range(17, 24)),  # known, but not of the last 7 days of training
        1: [],
        2: [],
        3: [17],  # a fraud of day 10 is known on day 17, and counts from the next day
        4: [17, 18],
        5: list(range(17, 24)),
    }
    assert set(day[week.train_rows(day)]) == set(range(10))


def test_weeks_follow_one_another_with_their_training() -> None:
    assert list(consecutive(100, 60, 167, 2)) == [Week(100, 60, 167), Week(107, 60, 174)]


@pytest.mark.parametrize(("days", "test_start"), [(0, 10), (5, 4)])
def test_a_week_that_cannot_be_is_refused(days: int, test_start: int) -> None:
    with pytest.raises(EvaluationError):
        Week(0, days, test_start)


@pytest.mark.skipif(not DATA.exists(), reason=f"the handbook's data is not here: {DATA}")
def test_the_published_models_come_out_as_published() -> None:
    from bench.published import features, judged, models, read, scores

    columns = read(DATA)
    start = (date(2018, 8, 8) - date(1970, 1, 1)).days
    week = Week(start - 14, 7, start)
    test, _ = judged(columns, week)
    described = features(columns)

    assert (len(test.is_fraud), int(test.is_fraud.sum())) == (58_264, 385)
    published = {"random forest": (0.867, 0.658, 0.287), "logistic regression": (0.871, 0.606, 0.291)}
    for name, expected in published.items():
        found = figures(test, scores(columns, described, week, models()[name]))
        assert [found[key] for key in ("roc_auc", "average_precision", "card_precision_100")] == pytest.approx(expected, abs=0.003)


def test_frauds_of_a_terminal_are_told_apart_by_whether_its_first_could_be_known() -> None:
    from bench.published import DAY, Columns
    from bench.scenarios import kinds

    day, scenario = np.array([0, 3, 7, 8, 40, 41]), np.array([2, 2, 2, 1, 2, 0])
    same = np.full(6, 5)
    columns = Columns(same, (day * DAY).astype(np.int64), same, same, np.ones(6), scenario > 0)
    found = list(kinds(columns, scenario).values())

    assert [np.flatnonzero(each).tolist() for each in found] == [[3], [2], [0, 1, 4], []]
