"""What people are not to be told of for a while: on a compacted topic, so that every process and every shell knows the same.

Never empty once alerts have run: the first process puts its beginning there, as the end of a snooze of everything. Decisions made before
raise nothing, or the first start would tell of a month's.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Annotated, Final

import msgspec
from aiokafka.structs import ConsumerRecord
from msgspec import Meta, Struct

from aegis_app.broadcast import UnreadableError, read_once, readable
from aegis_app.core.decision import CODES
from aegis_app.core.intake import hide_text, holds_card_number
from aegis_app.core.payment import looks_like_card_number
from aegis_app.settings import Settings
from aegis_app.sinks.alerts.message import Told
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name

LONGEST: Final = timedelta(days=365)
ASKING: Final = tuple(code for code in CODES if code not in {"control", "allow_list"} and not code.startswith("model_"))
"""Codes of what asks for something: rules, lists, models, and failures of these. The others tell more about it."""
_BESIDES: Final = frozenset(CODES) - frozenset(ASKING)


class SnoozeError(ValueError):
    """Nothing that can be snoozed; the message never holds a card number."""


class Of(StrEnum):
    """What a snooze is about."""

    CARD = "card"
    RULE = "rule"
    ALL = "all"


class Snooze(Struct, frozen=True, kw_only=True):
    """As on `alerts-snoozed` (key: of:value). Ended early it is one whose `until` has come."""

    of: Of
    value: Annotated[str, Meta(max_length=64, description="a card_id, or a reason's code; empty for everything")]
    until: Annotated[datetime, Meta(tz=True, description="decisions made before this time raise nothing")]
    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    by: Annotated[str, Meta(min_length=1, max_length=100)]
    at: Annotated[datetime, Meta(tz=True)]

    @property
    def key(self) -> str:
        return f"{self.of}:{self.value}"

    def check(self, *, token: bool) -> None:
        """Raise `SnoozeError` where it makes no sense, or a card number stands in it. `token`: card_ids may look like card numbers."""
        is_token = token and self.of is Of.CARD
        if self.of is Of.RULE and self.value not in ASKING:
            raise SnoozeError(f"{hide_text(self.value)!r} is nothing that asks for a review or block; {', '.join(ASKING)} are")
        if (self.of is Of.ALL) is not (self.value == ""):
            raise SnoozeError("a card or a rule has a name, everything has none")
        if looks_like_card_number(self.value) and not is_token:
            raise SnoozeError("that looks like a card number; name its token (or set AEGIS_CARD_ID_IS_TOKEN=true, where card_ids look so)")
        for text in (self.reason, self.by) if is_token else (self.value, self.reason, self.by):
            if holds_card_number(text):
                raise SnoozeError("there is a card number in it; name its token")


class Snoozes:
    """Those on the topic. `token`: card_ids may look like card numbers."""

    def __init__(self, *, token: bool) -> None:
        self.latest: dict[str, Snooze] = {}
        self._read = partial(_read, token=token)

    @property
    def began(self) -> datetime | None:
        """Nobody is told of decisions made before; `None` while alerts never ran."""
        everything = self.latest.get(f"{Of.ALL}:")
        return None if everything is None else everything.until

    def apply(self, records: Iterable[ConsumerRecord]) -> None:
        for snooze in readable(Name.ALERTS_SNOOZED, records, self._read):
            self.latest[snooze.key] = snooze

    def silence(self, told: Told) -> bool:
        """Whether nobody is to be told: everything sleeps, or the card does, or all that asked for something."""
        if (self.began is not None and told.decided_at < self.began) or self._sleeps(f"card:{told.card_id}", told):
            return True
        asked = [reason.code for reason in told.reasons if reason.code not in _BESIDES]
        return bool(asked) and all(self._sleeps(f"rule:{code}", told) for code in asked)

    def _sleeps(self, key: str, told: Told) -> bool:
        snooze = self.latest.get(key)
        return snooze is not None and told.decided_at < snooze.until


def _read(record: ConsumerRecord, *, token: bool) -> Snooze:
    try:
        snooze = msgspec.json.decode(record.value or b"", type=Snooze)
        snooze.check(token=token)
    except (msgspec.DecodeError, UnicodeDecodeError, SnoozeError):
        raise UnreadableError("it is no snooze") from None
    return snooze


async def read(settings: Settings) -> list[Snooze]:
    """All on the topic, those that have ended too, soonest end first. Raises `KafkaError`, `MissingTopicError`."""
    snoozes = Snoozes(token=settings.card_id_is_token)
    snoozes.apply(await read_once(settings, Name.ALERTS_SNOOZED))
    return sorted(snoozes.latest.values(), key=lambda each: each.until)


async def publish(settings: Settings, snooze: Snooze) -> None:
    """Put a snooze in force, in place of what was said of the same before. Raises `SnoozeError`, `KafkaError`."""
    snooze.check(token=settings.card_id_is_token)
    async with Outbox(settings.connection()) as outbox:
        record = Outgoing(snooze.key.encode(), msgspec.json.encode(snooze))
        await outbox.publish(full_name(Name.ALERTS_SNOOZED, settings), 0, [record])


def make(of: Of, value: str, length: timedelta, *, reason: str, by: str, at: datetime) -> Snooze:
    """Raises `SnoozeError`. A `length` of zero ends a snooze."""
    if length > LONGEST:
        raise SnoozeError(f"a snooze lasts {LONGEST.days} days at most: what nobody ever wants to hear of belongs into the routes file")
    try:
        return msgspec.convert({"of": of, "value": value, "until": at + length, "reason": reason, "by": by, "at": at}, Snooze)
    except msgspec.ValidationError as error:
        raise SnoozeError(f"{error}: value, reason and by are some words, at most 64, 500 and 100 characters") from None


_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


def parse_length(text: str) -> timedelta:
    """`30m`, `8h`, `7d`. Raises `SnoozeError`."""
    found = re.fullmatch(r"(\d{1,5})([mhd])", text)
    if found is None or int(found[1]) == 0:
        raise SnoozeError(f"{text!r} is no length of time: a number and m, h or d, as in 30m, 8h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
