"""The detector in a process decides as a worker does."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegis_app import FraudDetector
from aegis_app.core.adapter import Unfit
from aegis_app.core.intake import Refused
from aegis_app.core.payment import encode_transaction
from aegis_app.core.policy import PolicyError, parse_policy
from aegis_app.core.rates import parse_rates
from aegis_app.core.replay import replay
from aegis_app.core.terms import Terms
from aegis_app.packaged import packaged_policy
from aegis_app.simulate import RATES_FILE, simulate
from models.bundle import BundleError
from models.serving import serve
from tests.conftest import Trained
from tests.make import label, payment

FLAT: dict[str, Any] = {"user_id": "u1", "amount": 1500.00, "merchant_id": "m7", "timestamp": "2026-03-04T12:31:00"}


def test_a_flat_payment_is_decided_by_rules_alone_where_there_is_no_bundle() -> None:
    found = FraudDetector().predict(FLAT)

    assert len(found.pop("transaction_id")) == 32  # type: ignore[misc]  # its id is made up, and never the same
    assert found == {"fraud_score": 0.0, "risk_level": "low", "outcome": "allow", "reasons": []}


@pytest.mark.parametrize("payment", [None, [FLAT], "{}", 5])
def test_what_has_no_fields_is_refused_with_what_is_wanted(payment: Any) -> None:
    with pytest.raises(TypeError, match=rf"a payment is a dict of its fields, .*, not {type(payment).__name__}$"):
        FraudDetector().predict(payment)


def test_it_remembers_and_says_why() -> None:
    detector = FraudDetector()
    burst = [detector.predict(FLAT | {"timestamp": datetime(2026, 3, 4, 12, 0, second, tzinfo=UTC)}) for second in range(6)]

    assert [each["outcome"] for each in burst] == ["allow"] * 4 + ["block"] * 2
    assert (burst[-1]["risk_level"], burst[-1]["reasons"][0]["code"]) == ("high", "velocity_1m")
    assert burst[-1]["reasons"][0]["text"].startswith("6 payments")
    assert burst[-1]["fraud_score"] == pytest.approx(0.99)


@pytest.mark.parametrize("with_bundle", [False, True])
def test_it_decides_as_a_replay_does(trained: Trained, tmp_path: Path, with_bundle: bool) -> None:
    """And so as a worker."""
    (tmp_path / "rates.toml").write_text(RATES_FILE)
    bundle = trained.asking(tmp_path / "bundle", 0.5, 0.9) if with_bundle else None
    day = [each.transaction for each in simulate(50, 6, 3, datetime(2026, 3, 1, tzinfo=UTC), fraud_rate=0.1)]
    rates = parse_rates(RATES_FILE, "rates", "EUR")
    terms = Terms(parse_policy(packaged_policy()), rates=rates, bundle=None if bundle is None else serve(bundle))
    detector = FraudDetector(bundle, rates=tmp_path / "rates.toml")

    expected = [screened.ruling for _, screened in replay(day, terms)]
    found = [detector.predict(msgspec.json.decode(encode_transaction(txn))) for txn in day]

    assert [(each["outcome"], each["fraud_score"]) for each in found] == [(each.verdict.value, each.score) for each in expected]
    assert {each["outcome"] for each in found} == {"allow", "review", "block"}
    assert [[reason["text"] for reason in each["reasons"]] for each in found] == [
        [reason.text for reason in each.reasons] for each in expected
    ]


def test_what_it_hears_teaches_it() -> None:
    """A confirmed fraud leaves habit: its merchant is new again."""
    told, silent = FraudDetector(), FraudDetector()
    first = payment(transaction_id="t1", amount_minor=900_00)
    for detector in (told, silent):
        detector.predict(msgspec.to_builtins(first))
    told.hear(msgspec.to_builtins(label(first)))

    habits = [detector._memory._cards[first.card_id].habit.payments for detector in (told, silent)]
    assert habits == [0, 1]


def test_amounts_are_exact_where_they_are_given_so() -> None:
    detector = FraudDetector(currency="EUR")
    detector.predict(FLAT | {"amount": Decimal("1500.10")})

    assert detector._memory._cards["u1"].habit.largest == 1500_10


def test_what_is_no_payment_is_refused_with_the_field() -> None:
    detector = FraudDetector()
    with pytest.raises(Unfit, match="amount: it is no number"):
        detector.predict(FLAT | {"amount": "much"})
    with pytest.raises(Unfit, match=r"card_id: it is missing: .*userid \(is it user_id\?\)"):
        detector.predict({"userid": "u1", "amount": 1500.00})
    with pytest.raises(Refused, match="card number"):
        detector.predict(FLAT | {"user_id": "4111111111111111"})
    with pytest.raises(BundleError, match="no bundle here"):
        FraudDetector("nowhere")
    with pytest.raises(FileNotFoundError):
        FraudDetector(policy="nowhere.toml")


def test_a_bad_policy_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text('mode = "sleep"\n')
    with pytest.raises(PolicyError, match=r"policy\.toml, line 1"):
        FraudDetector(policy=tmp_path / "policy.toml")


def test_a_payment_without_a_time_takes_place_now() -> None:
    detector = FraudDetector()
    detector.predict({"user_id": "u1", "amount": 5})

    clock = detector._memory._cards["u1"].clock / 1000
    assert abs(datetime.now(UTC) - datetime.fromtimestamp(clock, UTC)) < timedelta(minutes=5)


def test_it_loads_neither_a_stream_nor_what_trains(trained: Trained) -> None:
    code = f"""
import sys
from aegis_app import FraudDetector
FraudDetector({str(trained.path)!r}).predict({FLAT!r})
heavy = "faust mode aiokafka aiohttp tensorflow keras fastapi prometheus_client"
print(*(name for name in heavy.split() if name in sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.split() == []
