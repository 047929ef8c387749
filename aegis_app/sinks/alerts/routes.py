"""The routes file: which decisions go to which destinations, and how each is reached. Secrets stand in it by the names of variables."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.decision import CODES
from aegis_app.core.entries import line, located
from aegis_app.core.payment import Money, Outcome
from aegis_app.settings import PREFIX, Settings, secret
from aegis_app.sinks.alerts.message import Decided

EXAMPLE: Final = "alerts.example.toml"
LEAST_KEY: Final = 16
"""Characters of a key that signs."""

Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Seconds = Annotated[float, Meta(ge=0, le=3600)]
TimeLimit = Annotated[float, Meta(ge=1, le=60)]


class RoutesError(ValueError):
    """The routes file is wrong; the message names the line and the entry, and never shows a secret."""


class Destination(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Where messages go. An address that holds a secret is given by the name of the variable that has it."""

    url: Annotated[str, Meta(min_length=1)] | None = None
    url_env: Variable | None = None
    group_seconds: Seconds = 60.0
    """From the first decision about a card until the message that tells of it and of those that followed."""
    timeout_seconds: TimeLimit = 10.0
    """For one attempt."""

    def __post_init__(self) -> None:
        if (self.url is None) is (self.url_env is None):
            raise ValueError("give either url, or url_env with the name of the variable that holds it")

    def address(self) -> str:
        """Raises `ValueError` with a name in it, never with the address."""
        return self.url if self.url is not None else _from_environment(self.url_env or "")


class Webhook(Destination, frozen=True, tag="webhook"):
    """A server that takes signed JSON by POST."""

    key_env: Variable

    def key(self) -> bytes:
        """Raises `ValueError`."""
        key = _from_environment(self.key_env)
        if len(key) < LEAST_KEY:
            raise ValueError(f"{self.key_env} is shorter than {LEAST_KEY} characters: make one with `openssl rand -hex 32`")
        return key.encode()


class Service(Destination, frozen=True, tag="apprise"):
    """A service that apprise reaches: e-mail, Slack, SMS, push and so on. What it gets is text."""


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Decisions that go to some destinations: those for which all that is said here is so. What cannot be told counts as so."""

    to: Annotated[list[str], Meta(min_length=1)]
    verdicts: Annotated[tuple[Outcome, ...], Meta(min_length=1)] = (Outcome.REVIEW, Outcome.BLOCK)
    reasons: list[str] = []
    """Codes, rules' names among them, of which the decision has one; any if none is named."""
    least_score: Annotated[float, Meta(ge=0, le=1)] = 0.0
    least_minor: Money = 0
    """Amount in minor units of the base currency."""

    def takes(self, decided: Decided, amount: int | None) -> bool:
        """Whether `decided` goes this way; `amount` is its own in the base currency, where known."""
        return (
            decided.verdict in self.verdicts
            and (not self.reasons or any(reason.code in self.reasons for reason in decided.reasons))
            and (decided.score is None or decided.score >= self.least_score)
            and (amount is None or amount >= self.least_minor)
        )


class Routes(Struct, frozen=True):
    """A validated routes file."""

    destinations: dict[str, Webhook | Service]
    routes: dict[str, Route]
    base: str
    """The currency in which amounts are compared."""

    def about(self, decided: Decided) -> dict[str, list[str]]:
        """The destinations that are to be told of a decision, each with the names of the routes that lead there."""
        amount = self._amount(decided)
        found: dict[str, list[str]] = {}
        for name, route in self.routes.items():
            if route.takes(decided, amount):
                for destination in route.to:
                    found.setdefault(destination, []).append(name)
        return found

    def _amount(self, decided: Decided) -> int | None:
        known = (decided.features or {}).get("amount")
        return decided.amount_minor if known is None and decided.currency == self.base else known


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    destinations: dict[str, dict[str, Any]]
    routes: dict[str, dict[str, Any]]


def load_routes(settings: Settings) -> Routes:
    """The routes of `AEGIS_ALERTS`. Raises `RoutesError`."""
    if settings.alerts is None:
        raise RoutesError(
            "AEGIS_ALERTS is not set: `aegis alerts example > alerts.toml` makes a file to begin with, set AEGIS_ALERTS to it"
        )
    return read_routes(settings.alerts, settings.base_currency)


def read_routes(path: Path, base: str) -> Routes:
    """Raises `RoutesError`."""
    try:
        return parse_routes(path.read_text("utf-8"), str(path), base)
    except (OSError, UnicodeDecodeError) as error:
        raise RoutesError(f"AEGIS_ALERTS: {error}") from None


def parse_routes(text: str, name: str, base: str) -> Routes:
    """Read a routes file. Raises `RoutesError` with line and entry, for a variable that is not set too."""
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise RoutesError(f"{name}: {error}") from None
    except msgspec.ValidationError as error:
        raise RoutesError(located(text, name, error)) from None
    destinations = {each: _destination(fields, each, text, name) for each, fields in file.destinations.items()}
    routes = {each: _route(fields, each, destinations, text, name) for each, fields in file.routes.items()}
    for unused in destinations.keys() - {each for route in routes.values() for each in route.to}:
        raise RoutesError(f"{name}, line {line(text, ['destinations', unused])}: no route leads to {unused}")
    return Routes(destinations, routes, base)


_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,50}")


def _destination(fields: dict[str, Any], each: str, text: str, name: str) -> Webhook | Service:
    try:
        if not _NAME.fullmatch(each):
            raise msgspec.ValidationError("a destination's name is at most 50 letters, digits, - and _")
        made = msgspec.convert(fields, Webhook | Service)
        _check(made)
        return made
    except msgspec.ValidationError as error:
        raise RoutesError(located(text, name, error, ["destinations", each])) from None


def _check(made: Webhook | Service) -> None:
    entry = "url" if made.url is not None else "url_env"
    try:
        parts = urlsplit(made.address())
        if made.url is not None and parts.password is not None:
            raise ValueError("the address holds a password: put it into a variable, and that variable's name into url_env")
        if isinstance(made, Webhook):
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError("a webhook's address begins with https:// or http://, and names a host")
            entry = "key_env"
            made.key()
    except ValueError as error:
        raise msgspec.ValidationError(f"{error} - at `$.{entry}`") from None


def _route(fields: dict[str, Any], each: str, destinations: Iterable[str], text: str, name: str) -> Route:
    try:
        route = msgspec.convert(fields, Route)
        _known(route.to, destinations, "destination", "to")
        _known(route.reasons, CODES, "reason", "reasons")
        if Outcome.ALLOW in route.verdicts:
            raise msgspec.ValidationError("nobody is told of what is allowed: `review` or `block` - at `$.verdicts`")
    except msgspec.ValidationError as error:
        raise RoutesError(located(text, name, error, ["routes", each])) from None
    return route


def _known(named: Iterable[str], known: Iterable[str], what: str, entry: str) -> None:
    for each in named:
        if each not in known:
            raise msgspec.ValidationError(f"there is no {what} {each!r}; there are {', '.join(known)} - at `$.{entry}`")


def _from_environment(name: str) -> str:
    if name.startswith(PREFIX):
        raise ValueError(f"{name} is taken for a setting of Aegis: give the variable a name that does not begin with {PREFIX}")
    value = secret(name)
    if value is None:
        raise ValueError(f"the environment has no {name}")
    return value
