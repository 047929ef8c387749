"""Amounts as data sets write them, in minor units."""

from decimal import Decimal, InvalidOperation
from typing import Final

from aegis_app.core.payment import exponent

MOST_NOISE: Final = Decimal("0.001")
"""Minor units. The published amounts went through sums of floats: 85.64999999999999 is 85.65, and 85.645 is an error."""


def minor_units(amount: Decimal | float | str, currency: str) -> int:
    """An amount in minor units, by way of its decimal form: 57.16 EUR is 5716. Raises `ValueError` when any is lost."""
    try:
        minor = Decimal(str(amount)).scaleb(exponent(currency))
        whole = round(minor)
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"{amount} is not an amount") from None
    if abs(minor - whole) > MOST_NOISE:
        raise ValueError(f"{amount} has more decimals than {currency}")
    return whole
