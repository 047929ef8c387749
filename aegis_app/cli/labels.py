"""Labels from a file, for commands that teach memory without Kafka."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aegis_app.cli import options
from aegis_app.cli.bad_lines import BadLines
from aegis_app.cli.errors import Failure

if TYPE_CHECKING:
    from aegis_app.core.label import Label
    from aegis_app.settings import Settings


@contextmanager
def read_labels(source: Path | None, settings: "Settings") -> Iterator[Iterable["Label"]]:
    """The labels of a file, if there is one. Lines that hold none are reported, and in the end raise `Failure`."""
    from aegis_app.core.replay import read_label_lines

    if source is None:
        yield ()
        return
    bad = BadLines(source)
    with source.open("rb") as lines:
        yield read_label_lines(lines, bad, token=settings.card_id_is_token)
    if bad.end():
        raise Failure(f"{options.number_of(bad.number, 'line')} without a label that can be taken; the others were learnt")
