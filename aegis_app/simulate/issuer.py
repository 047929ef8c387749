"""Which card a holder has: one that was taken, or whose number leaked, is replaced by another of the same holder's."""

from typing import Final

from aegis_app.core.payment import Millis
from aegis_app.simulate.chance import token
from aegis_app.simulate.holders import Holder
from aegis_app.simulate.places import DAY_MS

POST_MS: Final = 3 * DAY_MS
"""How long a new card takes to arrive."""


class Issuer:
    """Remembers the cards that were replaced, and those that are to be."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._issued: dict[int, int] = {}
        self._lost: dict[int, tuple[Millis, Millis]] = {}

    def card_id(self, holder: Holder, at: Millis) -> str:
        """Of the card that the holder has, or had last."""
        issue = self.issue(holder.card, at)
        return token("c", b"card id", self._seed, holder.card, issue) if issue else holder.card_id

    def issue(self, card: int, at: Millis) -> int:
        """How often a card was replaced."""
        lost = self._lost.get(card)
        if lost is not None and at >= lost[1]:
            del self._lost[card]
            self._issued[card] = self._issued.get(card, 0) + 1
        return self._issued.get(card, 0)

    def is_usable(self, card: int, at: Millis) -> bool:
        """Whether the holder has the card, and it is not stopped."""
        lost = self._lost.get(card)
        return lost is None or at < lost[0] or at >= lost[1]

    def stop(self, card: int, at: Millis) -> None:
        """Nobody pays with the card from `at` on, and a new one comes; the first of several reasons counts."""
        lost = self._lost.get(card)
        if lost is None or at < lost[0]:
            self._lost[card] = (at, at + POST_MS)
