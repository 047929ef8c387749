"""A bundle in a decision: what it is given is what it was trained on, and what it says decides."""

import pickle
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from aegis_app.core.case import Case
from aegis_app.core.features import CATALOGUE, Features
from aegis_app.core.payment import GIVES_BACK, Kind, Outcome, Transaction
from aegis_app.core.policy import parse_policy
from aegis_app.core.replay import replay
from aegis_app.core.screen import Described, Screened, describe, judge, screen
from aegis_app.core.terms import Terms
from aegis_app.simulate import simulate
from models.bundle import BundleError, Cost, Manifest, Thresholds
from models.datasets.matrix import write_matrix
from models.serving import Serving, asked, serve
from models.training import read_sample, trees
from tests.conftest import Trained
from tests.make import payment, receipt

POLICY = parse_policy('mode = "enforce"\n')


@pytest.fixture(scope="module")
def bundle(trained: Trained) -> Serving:
    return serve(trained.path)


@pytest.fixture(scope="module")
def day() -> list[Transaction]:
    """Simulated payments in the order of their times, some with an attribute."""
    course = sorted(simulate(60, 6, 4, datetime(2026, 3, 1, tzinfo=UTC), fraud_rate=0.05), key=lambda each: each.transaction.at)
    return [
        msgspec.structs.replace(each.transaction, attributes={"V1": number / 7} if number % 3 else {}) for number, each in enumerate(course)
    ]


def test_a_payment_is_scored_by_the_row_that_a_training_would_see(trained: Trained, tmp_path: Path, day: list[Transaction]) -> None:
    """Of every feature there is: the matrix goes by another way, through a file."""
    features = (*CATALOGUE, "attributes.V1", "attributes.V2")
    every = serve(trained.changed(tmp_path / "every", features=features))
    seen: list[tuple[Case, Features]] = []
    rows = []
    for _, screened in replay(day, Terms(POLICY)):
        assert screened.seen is not None
        rows.append(every.ask([(screened.seen._case, screened.seen)])._rows[0])
        seen.append((screened.seen._case, screened.seen))
    write_matrix(tmp_path / "matrix.parquet", ((case.txn, Outcome.ALLOW, each) for case, each in seen))
    sample = read_sample(tmp_path / "matrix.parquet", None, 0, 0)

    table = np.array(rows)
    for place, name in enumerate(features):
        expected = sample.column(name) if name in sample.features else np.full(len(day), np.nan)
        np.testing.assert_array_equal(table[:, place], expected, err_msg=name)


def test_decisions_carry_what_the_layers_say(bundle: Serving, day: list[Transaction]) -> None:
    terms = Terms(POLICY, bundle=bundle)
    for txn, screened in replay(day[:200], terms):
        assert screened.seen is not None
        if txn.kind in GIVES_BACK:
            continue
        scores = bundle.score(bundle.ask([(screened.seen._case, screened.seen)])._rows)
        ruling = screened.ruling

        assert ruling.bundle == bundle.version
        assert {name: getattr(ruling, name) for name in scores.layers} == {name: found.item() for name, found in scores.layers.items()}
        assert ruling.probability == scores.probability.item()
        if not ruling.rules:
            assert ruling.score == scores.score.item()


def test_thresholds_of_the_bundle_decide_and_the_reasons_say_by_what(trained: Trained, tmp_path: Path, day: list[Transaction]) -> None:
    some = sorted(score for _, screened in replay(day, Terms(POLICY, bundle=serve(trained.path))) if (score := screened.ruling.score))
    review, block = some[len(some) * 8 // 10], some[len(some) * 95 // 100]
    chosen = serve(trained.asking(tmp_path / "chosen", review, block))
    rulings = [screened.ruling for _, screened in replay(day, Terms(POLICY, bundle=chosen))]

    verdicts = {ruling.verdict for ruling in rulings}
    assert verdicts == set(Outcome)
    for ruling in rulings:
        assert ruling.score is not None
        expected = Outcome.BLOCK if ruling.score >= block else Outcome.REVIEW if ruling.score >= review else Outcome.ALLOW
        assert ruling.verdict is expected
        codes = [reason.code for reason in ruling.reasons]
        assert codes[:1] == ([] if expected is Outcome.ALLOW else ["models"])
        assert all(code.startswith("model_") for code in codes[1:])
    why = [ruling.reasons for ruling in rulings if ruling.verdict is Outcome.BLOCK]
    assert why[0][0].text.startswith(f"score {why[0][0].text.split()[1].rstrip(',')}, blocked from {block:.4f}: ")
    assert {reason.code for reasons in why for reason in reasons} >= {"model_amount", "model_unusual"}


def test_costs_decide_payment_by_payment_and_thresholds_where_they_cannot(trained: Trained) -> None:
    cost = Cost(recovery=0.5, block_minor=10_00, block_share=0.1, review_minor=3_00)
    limits = Thresholds(by="test", review=0.4, block=0.6, alerts_per_day=1.0)
    manifest = msgspec.structs.replace(trained.manifest, cost=cost, thresholds=limits)

    def asks(score: float | None, probability: float | None, amount: int | None, of: Manifest = manifest) -> Outcome:
        return asked(of, score, probability, amount)[0]

    assert asks(0.9, 0.5, 10_00) is Outcome.ALLOW, "2.50 saved on average; a review costs 3.00"
    assert asks(0.0, 0.5, 12_04) is Outcome.REVIEW, "3.01 saved; blocking costs 5.60"
    assert asks(0.0, 0.5, 26_00) is Outcome.BLOCK, "6.50 saved; blocking costs 6.30"
    assert asks(0.0, 0.9, 50_00) is Outcome.BLOCK, "22.50 saved; blocking costs 1.50"
    assert asks(0.5, None, 50_00) is Outcome.REVIEW
    assert asks(0.6, 0.9, None) is Outcome.BLOCK
    assert asks(None, None, 50_00) is Outcome.ALLOW
    assert asks(0.6, 0.0, 50_00, msgspec.structs.replace(manifest, cost=None)) is Outcome.BLOCK
    assert (
        asks(0.99, 1.0, 50_00, msgspec.structs.replace(manifest, cost=None, thresholds=msgspec.structs.replace(limits, block=None)))
        is Outcome.REVIEW
    )


def test_payments_are_told_the_same_alone_and_together(bundle: Serving, day: list[Transaction]) -> None:
    terms = Terms(POLICY, bundle=bundle)
    first = list({txn.card_id: txn for txn in reversed(day)}.values())
    described = [each for txn in first if isinstance(each := describe(None, txn, terms, receipt(txn), 3), Described)]
    together = list(judge(described, terms))

    assert len(first) > 40
    assert [essence(each) for each in together] == [essence(screen(None, txn, terms, receipt(txn), 3)) for txn in first]


def essence(screened: Screened) -> tuple[Any, ...]:
    """All but the description, which is found when it is asked for."""
    return screened.ruling, screened.card, screened.tidings, screened.scored


@pytest.mark.parametrize("kind", [Kind.REFUND, Kind.REVERSAL])
def test_models_are_not_asked_about_what_gives_money_back(bundle: Serving, kind: Kind) -> None:
    terms = Terms(POLICY, bundle=bundle)
    back, paid = payment(kind=kind, card_id="c1"), payment(card_id="c2")
    described = [each for txn in (back, paid) if isinstance(each := describe(None, txn, terms, receipt(txn), 3), Described)]

    rulings = [screened.ruling for screened in judge(described, terms)]

    assert [ruling.bundle for ruling in rulings] == [None, bundle.version]
    assert screen(None, back, terms, receipt(back), 3).ruling.score == 0.0


def test_a_policy_can_do_without_models(bundle: Serving) -> None:
    without = parse_policy('mode = "enforce"\n[models]\nstate = "off"\n')
    ruling = screen(None, payment(), Terms(without, bundle=bundle), receipt(payment()), 0).ruling

    assert (ruling.bundle, ruling.supervised, ruling.score) == (None, None, 0.0)


@pytest.fixture(scope="module")
def broken(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Serving:
    """Its isolation forest is one of other inputs: it loads, and refuses every row."""
    other = trees.isolation_forest(IsolationForest(n_estimators=3, random_state=1).fit(np.zeros((9, 2), np.float32)))
    quiet = Thresholds(by="test", review=2.0, alerts_per_day=0.0)
    path = tmp_path_factory.mktemp("broken") / "b"
    return serve(trained.changed(path, {"isolation_forest.onnx": other.SerializeToString()}, thresholds=quiet))


def test_a_layer_that_fails_degrades_the_decision_and_the_others_stand(broken: Serving) -> None:
    screened = screen(None, payment(), Terms(POLICY, bundle=broken), receipt(payment()), 0)
    ruling = screened.ruling

    assert (ruling.verdict, ruling.degraded) == (Outcome.REVIEW, True)
    assert ruling.reasons[0].code == "layer_failed"
    assert ruling.reasons[0].text.startswith("isolation_forest could not tell: InvalidArgument")
    assert (ruling.isolation_forest, ruling.probability) == (None, None)
    assert None not in {ruling.autoencoder, ruling.supervised, ruling.score}
    assert [layer for layer, _ in screened.scored.failures] == ["isolation_forest"]  # type: ignore[union-attr]  # it was asked


class Speechless:
    """A bundle of which nobody can say why it says what it says."""

    def __init__(self, bundle: Serving) -> None:
        self.version, self.of_others, self._bundle = bundle.version, bundle.of_others, bundle

    def ask(self, payments: Sequence[tuple[Case, Features]]) -> Any:
        said = self._bundle.ask(payments)
        said._rows = said._rows[:, :1]
        return said


def test_a_bundle_that_does_not_score_is_found_out_before_it_serves(bundle: Serving, broken: Serving) -> None:
    bundle.check()
    with pytest.raises(BundleError, match="isolation_forest does not score: InvalidArgument"):
        broken.check()


def test_what_cannot_be_explained_is_decided_all_the_same(trained: Trained, tmp_path: Path) -> None:
    strict = serve(trained.asking(tmp_path / "strict", 0.0))
    whole, speechless = (
        screen(None, payment(), Terms(POLICY, bundle=each), receipt(payment()), 0) for each in (strict, Speechless(strict))
    )

    assert whole.ruling.verdict is speechless.ruling.verdict is Outcome.REVIEW
    assert (whole.unexplained, speechless.unexplained) == (False, True)
    assert [reason.code for reason in speechless.ruling.reasons] == ["models"]
    assert len(whole.ruling.reasons) > 1


def test_another_process_serves_the_same(bundle: Serving) -> None:
    def decided(each: Serving) -> Screened:
        return screen(None, payment(), Terms(POLICY, bundle=each), receipt(payment()), 0)

    assert essence(decided(pickle.loads(pickle.dumps(bundle)))) == essence(decided(bundle))


def test_a_bundle_of_another_currency_is_refused(trained: Trained) -> None:
    with pytest.raises(BundleError, match="trained with amounts in EUR, and AEGIS_BASE_CURRENCY is USD"):
        serve(trained.path, "USD")


def test_an_attribute_of_any_size_is_scored(bundle: Serving) -> None:
    huge = payment(attributes={"V1": 1e300})

    assert screen(None, huge, Terms(POLICY, bundle=bundle), receipt(huge), 0).ruling.score is not None


def test_serving_loads_neither_what_trains_nor_a_stream(trained: Trained) -> None:
    """But for scikit-learn, which XGBoost looks for where it is installed."""
    code = f"""
import sys
from pathlib import Path
from models.serving import serve
serve(Path({str(trained.path)!r}))
heavy = "tensorflow keras onnx optuna pyarrow faust aiokafka aiohttp"
print(*(name for name in heavy.split() if name in sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.split() == []


def test_a_worker_that_scores_and_explains_loads_no_tensorflow(trained: Trained) -> None:
    code = f"""
import sys
from pathlib import Path
import aegis_app.worker
from models.serving import serve
serve(Path({str(trained.path)!r})).check()
print(*(name for name in "faust tensorflow keras".split() if name in sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.split() == ["faust"]


def test_models_say_why_of_what_is_allowed_where_somebody_asks(bundle: Serving, day: list[Transaction]) -> None:
    """Nothing else of the decision changes."""
    terms = Terms(parse_policy('mode = "observe"\n[models]\nstate = "shadow"\n'), bundle=bundle)
    found = 0
    for txn in day[:200]:
        plain, asked = (screen(None, txn, terms, msgspec.structs.replace(receipt(txn), explain=ask), 0).ruling for ask in (False, True))
        if plain.verdict is not Outcome.ALLOW or txn.kind in GIVES_BACK:
            continue
        said = asked.reasons[len(plain.reasons) :]
        assert asked.features is not None
        assert all(reason.code.startswith("model_") for reason in said)
        assert msgspec.structs.replace(asked, reasons=plain.reasons, features=plain.features) == plain
        found += bool(said)
    assert found
