"""What is still to be told, by destination and card: what the records on `alerts` amount to."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
from aiokafka.structs import ConsumerRecord
from msgspec import Struct

from aegis_app.broadcast import UnreadableError, readable
from aegis_app.core.payment import Millis
from aegis_app.sinks.alerts.message import Raised, decode_raised
from aegis_app.topics import Name


class Group(NamedTuple):
    """Decisions that one message can tell of."""

    destination: str
    card_id: str


class Waits(Struct, frozen=True):
    """A decision that waits, and its record."""

    key: bytes
    partition: int
    offset: int
    raised: Raised
    written: Millis


class Waiting:
    """`news` is called when something came."""

    def __init__(self, news: Callable[[], None] = lambda: None) -> None:
        self.groups: dict[Group, dict[bytes, Waits]] = {}
        self._news = news
        self._groups: dict[bytes, Group] = {}

    def holds(self, waits: Waits) -> bool:
        """Whether it still waits, and not another that came by its key since."""
        group = self._groups.get(waits.key)
        return group is not None and self.groups[group][waits.key].offset == waits.offset

    def apply(self, records: Iterable[ConsumerRecord]) -> None:
        for key, waits in readable(Name.ALERTS, records, _read):
            self._drop(key)
            if waits is not None:
                group = Group(waits.raised.destination, waits.raised.decision.card_id)
                self.groups.setdefault(group, {})[key] = waits
                self._groups[key] = group
        self._news()

    def _drop(self, key: bytes) -> None:
        group = self._groups.pop(key, None)
        if group is not None:
            del self.groups[group][key]
            if not self.groups[group]:
                del self.groups[group]


def _read(record: ConsumerRecord) -> tuple[bytes, Waits | None]:
    if record.key is None:
        raise UnreadableError("it has no key")
    if record.value is None:
        return record.key, None
    try:
        return record.key, Waits(record.key, record.partition, record.offset, decode_raised(record.value), record.timestamp)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UnreadableError("it is nothing that anybody is to be told") from None
