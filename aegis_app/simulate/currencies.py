"""What things cost in the money of a place. Within the simulator, what a thing is worth is counted in EUR cents."""

from typing import Final

from aegis_app.core.payment import exponent

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

_TO_THE_EURO: Final = {
    "EUR": 1.0,
    "GBP": 0.86,
    "CHF": 0.94,
    "CZK": 24.7,
    "PLN": 4.25,
    "DKK": 7.46,
    "NOK": 11.6,
    "RON": 5.0,
    "TRY": 46.0,
    "MAD": 10.6,
    "AED": 4.25,
    "KWD": 0.355,
    "USD": 1.16,
    "MXN": 21.5,
    "BRL": 6.3,
    "NGN": 1750.0,
    "THB": 37.5,
    "SGD": 1.5,
    "JPY": 172.0,
    "AUD": 1.77,
}
"""Rounded, and the same at all times: a payment's worth must not depend on the day it is simulated for."""

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
