"""What is known about payments afterwards. Labels only judge the result: no decision sees them."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.intake import unmarked
from aegis_app.core.label import STRENGTH, Source
from aegis_app.core.payment import Identifier


class Truth(Struct, frozen=True, gc=False):
    """What a payment was; `is_fraud` is `None` where nobody says. Only frauds have a type, and not all of them."""

    is_fraud: bool | None
    fraud_type: str | None = None


class _Label(Struct, frozen=True, gc=False):
    """As much of a label as judging takes: a file of truth need not know card, time and source, as the topic must."""

    transaction_id: Identifier
    is_fraud: bool
    fraud_type: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    source: Source | None = None
    labelled_at: Annotated[datetime, Meta(tz=True)] | None = None


_decode = msgspec.json.Decoder(_Label).decode
_STRENGTH: Final = dict[Source | None, int]([(None, 0), *STRENGTH.items()])
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def read_labels(lines: Iterable[bytes], refuse: Callable[[int, Exception], object]) -> dict[str, Truth]:
    """By transaction_id, from a label a line; lines that hold none go to `refuse` with their number, and the rest go on.

    Of several about one payment the strongest source wins, then the latest `labelled_at`, then the last line. One without a source is
    weaker than all others, one without a time older.
    """
    best: dict[str, tuple[tuple[int, datetime], Truth]] = {}
    known: dict[tuple[bool, str | None], Truth] = {}
    for number, line in enumerate(unmarked(lines), start=1):
        if line.isspace():
            continue
        try:
            label = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refuse(number, error)
            continue
        weight = (_STRENGTH[label.source], _LONG_AGO if label.labelled_at is None else label.labelled_at)
        before = best.get(label.transaction_id)
        if before is None or before[0] <= weight:
            said = (label.is_fraud, label.fraud_type if label.is_fraud else None)
            # Few truths, shared by many payments: processes are handed each once.
            best[label.transaction_id] = (weight, known.setdefault(said, Truth(*said)))
    return {transaction_id: truth for transaction_id, (_, truth) in best.items()}
