"""What things cost in the money of a place. Within the simulator, what a thing is worth is counted in EUR cents."""

from importlib.resources import files
from typing import Final

from aegis_app.core.payment import exponent
from aegis_app.core.rates import parse_rates

BY_COUNTRY: Final = {
    "GB": "GBP",
    "CH": "CHF",
    "CZ": "CZK",
    "PL": "PLN",
    "DK": "DKK",
    "NO": "NOK",
    "RO": "RON",
    "TR": "TRY",
    "MA": "MAD",
    "AE": "AED",
    "KW": "KWD",
    "US": "USD",
    "MX": "MXN",
    "BR": "BRL",
    "NG": "NGN",
    "TH": "THB",
    "SG": "SGD",
    "JP": "JPY",
    "AU": "AUD",
}
"""Where it is not EUR."""

RATES_FILE: Final = files(__package__).joinpath("rates.toml").read_text("utf-8")
"""Rates at all times: a payment's worth must not depend on the day it is simulated for. Serves as `AEGIS_RATES` too."""
_TO_THE_EURO: Final = parse_rates(RATES_FILE, "rates.toml", "EUR").per_base

_NOTE: Final = dict.fromkeys(_TO_THE_EURO, 20) | {
    "GBP": 10,
    "CZK": 500,
    "PLN": 50,
    "DKK": 100,
    "NOK": 200,
    "RON": 50,
    "TRY": 200,
    "MAD": 200,
    "AED": 100,
    "KWD": 5,
    "MXN": 500,
    "BRL": 50,
    "NGN": 1000,
    "THB": 1000,
    "SGD": 50,
    "JPY": 10_000,
    "AUD": 50,
}
"""What a cash machine's amounts are multiples of, in whole units."""

_MINOR: Final[dict[str, float]] = {currency: rate * 10 ** exponent(currency) / 100 for currency, rate in _TO_THE_EURO.items()}


def currency_of(country: str) -> str:
    """What is paid with in a country."""
    return BY_COUNTRY.get(country, "EUR")


def minor(worth: float, currency: str) -> int:
    """EUR cents in minor units of `currency`; what is worth anything is at least 1."""
    return max(round(worth * _MINOR[currency]), 1) if worth else 0


def notes(worth: float, currency: str) -> int:
    """The same, of what a cash machine pays out: at least a note."""
    note: int = _NOTE[currency] * 10 ** exponent(currency)
    return max(round(worth * _MINOR[currency] / note), 1) * note
