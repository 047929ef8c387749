"""What a rule is: a named function of a payment, its features and its limits."""

from collections.abc import Callable
from typing import Any, Final, Literal

from msgspec import Struct

from aegis_app.core.features import Features
from aegis_app.core.payment import Transaction

LEAST_HABIT: Final = 5
"""Payments from which a card's habit counts as known."""


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule's limits, with units and defaults; the policy file fills them in."""


class Hit(Struct, frozen=True, gc=False):
    """The rule is met; `sentence` says so in figures."""

    sentence: str


class Failed(Struct, frozen=True, gc=False):
    """The rule broke: that is a finding, neither a hit nor "no risk"."""

    rule: str
    error: str


CLEAR: Final = "clear"
UNKNOWN: Final = "unknown"
Check = Hit | Literal["clear", "unknown"]
Rulelike = Callable[[Transaction, Features, Any], Check]


class Rule(Struct, frozen=True):
    """A function and its limits' type. The function's name is the rule's, for ever; its first docstring line is its text."""

    function: Rulelike
    limits: type[Limits]
    of_others: bool = False
    """Whether it asks what payments of other cards told."""

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def text(self) -> str:
        return (self.function.__doc__ or "").strip().splitlines()[0]
