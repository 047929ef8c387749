"""What is known of the payments that a bundle is measured on: by their file itself, or by labels beside it."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from aegis_app.core.label import Label
from aegis_app.core.payment import DAY_MS, Millis
from models.datasets import Example
from models.datasets.truth import fraud
from models.evaluation.errors import EvaluationError
from models.evaluation.handbook import frauds
from models.training.labels import read_labels

_EVER: Final = 1 << 53


class Known(Struct, frozen=True):
    """Of a whole file."""

    labels: list[Label]
    """One for each fraud. None says that a payment is genuine: nobody complains about those."""
    end: Millis
    """From then on it is not known of every payment what it was."""


def known(examples: Iterable[Example], labels: Path | None, delay: float, maturity: float, begin: Millis) -> Known:
    """Of `examples`, from the moment `begin` on by all of them or by none; frauds become known `delay` days after them.

    With a file of `labels` those tell, each from its own `labelled_at` where it has one. A payment without one is genuine `maturity` days
    after it took place, so where there are such, what is younger than that by the last payment is not known. Raises `EvaluationError`,
    `TrainingError` for a label that cannot be read.
    """
    if labels is None:
        told = list(frauds(examples, delay, range(begin // DAY_MS, _EVER // DAY_MS)))
        return Known(told, _EVER)
    said = read_labels(labels)
    found: list[Label] = []
    last, silent, spoken = 0, False, False
    for example in examples:
        txn, verdict = example.transaction, said.get(example.transaction.transaction_id)
        last = max(last, txn.at)
        silent = silent or (verdict is None and txn.at >= begin)
        spoken = spoken or verdict is not None
        if verdict is not None and verdict.is_fraud:
            at = verdict.labelled_at or txn.timestamp + timedelta(days=delay)
            found.append(replace(fraud(txn, delay), labelled_at=max(at, txn.timestamp)))
    if not spoken:
        raise EvaluationError(f"{labels} speaks of none of these payments")
    end = last - round(maturity * DAY_MS) if silent else _EVER
    if end <= begin:
        raise EvaluationError(
            f"{labels} does not speak of every payment, and one without a label is genuine only after {maturity:g} days (--maturity): "
            "no payment from --test-start on is that old"
        )
    return Known(found, end)
