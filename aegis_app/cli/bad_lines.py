"""Lines of a file that hold nothing that can be taken."""

from pathlib import Path
from typing import Final

import click

MOST_TOLD: Final = 10


class BadLines:
    """Called with each of them. stderr says of the first ten what is wrong, and in the end how many more there are."""

    def __init__(self, source: Path | str) -> None:
        self._source = source
        self.number = 0

    def __call__(self, number: int, error: object) -> None:
        self.number += 1
        if self.number <= MOST_TOLD:
            click.echo(f"{self._source}, line {number}: {error}", err=True)

    def end(self) -> int:
        """Tell of the rest. Returns how many there are in all."""
        if self.number > MOST_TOLD:
            click.echo(f"{self._source}: and {self.number - MOST_TOLD:,} more such lines", err=True)
        return self.number
