"""`FraudDetector`: payments decided in this process, without Kafka, on the path of a worker."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypedDict
from uuid import uuid4

import msgspec

from aegis_app.core.adapter import adapt
from aegis_app.core.intake import read_label_value
from aegis_app.core.payment import Outcome
from aegis_app.core.policy import parse_policy
from aegis_app.core.rates import Rates, parse_rates
from aegis_app.core.replay import Memory
from aegis_app.core.terms import Terms
from aegis_app.packaged import packaged_policy

LEVELS: Final = {Outcome.ALLOW: "low", Outcome.REVIEW: "medium", Outcome.BLOCK: "high"}


class Prediction(TypedDict):
    """What is thought of a payment."""

    transaction_id: str
    fraud_score: float | None
    """0 to 1, 1 is fraud; `None` where it could not be told, which is never "no risk"."""
    risk_level: str
    """low, medium or high, by the outcome."""
    outcome: str
    """allow, review or block: what policy asks, even where it only observes, since whoever calls does what is done."""
    reasons: list[dict[str, str]]
    """Strongest first: a `code`, and a sentence as `text`."""


class FraudDetector:
    """Decides payments one after the other, each by those before it.

    Its memory is this object's, grows with cards, merchants and devices, and ends with it: for notebooks, tests and small shops. Where
    payments must be decided once and remembered through a crash there are workers. Payments come in the order of their times; a far
    later one lets cards forget. Not to be shared by threads.

        detector = FraudDetector()
        detector.predict({"user_id": "u1", "amount": 1500.00, "merchant_id": "m7", "timestamp": "2026-03-04T12:31:00Z"})
    """

    def __init__(
        self,
        bundle: str | Path | None = None,
        *,
        policy: str | Path | None = None,
        currency: str = "EUR",
        rates: str | Path | None = None,
        token: bool = False,
    ) -> None:
        """`bundle`: directory of trained models; without one rules decide alone. `policy`: a file; the packaged one where not given.

        Amounts are compared in `currency`, by the file of `rates`; a payment without a currency is in it. `token`: card_ids may look like
        card numbers. Raises `BundleError`, `PolicyError`, `RatesError`, `OSError`.
        """
        self._currency = currency
        self._token = token
        rules = parse_policy(packaged_policy()) if policy is None else parse_policy(Path(policy).read_text("utf-8"), str(policy))
        known = Rates(currency) if rates is None else parse_rates(Path(rates).read_text("utf-8"), str(rates), currency)
        self._memory = Memory(Terms(rules, rates=known, bundle=None if bundle is None else _models(Path(bundle), currency)))

    def predict(self, payment: Mapping[str, Any]) -> Prediction:
        """Decide a payment, and learn it: the fields of docs/schemas/transactions.json, or a flat object as other systems have it.

        `user_id` stands for `card_id`, `amount` is in whole units (as `Decimal` where cents matter), further numbers become attributes;
        what is missing of `transaction_id` and `timestamp` is made up: a new id, and now. Raises `Unfit`, `Refused`; `TypeError` where
        it has no fields.
        """
        if not hasattr(payment, "items"):  # a row of pandas has them, and is no `Mapping`
            raise TypeError(f"a payment is a dict of its fields, as {{'user_id': 'u1', 'amount': 15.00}}, not {type(payment).__name__}")
        txn = adapt(payment, currency=self._currency, new_id=lambda: uuid4().hex, now=datetime.now(UTC), token=self._token)
        ruling = self._memory.screen(txn).ruling
        return {
            "transaction_id": txn.transaction_id,
            "fraud_score": ruling.score,
            "risk_level": LEVELS[ruling.verdict],
            "outcome": ruling.verdict.value,
            "reasons": [{"code": reason.code, "text": reason.text} for reason in ruling.reasons],
        }

    def hear(self, label: Mapping[str, Any]) -> None:
        """Learn what a payment turned out to be: the fields of docs/schemas/labels.json. Raises `Refused`."""
        self._memory.hear(read_label_value(msgspec.json.encode(label), token=self._token))


def _models(bundle: Path, currency: str) -> Any:
    from models.serving import serve  # ONNX Runtime and XGBoost, which rules alone can do without

    models = serve(bundle, currency)
    models.check()
    return models
