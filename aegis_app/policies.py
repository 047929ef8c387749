"""The policy in force: the latest on the `policies` topic; while that is empty, that of `AEGIS_POLICY`, or the packaged one."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from aiokafka.structs import ConsumerRecord
from msgspec import Meta, Struct

from aegis_app.broadcast import UnreadableError, read_once
from aegis_app.core.intake import holds_card_number
from aegis_app.core.payment import DAY_MS
from aegis_app.core.policy import Mode, Policy, PolicyError, State, parse_policy
from aegis_app.core.scores import Models
from aegis_app.core.terms import Terms
from aegis_app.logs import log
from aegis_app.packaged import POLICY, packaged_policy
from aegis_app.published import Publications
from aegis_app.rates import load_rates
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name


class Published(Struct, frozen=True, kw_only=True):
    """A policy as on the `policies` topic (key: its version, as of who published it). Unknown fields are ignored."""

    text: Annotated[str, Meta(description="the policy file as it was published, TOML")]
    author: Annotated[str, Meta(min_length=1, max_length=100, description="who published it")]
    note: Annotated[str, Meta(min_length=1, max_length=500, description="why")]
    at: Annotated[datetime, Meta(tz=True, description="when")]


class InForce(Struct, frozen=True):
    """A policy, and where it comes from."""

    policy: Policy
    text: str
    origin: str
    """The topic, `AEGIS_POLICY`, or the package."""
    offset: int | None = None
    published: Published | None = None
    published_as: str | None = None
    """Its version as of who published it: an older Aegis, which knew fewer rules, named it otherwise. These three are the topic's alone."""

    @property
    def version(self) -> str:
        return self.policy.version

    def source(self) -> dict[str, Any]:
        """Where it comes from, for people."""
        if self.published is None:
            return {"from": self.origin}
        by = self.published
        return {"from": self.origin, "offset": self.offset, "author": by.author, "note": by.note, "at": by.at}


class Policies(Publications[InForce]):
    """What the records of the topic amount to."""

    def __init__(self) -> None:
        super().__init__(Name.POLICIES, _read)

    def apply(self, records: Iterable[ConsumerRecord]) -> None:
        before = self.latest
        super().apply(records)
        if self.latest is not None and self.latest is not before:
            source = ", ".join(f"{name} {told}" for name, told in self.latest.source().items())
            log.info("Policy %s (%s) is in force: %s", self.latest.version, self.latest.policy.mode, source)

    def differ(self, one: InForce, other: InForce) -> bool:
        """In more than their mode."""
        return _in_any_mode(one.policy) != _in_any_mode(other.policy)


def _in_any_mode(policy: Policy) -> Policy:
    return msgspec.structs.replace(policy, mode=Mode.OBSERVE)


def _read(record: ConsumerRecord) -> tuple[str, InForce | None]:
    try:
        key = record.key.decode()
        if record.value is None:
            return key, None
        published = msgspec.json.decode(record.value, type=Published)
        policy = parse_policy(published.text, record.topic)
    except PolicyError as error:
        raise UnreadableError(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UnreadableError("it is no policy") from None
    return key, InForce(policy, published.text, record.topic, record.offset, published, key)


def local_policy(settings: Settings) -> InForce:
    """What is in force while nothing is published. Raises `PolicyError`."""
    if settings.policy is None:
        text = packaged_policy()
        return InForce(parse_policy(text, POLICY), text, "the package")
    try:
        text = settings.policy.read_text("utf-8")
    except OSError as error:
        raise PolicyError(f"AEGIS_POLICY: {settings.policy} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise PolicyError(f"AEGIS_POLICY: {settings.policy} is not UTF-8 ({error})") from None
    return InForce(parse_policy(text, str(settings.policy)), text, "AEGIS_POLICY")


def local_terms(settings: Settings, bundle: Models | None = None) -> Terms:
    """What payments are judged by without a broker: local policy and rates, no lists; and a bundle. Raises `PolicyError`, `RatesError`."""
    return Terms(
        local_policy(settings).policy,
        rates=load_rates(settings),
        ttl=settings.card_ttl_days * DAY_MS,
        feature_share=settings.feature_share,
        bundle=bundle,
    )


async def read(settings: Settings) -> Policies:
    """What is on the topic. Raises `KafkaError`, `MissingTopicError`."""
    policies = Policies()
    policies.apply(await read_once(settings, Name.POLICIES))
    return policies


def signed(text: str, *, author: str, note: str, at: datetime) -> Published:
    """What is to be published. Raises `PolicyError` where a worker could not read it."""
    parse_policy(text)
    if holds_card_number(note) or holds_card_number(author):
        raise PolicyError("author or note holds a card number; name its token")
    try:
        return msgspec.convert({"text": text, "author": author, "note": note, "at": at}, Published)
    except msgspec.ValidationError as error:
        raise PolicyError(f"{error}: author and note are some words, at most 100 and 500 characters") from None


async def publish(settings: Settings, published: Published) -> InForce:
    """Put a policy in force for every worker. Raises `KafkaError`."""
    policy = parse_policy(published.text)
    topic = full_name(Name.POLICIES, settings)
    async with Outbox(settings.connection()) as outbox:
        ((offset, _),) = await outbox.publish(topic, 0, [Outgoing(policy.version.encode(), msgspec.json.encode(published))])
    return InForce(policy, published.text, topic, offset, published, policy.version)


_MODE: Final = re.compile(r"""(?m)^(\s*(?:mode|"mode"|'mode')\s*=\s*)(?:"[^"\n]*"|'[^'\n]*')""")


def with_mode(text: str, mode: Mode) -> str:
    """The policy file `text` with this mode, and everything else as it is, comments included. Raises `PolicyError`."""
    line = f'"{mode}"'
    changed, found = _MODE.subn(lambda match: match[1] + line, text, count=1)
    if not found:
        changed = f"mode = {line}\n{text}"
    wanted = parse_policy(text).described() | {"mode": mode.value}
    try:
        if parse_policy(changed).described() == wanted:
            return changed
    except PolicyError:
        pass
    raise PolicyError(f"its mode is written in a way that cannot be changed in place: say mode = {line} on a line of its own")


def surprises(old: Policy, text: str) -> list[str]:
    """What the policy file `text` in place of `old` would begin or end that a command of its own, or a word in the file, should."""
    new, stated = parse_policy(text), tomllib.loads(text)
    found = []
    if old.enforces and not new.enforces:
        found.append("nothing would be enforced any more (mode)")
    if new.enforces and not old.enforces:
        found.append("what is only observed now would be enforced (mode)")
    if old.models.state is not State.ON and new.models.state is State.ON and "state" not in stated.get("models", {}):
        found.append(f"models, now {'off' if old.models.state is State.OFF else 'in shadow'}, would be on, because it gives them no state")
    rules = stated.get("rules", {})
    silent = [name for name in old.on if name not in new.on and "state" not in rules.get(name, {})]
    if silent:
        found.append(f"rules that are on would be in shadow, because it gives them no state: {', '.join(silent)}")
    return found


def silence(policy: Policy, name: str, *, bundle: bool = False) -> str | None:
    """What people are told of a policy that asks for nothing; `bundle`: whether there are models, which may."""
    by_models = policy.models.state is State.ON
    if policy.on or (by_models and bundle):
        return None
    return f"no rule is on in {name}: it asks for nothing{' without a bundle' if by_models else ''}"


Difference = tuple[str, Any, Any]
"""Name of an entry, what it was and what it is; `None` for absent."""


def difference(old: Policy, new: Policy) -> list[Difference]:
    """What differs, entry by entry."""
    was, now = _flat(old.described()), _flat(new.described())
    return [(name, was.get(name), now.get(name)) for name in was | now if was.get(name) != now.get(name)]


def _flat(described: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in described.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: value}
    return flat
