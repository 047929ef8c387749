"""Simulated card payments of the Sparkov generator: Kaggle's fraudTrain and fraudTest, and files made anew with it.

All are purchases in the United States, in dollars. Their categories say how the card was used: those that end in `_net` are on-line;
all others count as by chip. Merchants keep their names, each of which begins with "fraud_" whether or not there was any.
"""

from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

from aegis_app.core.payment import Channel
from models.datasets.amounts import minor_units
from models.datasets.layout import Cells, Layout, verdict

CURRENCY: Final = "USD"
MICRODEGREES: Final = 1_000_000

_LABEL: Final = {"is_fraud": object}
_BOTH: Final = {"merchant": str, "category": str, "amt": Decimal}
_PERSON: Final = {"cc_num": int, "first": str, "last": str, "dob": str}


def _of_kaggle(time: str) -> Layout:
    """Kaggle's own columns. Its `unix_time` lies seven years before the time of payment, so it is not read."""

    def payment(cells: Cells, number: int, currency: str) -> tuple[dict[str, Any], bool | None]:
        _check(cells)
        # The number alone is not enough: in excerpts that passed through a spreadsheet it is rounded, and cards share one.
        card = _hash(*(cells[name] for name in _PERSON))
        place = {"latitude": cells["merch_lat"], "longitude": cells["merch_long"]}
        return _fields(cells) | {"transaction_id": cells["trans_num"], "card_id": card, "timestamp": cells[time], **place}, _label(cells)

    places = {"merch_lat": float, "merch_long": float}
    return Layout(
        name="sparkov",
        title="Sparkov, as on Kaggle",
        required={**_PERSON, "trans_num": str, **_BOTH, **places, time: object},
        optional=_LABEL,
        card="cc_num",
        time=time,
        payment=payment,
    )


def _made_anew(cells: Cells, number: int, currency: str) -> tuple[dict[str, Any], bool | None]:
    _check(cells)
    fields = {
        # These files have no id: what was paid where, by whom and when is one.
        "transaction_id": _hash(cells["unix_time"].timestamp(), cells["cust_idx"], cells["merchant"], float(cells["amt"])),
        "card_id": cells["cust_idx"],
        "timestamp": cells["unix_time"],
        "latitude": cells["merch_lat_e6"] / MICRODEGREES,
        "longitude": cells["merch_long_e6"] / MICRODEGREES,
    }
    return _fields(cells) | fields, _label(cells)


def _check(cells: Cells) -> None:
    for name, value in cells.items():
        if value is None and name not in _LABEL:
            raise ValueError(f"{name} is never null")


def _fields(cells: Cells) -> dict[str, Any]:
    return {
        "amount_minor": minor_units(cells["amt"], CURRENCY),
        "currency": CURRENCY,
        "channel": Channel.ONLINE if cells["category"].endswith("_net") else Channel.CHIP,
        "merchant_id": cells["merchant"],
        "merchant_category": cells["category"],
        "country": "US",
    }


def _label(cells: Cells) -> bool | None:
    return verdict(cells.get("is_fraud"))


def _hash(*values: object) -> str:
    """A token for `values`; a card number does not leave this module in any other form."""
    return "s" + blake2b(repr(values).encode(), digest_size=8).hexdigest()


LAYOUTS: Final = (
    _of_kaggle("trans_date_trans_time"),
    _of_kaggle("trans_ts"),
    Layout(
        name="sparkov",
        title="Sparkov, made anew",
        required={"unix_time": int, "cust_idx": str, **_BOTH, "merch_lat_e6": int, "merch_long_e6": int},
        optional=_LABEL,
        card="cust_idx",
        time="unix_time",
        payment=_made_anew,
    ),
)
