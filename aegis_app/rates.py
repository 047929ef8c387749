"""The exchange rates of `AEGIS_RATES`."""

from aegis_app.core.rates import Rates, RatesError, parse_rates
from aegis_app.settings import Settings


def load_rates(settings: Settings) -> Rates:
    """Those of the file, or none beside the base currency. Raises `RatesError`."""
    if settings.rates is None:
        return Rates(settings.base_currency)
    try:
        text = settings.rates.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RatesError(f"AEGIS_RATES: {error}") from None
    return parse_rates(text, f"AEGIS_RATES, {settings.rates}", settings.base_currency)
