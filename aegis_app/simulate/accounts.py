"""What is on the holders' accounts."""

from array import array
from typing import Final

from aegis_app.core.payment import Millis
from aegis_app.simulate.chance import spread
from aegis_app.simulate.holders import Holder
from aegis_app.simulate.places import DAY_MS

MONTH_MS: Final = 30 * DAY_MS
MOST_INCOMES: Final = 3.0
"""What is above so many months' income is put aside elsewhere."""


class Accounts:
    """An account for each holder, in EUR cents; income comes by the month. 10 bytes a card."""

    def __init__(self, cards: int) -> None:
        self._balance = array("d", [0.0]) * cards
        self._months = array("H", [0]) * cards

    def balance(self, holder: Holder, at: Millis) -> float:
        """What is on the holder's account; never below 0."""
        number = holder.customer
        month = (at + int(spread(number) * MONTH_MS)) // MONTH_MS
        since = month - self._months[number]
        if since > 0:
            if self._months[number]:
                balance = self._balance[number] + since * holder.income_minor
            else:
                balance = holder.income_minor * (0.2 + 2.8 * spread(number * number))
            self._balance[number] = min(balance, MOST_INCOMES * holder.income_minor)
            self._months[number] = month
        return self._balance[number]

    def take(self, holder: Holder, at: Millis, worth: float) -> None:
        """Debit the holder's account as far as there is something on it; below 0, credit it."""
        self._balance[holder.customer] = max(self.balance(holder, at) - worth, 0.0)
