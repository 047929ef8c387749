"""A bundle serves what the libraries that trained it say, and says so where it cannot."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from onnx import load_from_string
from sklearn.ensemble import IsolationForest, RandomForestClassifier

from models.bundle import Bundle, BundleError, load
from models.ensemble import Highest, Isotonic, Sigmoid, Stacked, Weighted, share, sigmoid
from models.inputs import Plain, Scaled, Vector
from models.scoring import Scorer
from models.training import combine, trees
from tests.conftest import Trained
from tests.samples import sample

EVERY = 10_000


@pytest.fixture(scope="module")
def bundle(trained: Trained) -> Bundle:
    return load(trained.path)


@pytest.fixture(scope="module")
def rows(bundle: Bundle) -> Vector:
    """Payments that the models have not seen, in the columns that the bundle asks for."""
    fresh = sample(EVERY, seed=2)
    return fresh.rows[:, [fresh.features.index(name) for name in bundle.manifest.features]]


def originals(bundle: Bundle, rows: Vector) -> dict[str, Vector]:
    """What scikit-learn, Keras and XGBoost themselves say of these rows."""
    import keras

    given = {layer.name: layer.inputs.of(bundle.manifest.features)(rows) for layer in bundle.manifest.layers}
    forest = joblib.load(BytesIO(bundle.read("isolation_forest.joblib")))
    network = keras.saving.load_model(bundle.path / "autoencoder.keras")
    booster = xgboost.Booster(model_file=str(bundle.path / "supervised.ubj"))
    return {
        "isolation_forest": -forest.score_samples(given["isolation_forest"]),
        "autoencoder": np.mean((network.predict(given["autoencoder"], verbose=0) - given["autoencoder"]) ** 2, axis=1),
        "supervised": booster.inplace_predict(given["supervised"], validate_features=False),
    }


def test_every_served_score_is_the_original_librarys(bundle: Bundle, rows: Vector) -> None:
    scorer = Scorer(bundle)
    for name, original in originals(bundle, rows).items():
        raw = scorer.raw(name, rows)
        served = sigmoid(raw) if name == "supervised" else raw

        assert len(served) == EVERY
        assert np.abs(served - original).max() <= 1e-5, name


def test_a_payment_scores_alike_alone_and_in_any_chunk(bundle: Bundle, rows: Vector) -> None:
    scorer = Scorer(bundle)
    whole = scorer.score(rows[:200])
    alone = [scorer.score(row[None]) for row in rows[:200]]

    assert whole.score.tolist() == [each.score.item() for each in alone]
    assert whole.probability.tolist() == [each.probability.item() for each in alone]
    for layer in whole.layers:
        for chunk in (1, 2, 3, 33):
            parts = [scorer.raw(layer, rows[start : start + chunk]) for start in range(0, 198, chunk)]
            assert np.concatenate(parts).tolist() == scorer.raw(layer, rows[:198]).tolist()


def test_scores_rank_frauds_and_probabilities_add_up_to_their_number(trained: Trained, bundle: Bundle) -> None:
    fresh = sample(EVERY, seed=3)
    scores = Scorer(bundle).score(fresh.rows[:, [fresh.features.index(name) for name in bundle.manifest.features]])
    frauds = fresh.is_fraud == 1

    assert scores.failures == {}
    assert np.median(scores.score[frauds]) > np.quantile(scores.score[~frauds], 0.9)
    assert scores.probability.sum() == pytest.approx(frauds.sum(), rel=0.25)
    for layer in scores.layers.values():
        assert ((layer >= 0) & (layer <= 1)).all()
    assert len(np.unique(scores.score)) == EVERY, "two payments of different features are told apart"


def test_what_is_not_known_is_scored_too(bundle: Bundle) -> None:
    nothing = np.full((3, len(bundle.manifest.features)), np.nan, np.float32)
    nothing[1] = np.inf
    nothing[2] = -1e30
    scores = Scorer(bundle).score(nothing)

    assert scores.failures == {}
    assert np.isfinite(scores.score).all()


def test_a_layer_that_fails_is_told_and_the_others_stand(trained: Trained, bundle: Bundle, rows: Vector, tmp_path: Path) -> None:
    """The graph is one of other inputs: it loads, and refuses every row."""
    other = trees.isolation_forest(IsolationForest(n_estimators=3, random_state=1).fit(np.zeros((9, 2), np.float32)))
    broken = Scorer(load(trained.changed(tmp_path / "broken", {"isolation_forest.onnx": other.SerializeToString()})))
    scores, whole = broken.score(rows[:50]), Scorer(bundle).score(rows[:50])

    assert list(scores.failures) == ["isolation_forest"]
    assert np.isnan(scores.layers["isolation_forest"]).all()
    assert scores.layers["autoencoder"].tolist() == whole.layers["autoencoder"].tolist()
    evidence = {name: sigmoid_inverse(whole.layers[name], name) for name in ("autoencoder", "supervised")}
    expected = bundle.manifest.combinations["autoencoder+supervised"].score(evidence)
    assert scores.score == pytest.approx(expected, abs=1e-6)
    assert np.isnan(scores.probability).all(), "it was calibrated for all layers together"


def sigmoid_inverse(published: Vector, layer: str) -> Vector:
    inverse: Vector = np.log(published / (1 - published)) if layer == "supervised" else -np.log1p(-published)
    return inverse


def test_a_score_that_is_no_number_fails_for_its_row_alone(trained: Trained, bundle: Bundle, rows: Vector, tmp_path: Path) -> None:
    """The log-odds of a row whose amount is negative become NaN."""
    from onnx import helper

    graph = load_from_string(bundle.read("supervised.onnx"))
    graph.graph.node[0].output[0] = "margin"
    column = bundle.manifest.layers[-1].inputs.names.index("amount")
    graph.graph.node.extend(
        [
            helper.make_node("Constant", [], ["amount"], value_ints=[column]),
            helper.make_node("Gather", ["rows", "amount"], ["amounts"], axis=1),
            helper.make_node("Sqrt", ["amounts"], ["root"]),
            helper.make_node("Sub", ["root", "root"], ["nothing"]),
            helper.make_node("Add", ["margin", "nothing"], ["raw"]),
        ]
    )
    few = rows[:4].copy()
    few[2, bundle.manifest.features.index("amount")] = -1
    scores = Scorer(load(trained.changed(tmp_path / "odd", {"supervised.onnx": graph.SerializeToString()}))).score(few)

    assert np.isnan(scores.layers["supervised"]).tolist() == [False, False, True, False]
    assert np.isnan(scores.probability).tolist() == [False, False, True, False]
    assert np.isfinite(scores.score).all()
    assert list(scores.failures) == ["supervised"]


def test_a_graph_that_is_none_is_refused_on_loading(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"autoencoder\.onnx: ONNX Runtime refuses it"):
        Scorer(load(trained.changed(tmp_path / "none", {"autoencoder.onnx": b"nothing"})))


def test_inputs_that_are_no_columns_are_refused_on_loading(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="isolation_forest needs the feature 'amount', which the manifest does not list"):
        Scorer(load(trained.changed(tmp_path / "few", features=trained.manifest.features[1:])))


def test_serving_loads_no_library_that_trains_and_no_stream(trained: Trained) -> None:
    code = f"""
import sys
from pathlib import Path
import numpy
from models.bundle import load
from models.scoring import Scorer
scorer = Scorer(load(Path({str(trained.path)!r})))
scorer.score(numpy.zeros((1, len(scorer.features)), numpy.float32))
heavy = "tensorflow keras sklearn scipy joblib onnx optuna pyarrow faust aiokafka aiohttp"
print(*(name for name in heavy.split() if name in sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.split() == []


def test_forests_become_the_same_trees() -> None:
    """Nulls included, where the original learnt or was told where they go."""
    made = sample(3000, seed=4)
    rows, known = made.rows[:, :9], np.nan_to_num(made.rows[:, :9])
    isolation = IsolationForest(n_estimators=20, max_features=0.6, random_state=1).fit(known)
    votes = RandomForestClassifier(n_estimators=20, max_depth=9, random_state=1).fit(rows, made.is_fraud)
    complete = RandomForestClassifier(n_estimators=20, max_depth=9, random_state=1).fit(known, made.is_fraud)
    boosted = xgboost.train({"objective": "binary:logistic", "base_score": 0.2}, xgboost.DMatrix(rows, made.is_fraud), 40)

    assert run(trees.isolation_forest(isolation), known) == pytest.approx(-isolation.score_samples(known), abs=1e-6)
    assert sigmoid(run(trees.random_forest(votes), rows)) == pytest.approx(votes.predict_proba(rows)[:, 1], abs=1e-5)
    assert sigmoid(run(trees.random_forest(complete), rows)) == pytest.approx(complete.predict_proba(rows)[:, 1], abs=1e-5)
    assert sigmoid(run(trees.boosted(boosted), rows)) == pytest.approx(boosted.inplace_predict(rows), abs=1e-5)


def run(model: Any, rows: Vector) -> Vector:
    import onnxruntime

    raw: Vector = onnxruntime.InferenceSession(model.SerializeToString()).run(["raw"], {"rows": rows})[0]
    return raw.ravel().astype(float)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=300), st.lists(st.floats(-200, 400), min_size=2, max_size=20, unique=True))
def test_a_rank_rises_with_the_raw_score_and_never_stops_rising_at_the_top(held_out: list[float], raw: list[float]) -> None:
    """As far as mean squared errors of clipped inputs reach; between known scores, up to the rounding of floats."""
    ranks = combine.ranks(np.array(held_out))
    ascending = np.sort(np.array([*raw, max(held_out)]))
    surprises = ranks.surprise(ascending)

    assert (np.diff(surprises) >= -1e-12).all()
    assert (surprises >= 0).all()
    beyond = np.unique(np.round(ascending[ascending >= max(held_out)], 3))
    assert (np.diff(ranks.surprise(beyond)) > 0).all()
    assert (share(ranks.surprise(beyond)) < 1).all()


def test_a_rank_is_the_share_of_later_payments_that_are_less_unusual() -> None:
    held_out = np.random.default_rng(1).normal(size=5000)
    ranks = combine.ranks(held_out)

    for raw in (-1.0, 0.0, 1.0, 2.5, 3.2):
        assert share(ranks.surprise(np.array([raw])))[0] == pytest.approx((held_out < raw).mean(), abs=0.002)


def test_inputs_are_made_as_documented() -> None:
    names = ("amount", "hour", "kmh", "channel")
    rows = np.array([[np.e - 1, 12, np.nan, 4], [-5, 1e9, 7, np.nan]], np.float32)

    scaled = Scaled(("kmh", "amount", "hour"), (False, True, False), (5.0, 0.5, 10.0), (2.0, 0.5, 1.0))
    assert scaled.of(names)(rows).tolist() == [[0.0, 1.0, 2.0], [1.0, -1.0, 10.0]]
    sided = Scaled(("kmh", "amount", "hour"), (False, True, False), (5.0, 0.5, 10.0), (2.0, 0.5, 1.0), (1, 1, -1))
    assert sided.of(names)(rows).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    plain = Plain(("hour", "kmh"), (("channel", 1.0), ("channel", 4.0)))
    assert plain.names == ("hour", "kmh", "channel=1", "channel=4")
    np.testing.assert_array_equal(plain.of(names)(rows), np.array([[12, np.nan, 0, 1], [1e9, 7, 0, 0]], np.float32))
    assert rows[1, 0] == -5, "what was given is left as it is"


def test_stated_weights_and_calibrations() -> None:
    evidence = {"isolation_forest": np.array([0.0, 2.0]), "autoencoder": np.array([1.0, 1.0]), "supervised": np.array([0.0, 3.0])}

    highest = Highest(("isolation_forest", "autoencoder")).score(evidence)
    assert highest.tolist() == pytest.approx([1 - np.exp(-1), 1 - np.exp(-2)])

    weighted = Weighted({"isolation_forest": 0.25, "supervised": 0.75}).score(evidence)
    assert weighted.tolist() == pytest.approx([0.375, 0.25 * (1 - np.exp(-2)) + 0.75 / (1 + np.exp(-3))])
    assert Stacked({"supervised": 2.0}, -1.0).score(evidence)[1] == pytest.approx(1 / (1 + np.exp(-5)))
    assert Sigmoid(1.0, 0.0).probability(np.array([0.2]))[0] == pytest.approx(0.2)
    assert Isotonic((0.1, 0.9), (0.0, 0.5)).probability(np.array([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.0, 0.25, 0.5])


def test_inputs_of_which_both_sides_count_are_written_as_before_there_were_sides() -> None:
    """The version of a bundle is a hash of its manifest: one that was trained then is to be loaded still."""
    written = msgspec.json.encode(Scaled(("kmh",), (False,), (5.0,), (2.0,)))

    assert written == b'{"type":"scaled","features":["kmh"],"long_tailed":[false],"centres":[5.0],"spreads":[2.0]}'
