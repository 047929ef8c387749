"""Amounts in one currency, so that those of different currencies compare."""

from functools import cached_property
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.payment import CurrencyCode, exponent

LARGEST: Final = 2**53
"""Minor units; as for amounts that come in."""


class RatesError(ValueError):
    """A rates file is wrong; the message says where."""


class Rates(Struct, frozen=True, dict=True):
    """Exchange rates that stay as they are while a deployment runs: memory adds up what they gave.

    `per_base` holds units of a currency for one unit of `base`, in whole units (JPY 162.4, not minor ones).
    """

    base: str = "EUR"
    per_base: dict[str, float] = {}

    @cached_property
    def version(self) -> str | None:
        """Names the rates in every decision: 12 hexadecimal digits; `None` where there are none."""
        return sha256(msgspec.json.encode([self.base, self.per_base], order="sorted")).hexdigest()[:12] if self.per_base else None

    @cached_property
    def _factors(self) -> dict[str, float]:
        places = exponent(self.base)
        return {currency: 10.0 ** (places - exponent(currency)) / rate for currency, rate in self.per_base.items()}

    def knows(self, currency: str) -> bool:
        """Whether amounts in it compare with others."""
        return currency == self.base or currency in self.per_base

    def to_base(self, amount_minor: int, currency: str) -> int | None:
        """An amount in minor units of the base currency, to the nearest; `None` where there is no rate, or it is beyond `LARGEST`."""
        if currency == self.base:
            return amount_minor
        factor = self._factors.get(currency)
        amount = None if factor is None else round(amount_minor * factor)
        return None if amount is None or amount > LARGEST else amount


Rate = Annotated[float, Meta(ge=1e-6, le=1e9)]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    base: CurrencyCode
    rates: dict[CurrencyCode, Rate]


EUROS: Final = Rates()
"""Euros, and nothing else known."""


def parse_rates(text: str, name: str, base: str) -> Rates:
    """Read a rates file (TOML: `base`, and a table `rates` of units for one of it). Raises `RatesError`."""
    try:
        file = msgspec.toml.decode(text, type=_File)
    except msgspec.DecodeError as error:
        raise RatesError(f"{name}: {error}") from None
    if file.base != base:
        raise RatesError(f"{name}: its rates are for one {file.base}, but AEGIS_BASE_CURRENCY is {base}")
    return Rates(base, {**file.rates, base: 1.0})
