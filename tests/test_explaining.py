"""What the models say of a payment is theirs, and in words."""

from pathlib import Path

import numpy as np
import pytest
import xgboost

from aegis_app.core.features import CATALOGUE
from models.bundle import load
from models.explaining import FAMILIES, LEAST_SHARE, MOST, OTHERS, Explainer, family, figure
from models.inputs import Rows, Vector
from models.scoring import Scorer
from models.training import Plan, train
from tests.conftest import Trained
from tests.samples import sample


@pytest.fixture(scope="module")
def scorer(trained: Trained) -> Scorer:
    return Scorer(load(trained.path))


@pytest.fixture(scope="module")
def explainer(trained: Trained, scorer: Scorer) -> Explainer:
    return Explainer(load(trained.path), scorer)


def rows_of(scorer: Scorer, **changes: float) -> Rows:
    """One payment of middling features, but for these."""
    made = sample(2000, fraud_share=0.0)
    middle = np.nanmedian(made.rows[:, [made.features.index(name) for name in scorer.features]], axis=0)
    for name, value in changes.items():
        middle[scorer.features.index(name)] = value
    return middle[None].astype(np.float32)


def test_what_is_odd_is_told_first_with_its_figures(scorer: Scorer, explainer: Explainer) -> None:
    fast, dear = rows_of(scorer, attempts_1h=9, attempts_24h=12), rows_of(scorer, amount=3_000_000, amount_ratio=40, new_country=1)
    causes = explainer.explain(np.concatenate([fast, dear]), scorer.score(np.concatenate([fast, dear])).layers)

    assert [of_row[0].family for of_row in causes] == ["velocity", "amount"]
    assert "attempts 1h 9" in causes[0][0].text
    assert "amount ratio 40 times" in causes[1][0].text
    assert any(each.family == "unusual" and "30,000.00 EUR" in each.text for each in causes[1])


def test_shares_are_of_what_speaks_for_fraud_alone(trained: Trained, scorer: Scorer, explainer: Explainer) -> None:
    """Counted again from XGBoost's own contributions, feature by feature."""
    bundle = load(trained.path)
    rows = trained.sample.rows[:300, [trained.sample.features.index(name) for name in scorer.features]]
    causes = explainer.explain(rows, scorer.score(rows).layers)
    inputs = bundle.manifest.layers[-1].inputs
    booster = xgboost.Booster(model_file=bytearray(bundle.read("supervised.ubj")))
    matrix = xgboost.DMatrix(inputs.of(scorer.features)(rows), feature_names=list(inputs.names))
    contributions = booster.predict(matrix, pred_contribs=True)

    assert contributions.sum(axis=1) == pytest.approx(scorer.raw("supervised", rows), abs=1e-3)
    for of_row, told in zip(contributions, causes, strict=True):
        expected = recount(of_row, inputs.sources)
        shown = {cause.family: cause.share for cause in told if cause.family != "unusual"}
        assert len(shown) <= MOST
        for name, share in shown.items():
            assert share == pytest.approx(expected[name], abs=1e-4)
        assert set(shown) == {
            name for name, _ in sorted(expected.items(), key=lambda each: -each[1])[:MOST] if expected[name] >= LEAST_SHARE
        }


def recount(contributions: Vector, sources: tuple[str, ...]) -> dict[str, float]:
    added: dict[str, float] = {}
    for source, value in zip(sources, contributions[:-1].tolist(), strict=True):
        added[family(source)] = added.get(family(source), 0.0) + value
    whole = sum(value for value in added.values() if value > 0) or 1.0
    return {name: max(value, 0.0) / whole for name, value in added.items()}


def test_a_forest_leaves_the_autoencoder_to_explain_and_the_report_says_so(tmp_path: Path) -> None:
    train(sample(2500), Plan(supervised="random-forest", weights=(0.7, 0.3), trees=10, epochs=3), tmp_path / "forest")
    scorer = Scorer(load(tmp_path / "forest"))
    odd = rows_of(scorer, attempts_1h=90, attempts_24h=99, amount=3_000_000, amount_ratio=400)

    assert {cause.family for cause in Explainer(load(tmp_path / "forest"), scorer).explain(odd, scorer.score(odd).layers)[0]} == {"unusual"}
    for file in ("report.html", "model_card.md"):
        assert "rules and the autoencoder alone" in (tmp_path / "forest" / file).read_text()


def test_every_feature_has_a_family() -> None:
    assert [name for name in CATALOGUE if family(name) == OTHERS] == []
    assert family("attributes.V7") == "attributes"
    assert {family(name) for name in CATALOGUE} == set(FAMILIES)


@pytest.mark.parametrize(
    ("feature", "value", "words"),
    [
        ("amount", 123456.0, "amount 1,234.56 EUR"),
        ("amount_ratio", 11.84, "amount ratio 11.8 times"),
        ("kmh", float("nan"), "kmh not known"),
        ("new_device", 1.0, "new device"),
        ("abroad", 0.0, "not abroad"),
        ("hour_share", 0.042, "hour share 4%"),
        ("channel", 4.0, "channel online"),
        ("country", 148.0, "country FR"),
        ("kind", 0.0, "kind not known"),
        ("category", 5411.0, "category 5411"),
        ("attributes.V1", -1.5, "V1 -1.5"),
        ("attempts_1h", 7.0, "attempts 1h 7"),
    ],
)
def test_figures_are_as_people_read_them(feature: str, value: float, words: str) -> None:
    assert figure(feature, value, "EUR") == words
