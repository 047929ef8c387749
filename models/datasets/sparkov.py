"""Simulated card payments of the Sparkov generator: Kaggle's fraudTrain and fraudTest, and files made anew with it.

All are purchases in the United States, in dollars. Their categories say how the card was used: those that end in `_net` are on-line;
all others count as by chip. Merchants keep their names, each of which begins with "fraud_" whether or not there was any.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

from aegis_app.core.payment import Channel, Transaction
from models.datasets.amounts import minor_units
from models.datasets.example import Example
from models.datasets.parquet import Layout

CURRENCY: Final = "USD"
MICRODEGREES: Final = 1_000_000

_LABEL: Final = ("is_fraud",)
_KAGGLE: Final = ("cc_num", "first", "last", "dob", "trans_num", "merchant", "category", "amt", "merch_lat", "merch_long")
_MADE_ANEW: Final = ("unix_time", "cust_idx", "merchant", "category", "amt", "merch_lat_e6", "merch_long_e6")


def _of_kaggle(time: str) -> Layout:
    """Kaggle's own columns. Its `unix_time` lies seven years before the time of payment, so it is not read."""

    def example(row: Mapping[str, Any], currency: str) -> Example:
        _check(row)
        # The number alone is not enough: in excerpts that passed through a spreadsheet it is rounded, and cards share one.
        card = _hash(row["cc_num"], row["first"], row["last"], row["dob"])
        place = {"latitude": row["merch_lat"], "longitude": row["merch_long"]}
        return _example(row, {"transaction_id": row["trans_num"], "card_id": card, "timestamp": row[time], **place})

    return Layout(name="Sparkov, as on Kaggle", required=(*_KAGGLE, time), optional=_LABEL, card="cc_num", time=time, example=example)


def _made_anew(row: Mapping[str, Any], currency: str) -> Example:
    _check(row)
    fields = {
        # These files have no id: what was paid where, by whom and when is one.
        "transaction_id": _hash(row["unix_time"].timestamp(), row["cust_idx"], row["merchant"], row["amt"]),
        "card_id": str(row["cust_idx"]),
        "timestamp": row["unix_time"],
        "latitude": row["merch_lat_e6"] / MICRODEGREES,
        "longitude": row["merch_long_e6"] / MICRODEGREES,
    }
    return _example(row, fields)


def _check(row: Mapping[str, Any]) -> None:
    for name, value in row.items():
        if value is None and name not in _LABEL:
            raise ValueError(f"{name} is never null")


def _example(row: Mapping[str, Any], fields: Mapping[str, Any]) -> Example:
    others = {
        "amount_minor": minor_units(row["amt"], CURRENCY),
        "currency": CURRENCY,
        "channel": Channel.ONLINE if row["category"].endswith("_net") else Channel.CHIP,
        "merchant_id": row["merchant"],
        "merchant_category": row["category"],
        "country": "US",
    }
    fraud = row.get("is_fraud")
    return Example(msgspec.convert({**fields, **others}, Transaction), None if fraud is None else bool(fraud))


def _hash(*values: object) -> str:
    """A token for `values`; a card number does not leave this module in any other form."""
    return "s" + blake2b(repr(values).encode(), digest_size=8).hexdigest()


LAYOUTS: Final = (
    _of_kaggle("trans_date_trans_time"),
    _of_kaggle("trans_ts"),
    Layout(name="Sparkov, made anew", required=_MADE_ANEW, optional=_LABEL, card="cust_idx", time="unix_time", example=_made_anew),
)
