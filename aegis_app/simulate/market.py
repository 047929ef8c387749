"""What fraudsters have to work with: numbers of cards from anywhere, and terminals that copied those of their customers."""

from collections import deque
from random import Random
from typing import Final

from msgspec import Struct

from aegis_app.core.payment import CARD_PRESENT, Kind, Millis
from aegis_app.simulate.habits import Act
from aegis_app.simulate.holders import Holder, Population
from aegis_app.simulate.merchants import Merchant
from aegis_app.simulate.places import DAY_MS, City

CARDS_A_TERMINAL: Final = 400
"""One terminal copies cards, at any time, for so many cards there are."""
COPYING_MS: Final = 10 * DAY_MS
"""For how long it does, at most."""
MOST_COPIED: Final = 12
LEAST_COPIED: Final = 2
TRIES: Final = 30


class Terminal(Struct):
    """A shop's terminal that somebody tampered with."""

    merchant: Merchant
    since: Millis
    copied: dict[int, Holder]
    """Who paid there, by card."""


class Market:
    """Sells cards."""

    def __init__(self, population: Population, random: Random) -> None:
        self._population = population
        self._random = random
        self._most = 1 + population.cards // CARDS_A_TERMINAL
        self._copying: dict[str, Terminal] = {}
        self._ready: deque[Terminal] = deque(maxlen=4 * self._most)

    def card(self, at: Millis) -> Holder:
        """Anybody's card."""
        return self._population.holder(self._random.randrange(self._population.cards), at)

    def card_from(self, city: City, at: Millis) -> Holder | None:
        """The card of somebody who lives in a city; `None` where none is on offer."""
        on_offer = (self.card(at) for _ in range(TRIES))
        return next((holder for holder in on_offer if holder.home is city), None)

    def terminal(self) -> Terminal | None:
        """A terminal that has copied enough cards; `None` while there is none."""
        return self._ready.popleft() if self._ready else None

    def watch(self, at: Millis, holder: Holder, act: Act) -> None:
        """Take note of a payment: a tampered terminal copies the card."""
        merchant = act.merchant
        if merchant is None or act.channel not in CARD_PRESENT or act.kind is not Kind.PURCHASE:
            return
        terminal = self._copying.get(merchant.merchant_id)
        if terminal is None:
            if len(self._copying) < self._most:
                self._copying[merchant.merchant_id] = Terminal(merchant, at, {holder.card: holder})
            return
        terminal.copied[holder.card] = holder
        if len(terminal.copied) >= MOST_COPIED or at - terminal.since > COPYING_MS:
            del self._copying[merchant.merchant_id]
            if len(terminal.copied) >= LEAST_COPIED:
                self._ready.append(terminal)
