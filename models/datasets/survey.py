"""What a file lacked, noted while it was read."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct, field

from aegis_app.core.fields import hinted, unknown_fields
from aegis_app.core.intake import hide, unmarked

MOST_NAMES: Final = 1000
"""Of unknown fields, that are counted."""
_SHOWN: Final = 20


class Dropped(Struct):
    """Values of a field that were left out, because they cannot be what the field says."""

    number: int
    place: str
    """Of the first."""
    reason: str
    """Why the first was left out."""


class Survey(Struct):
    """Filled by `read_payments` as its payments are taken, so it is complete when they are."""

    missing: Counter[str] = field(default_factory=Counter)
    """Empty cells, by column; columns without any are not named."""
    dropped: dict[str, Dropped] = field(default_factory=dict)
    """By field of the payment, or attribute."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Payments with a field that is none of theirs, by its name."""
    unread: set[str] = field(default_factory=set)
    """Columns of a table in our own format that are no fields."""
    warnings: set[str] = field(default_factory=set)

    def of_lines(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """`lines`, of which each is looked through for fields that are not known."""
        for line in unmarked(lines):
            for name in unknown_fields(line):
                if name in self.unknown or len(self.unknown) < MOST_NAMES:
                    self.unknown[name] += 1
            yield line

    def drop(self, name: str, place: str, reason: str) -> None:
        """Note that the value of `name` at `place` was left out."""
        known = self.dropped.get(name)
        if known is None:
            # What is out of its column may be a card number.
            known = self.dropped[name] = Dropped(0, place, hide(reason.encode()).decode())
        known.number += 1

    def merge(self, other: "Survey") -> None:
        """Add what was noted about another part of the same file."""
        self.missing.update(other.missing)
        self.warnings |= other.warnings
        self.unread |= other.unread
        self.unknown.update(other.unknown)
        for name, theirs in other.dropped.items():
            ours = self.dropped.get(name)
            if ours is None:
                self.dropped[name] = theirs
            else:
                first = min(ours, theirs, key=lambda dropped: int(dropped.place.rpartition(" ")[2]))
                self.dropped[name] = Dropped(ours.number + theirs.number, first.place, first.reason)

    def lines(self) -> Iterator[str]:
        """A line for each thing worth saying; none where nothing is."""
        yield from sorted(self.warnings)
        if self.unknown or self.unread:
            names = [f"{hinted(name)} in {number:,}" for name, number in self.unknown.most_common()] + [*map(hinted, sorted(self.unread))]
            more = f", and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
            yield "fields that no payment has, which are not used: " + ", ".join(names[:_SHOWN]) + more
        if self.missing:
            rows = {name: "1 row" if number == 1 else f"{number:,} rows" for name, number in sorted(self.missing.items())}
            yield "missing: " + ", ".join(f"{name} in {each}" for name, each in rows.items())
        for name, dropped in sorted(self.dropped.items()):
            values = "1 value" if dropped.number == 1 else f"{dropped.number:,} values"
            yield f"{name}: {values} left out, the first in {dropped.place}: {dropped.reason}"
