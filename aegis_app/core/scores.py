"""What models say of payments. The core asks them; it knows neither what they are made of nor where they come from."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from aegis_app.core.case import Case
from aegis_app.core.features import Features
from aegis_app.core.payment import ALLOW, Outcome

Cause = tuple[str, str]
"""A reason code, and a sentence with the figures."""


class Scored(Struct, frozen=True, gc=False):
    """What models say of a payment; `None` where they could not tell, which is never "no risk"."""

    bundle: str | None
    """Version of the models; `None` where none were asked."""
    layers: Mapping[str, float | None]
    """By name, 0 to 1, 1 is fraud."""
    score: float | None
    """0 to 1, 1 is fraud: ranks payments, by the layers that stand."""
    probability: float | None
    """Of fraud, calibrated; `None` too where it is not, and where not every layer stands."""
    asks: Outcome = ALLOW
    sentence: str = ""
    """Why they ask for that; empty for `allow`."""
    failures: tuple[tuple[str, str], ...] = ()
    """Layers that could not tell, and why."""


class Said(Protocol):
    """What models say of several payments, in their order."""

    @property
    def scored(self) -> Sequence[Scored]:
        """Of each."""

    def causes(self, places: Sequence[int]) -> Sequence[Sequence[Cause]] | None:
        """Why the payments at these places are suspicious, strongest first; `None` where that could not be found out."""


class Models(Protocol):
    """A bundle at work. A payment is told the same, whichever others are asked about beside it."""

    @property
    def version(self) -> str:
        """Names what decides a score."""

    @property
    def of_others(self) -> bool:
        """Whether payments of other cards flow into what it is given."""

    def ask(self, payments: Sequence[tuple[Case, Features]]) -> Said:
        """Score payments, one call of each model for all of them."""
