"""What the house wants: which rules count, their limits, what they ask for, and whether outcomes are enforced."""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.entries import line as _line
from aegis_app.core.entries import located
from aegis_app.core.payment import Money, Outcome
from aegis_app.core.rules import RULES, Limits, Rule
from aegis_app.core.rules.rule import Rulelike

_BY_NAME: Final[Mapping[str, Rule]] = {rule.name: rule for rule in RULES}


class PolicyError(ValueError):
    """A policy file is wrong; the message names the line and the entry."""


class Mode(StrEnum):
    """`observe`: every outcome is `allow`, the verdict stands beside it. `enforce`: the outcome is the verdict."""

    OBSERVE = "observe"
    ENFORCE = "enforce"


class State(StrEnum):
    """`shadow`: a hit is reported and counted, and asks for nothing."""

    ON = "on"
    SHADOW = "shadow"
    OFF = "off"


class Clause(Struct, frozen=True):
    """One rule under this policy."""

    rule: Rule
    state: State
    asks: Outcome
    limits: Limits


class ModelClause(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The models of the bundle in force under this policy. From which score they ask for what, the bundle says."""

    state: State = State.ON
    """`shadow`: they are asked, what they say stands in the decision, and asks for nothing. `off`: they are not asked."""
    most: Outcome = Outcome.BLOCK
    """The strictest that they may ask for; `review`: they block nothing."""


Share = Annotated[float, Meta(ge=0, le=0.5)]


class Policy(Struct, frozen=True, dict=True):
    """A validated policy. `dict`: so that the cached properties have a place."""

    mode: Mode
    on_failure: Outcome
    clauses: tuple[Clause, ...]
    control_share: float = 0.0
    """Of payments, by a hash of their ids: would-be blocks that pass, and allowed ones that go to review, so that learning is not blind
    to what policy keeps out."""
    control_most_minor: int = 50_00
    """The largest amount that passes so, minor units of the base currency."""
    models: ModelClause = ModelClause()

    @cached_property
    def asked(self) -> tuple[tuple[Clause, Rulelike, Limits], ...]:
        """The clauses to check, all but those that are off, each with its rule's function and limits at hand."""
        return tuple((clause, clause.rule.function, clause.limits) for clause in self.clauses if clause.state is not State.OFF)

    @cached_property
    def asks_of_others(self) -> bool:
        """Whether a rule that is not off asks what payments of other cards told."""
        return any(clause.rule.of_others for clause, _, _ in self.asked)

    @cached_property
    def version(self) -> str:
        """Names this policy's content in every decision: 12 hexadecimal digits."""
        return sha256(msgspec.json.encode(self.described(), order="sorted")).hexdigest()[:12]

    @property
    def on(self) -> tuple[str, ...]:
        """Names of the rules that are on."""
        return tuple(clause.rule.name for clause in self.clauses if clause.state is State.ON)

    @property
    def enforces(self) -> bool:
        return self.mode is Mode.ENFORCE

    def described(self) -> dict[str, Any]:
        """The policy as its file would say it, every default written out."""
        return {
            "mode": self.mode.value,
            "on_failure": self.on_failure.value,
            "control_share": self.control_share,
            "control_most_minor": self.control_most_minor,
            "models": {"state": self.models.state.value, "most": self.models.most.value},
            "rules": {
                clause.rule.name: {
                    "state": clause.state.value,
                    "asks": clause.asks.value,
                    **msgspec.to_builtins(clause.limits),
                }
                for clause in self.clauses
            },
        }


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    mode: Mode = Mode.OBSERVE
    on_failure: Outcome = Outcome.REVIEW
    control_share: Share = 0.0
    control_most_minor: Money = 50_00
    models: ModelClause = ModelClause()
    rules: dict[str, dict[str, Any]] = {}


_ASKED: Final = (Outcome.REVIEW, Outcome.BLOCK)
_WORDS: Final = {"mode": Mode, "state": State, "on_failure": Outcome, "asks": _ASKED, "most": _ASKED}


class _Head(Struct, frozen=True):
    state: State = State.SHADOW
    asks: Outcome = Outcome.REVIEW


def parse_policy(text: str, name: str = "policy.toml") -> Policy:
    """Read a policy file. A rule that it does not name runs in shadow. Raises `PolicyError` with line and entry."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{name}: {error}") from None
    try:
        file = msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        raise _located(text, name, error) from None
    for unknown in file.rules.keys() - _BY_NAME.keys():
        raise PolicyError(f"{name}, line {_line(text, ['rules', unknown])}: there is no rule {unknown!r}; rules are {', '.join(_BY_NAME)}")
    clauses = tuple(_clause(rule, file.rules.get(rule.name, {}), text, name) for rule in RULES)
    if file.models.most is Outcome.ALLOW:
        raise PolicyError(
            f'{name}, line {_line(text, ["models", "most"])}: models.most: `review` or `block`; state = "shadow" asks for nothing'
        )
    return Policy(file.mode, file.on_failure, clauses, file.control_share, file.control_most_minor, file.models)


def _clause(rule: Rule, entries: dict[str, Any], text: str, name: str) -> Clause:
    limits = {key: value for key, value in entries.items() if key not in _Head.__struct_fields__}
    try:
        head = msgspec.convert(entries, _Head)
        if head.asks is Outcome.ALLOW:
            raise msgspec.ValidationError("a rule asks for `review` or `block` - at `$.asks`")
        return Clause(rule, head.state, head.asks, msgspec.convert(limits, rule.limits))
    except msgspec.ValidationError as error:
        raise _located(text, name, error, ["rules", rule.name]) from None


def _located(text: str, name: str, error: msgspec.ValidationError, above: list[str] | None = None) -> PolicyError:
    return PolicyError(located(text, name, error, above, _WORDS))
