"""What is published on a compacted topic, one after the other: the latest is in force, and earlier ones can be put in force again."""

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from aiokafka.structs import ConsumerRecord

from aegis_app.broadcast import readable
from aegis_app.topics import Name


class Publication(Protocol):
    """Something that was published."""

    @property
    def version(self) -> str:
        """Names what it means."""

    @property
    def published_as(self) -> str | None:
        """The key of its record: its version as of who published it."""


P = TypeVar("P", bound=Publication)


class Publications(Generic[P]):
    """What the records of a topic amount to; `read` gives a record's key and what it holds, `None` for one that is taken back."""

    def __init__(self, name: Name, read: Callable[[ConsumerRecord], tuple[str, P | None]]) -> None:
        self.past: list[P] = []
        """All that were published and can be read, in their order."""
        self._name = name
        self._read = read

    @property
    def latest(self) -> P | None:
        """The one in force; `None` while nothing is published."""
        return self.past[-1] if self.past else None

    def apply(self, records: Iterable[ConsumerRecord]) -> None:
        for key, found in readable(self._name, records, self._read):
            if found is None:
                self.past = [each for each in self.past if each.published_as != key]
            else:
                self.past.append(found)

    def earlier(self, version: str | None = None) -> P | None:
        """The latest of this version; without one, the latest that differs from the one in force: asked for again, it leads back."""
        for each in reversed(self.past):
            if version in {each.version, each.published_as} if version is not None else self.differ(each, self.past[-1]):
                return each
        return None

    def differ(self, one: P, other: P) -> bool:
        """Whether to go from one to the other is to go back."""
        return one.version != other.version
