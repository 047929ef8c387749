"""What a file lacked, noted while it was read."""

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct, field

from aegis_app.core.intake import hide


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
    warnings: set[str] = field(default_factory=set)

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
        if self.missing:
            yield "missing: " + ", ".join(f"{name} in {number:,} rows" for name, number in sorted(self.missing.items()))
        for name, dropped in sorted(self.dropped.items()):
            values = "1 value" if dropped.number == 1 else f"{dropped.number:,} values"
            yield f"{name}: {values} left out, the first in {dropped.place}: {dropped.reason}"
