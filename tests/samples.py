"""Described payments that are made up as a matrix at once, for tests of models: quicker than a replay, and as odd as a test wants."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as arrow
from pyarrow import parquet

from models.training import Sample
from models.training.sample import DAY_MS

START: Final = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
FEATURES: Final = (
    "amount",
    "amount_ratio",
    "attempts_1h",
    "attempts_24h",
    "seconds_since_last",
    "kmh",
    "merchant_share",
    "new_country",
    "hour",
    "channel",
    "category",
    "age_days",
    "gap_z",
    "attributes.V1",
)


def sample(payments: int = 8000, *, days: float = 60.0, fraud_share: float = 0.03, seed: int = 1, **changes: Any) -> Sample:
    """Frauds are larger, faster and farther than genuine payments; some features are null, one is never known and one never varies."""
    chance = np.random.default_rng(seed)
    fraud = chance.random(payments) < fraud_share
    unusual = fraud & (chance.random(payments) < 0.7)
    columns = {
        "amount": chance.lognormal(8 + unusual, 1),
        "amount_ratio": chance.lognormal(1.5 * unusual, 0.7),
        "attempts_1h": chance.poisson(0.2 + 3 * unusual),
        "attempts_24h": chance.poisson(1.5 + 4 * unusual),
        "seconds_since_last": np.where(chance.random(payments) < 0.05, np.nan, chance.exponential(40_000 / (1 + 9 * unusual))),
        "kmh": np.where(chance.random(payments) < 0.8, np.nan, chance.exponential(20 + 300 * unusual)),
        "merchant_share": np.where(unusual, 0.0, chance.beta(1, 3, payments)),
        "new_country": np.where(chance.random(payments) < 0.1, np.nan, chance.random(payments) < 0.01 + 0.3 * unusual),
        "hour": chance.integers(0, 24, payments),
        "channel": chance.choice([1, 2, 4], payments, p=[0.5, 0.3, 0.2]),
        "category": chance.choice([5411, 5812, 6011], payments),
        "age_days": np.linspace(0, days, payments),
        "gap_z": np.full(payments, np.nan),
        "attributes.V1": chance.normal(2.0 * unusual, 1),
    }
    times = START + np.sort(chance.integers(0, int(days * DAY_MS), payments))
    fields: dict[str, Any] = {
        "features": FEATURES,
        "rows": np.column_stack([columns[name] for name in FEATURES]).astype(np.float32),
        "times": times,
        "cards": chance.integers(0, max(1, payments // 20), payments),
        "alerted": columns["attempts_1h"] >= 6,
        "is_fraud": fraud.astype(float),
        "fraud_type": np.where(fraud, np.where(unusual, "spree", "quiet"), "").astype(object),
        "known_at": times + 3.0 * DAY_MS,
        "weights": np.ones(payments),
        "partly_labelled": False,
    }
    return Sample(**(fields | changes))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A matrix as `aegis features` writes it, of few columns; a payment a minute unless a row says when."""
    defaults: dict[str, Any] = {"card_id": "c1", "verdict": "allow", "amount": 100, "hour": 12, "attributes": {}}
    whole: list[dict[str, Any]] = [
        {"transaction_id": f"t{number}", "timestamp": datetime.fromtimestamp(START / 1000 + 60 * number, UTC)} | defaults | row
        for number, row in enumerate(rows)
    ]
    types = {"timestamp": arrow.timestamp("ms", tz="UTC"), "attributes": arrow.map_(arrow.string(), arrow.float64())}
    columns = {
        name: [list(row[name].items()) if name == "attributes" else row.get(name) for row in whole]
        for name in dict.fromkeys(name for row in whole for name in row)
    }
    arrays = {name: arrow.array(values, types.get(name)) for name, values in columns.items()}
    parquet.write_table(arrow.table(arrays), path)
    return path
