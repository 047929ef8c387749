"""Labels for commands that teach memory without Kafka: from a file of them, or of a data set that says itself what was fraud."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aegis_app.cli import options
from aegis_app.cli.errors import Failure
from aegis_app.progress import counted

if TYPE_CHECKING:
    from aegis_app.core.intake import Refused
    from aegis_app.core.label import Label
    from aegis_app.core.payment import Millis
    from aegis_app.settings import Settings


@contextmanager
def read_labels(source: Path | None, settings: "Settings") -> Iterator[Iterable["Label"]]:
    """The labels of a file, if there is one. Lines that hold none are reported, and in the end raise `Failure`."""
    from aegis_app.core.replay import read_label_lines

    if source is None:
        yield ()
        return
    bad = 0

    def refuse(number: int, refused: "Refused") -> None:
        nonlocal bad
        bad += 1
        click.echo(f"{source}, line {number}: {refused}", err=True)

    with source.open("rb") as lines:
        yield read_label_lines(lines, refuse, token=settings.card_id_is_token)
    if bad:
        raise Failure(f"{options.number_of(bad, 'line')} without a label that can be taken; the others were learnt")


def frauds_told_by(data: Path, layout: str | None, settings: "Settings", delay: float, begin: "Millis") -> list["Label"]:
    """Of each fraud in a data set, `delay` days after it. Raises `EvaluationError` where a payment since the day of `begin` has none."""
    from aegis_app.core.payment import DAY_MS
    from models.datasets import read_payments
    from models.evaluation.handbook import frauds

    with options.counting("reading labels") as count:
        examples = counted(read_payments(data, format=layout, currency=settings.base_currency), count)
        return list(frauds(examples, delay, range(begin // DAY_MS, _EVER)))


_EVER = 1 << 31
"""A day that never comes."""
