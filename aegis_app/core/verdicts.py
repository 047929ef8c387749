"""What was said about a card's payments: one verdict for each, packed, in the order of the payments' times.

At most `MOST_VERDICTS`; where there are more, that of the oldest payment goes. A verdict is kept whether or not its payment is known.
"""

from enum import StrEnum
from operator import attrgetter
from struct import Struct as Packed
from typing import Final, NamedTuple

from aegis_app.core.label import STRENGTH, Label
from aegis_app.core.payment import Millis

MOST_VERDICTS: Final = 32
VERDICT: Final = Packed("<8sqqBB")
"""Hash of the transaction_id, the payment's time, when the verdict became known, strength of its source, marks."""
FRAUD: Final = 1
OUT: Final = 2
"""Marks: it was fraud; it was taken out of habit."""


class Verdict(NamedTuple):
    """The one in force about a payment."""

    payment: bytes
    """Hash of its transaction_id, 8 bytes."""
    at: Millis
    """The payment's time."""
    known_at: Millis
    strength: int
    """Of the source, see `label.STRENGTH`."""
    marks: int

    @property
    def is_fraud(self) -> bool:
        return bool(self.marks & FRAUD)

    @property
    def is_out(self) -> bool:
        """Whether its payment was taken out of habit."""
        return bool(self.marks & OUT)


class Ignored(StrEnum):
    """Why a label changes no verdict; a closed set, because it labels a metric."""

    REPEAT = "repeat"
    """It says what is known, and no later."""
    WEAKER = "weaker"
    """A stronger source has spoken, or the same one later."""
    OLD = "old"
    """Its payment is older than all whose verdicts are kept."""


def verdict_on(verdicts: bytes, payment: bytes) -> Verdict | None:
    """The one in force about the payment of this hash."""
    return next((each for each in unpack(verdicts) if each.payment == payment), None) if verdicts else None


def unpack(verdicts: bytes) -> list[Verdict]:
    """In the order of the payments' times."""
    return [Verdict(*each) for each in VERDICT.iter_unpack(verdicts)]


def weigh(verdicts: bytes, payment: bytes, label: Label) -> Verdict | Ignored:
    """The verdict that `label` makes about its payment, of this hash, or why it makes none.

    The stronger source wins, then the later moment; at the same moment, fraud does. So the order in which labels come decides nothing.
    """
    before = verdict_on(verdicts, payment)
    out = OUT if before is not None and before.is_out else 0
    found = Verdict(payment, label.at, label.known_at, STRENGTH[label.source], out | (FRAUD if label.is_fraud else 0))
    if before is None:
        is_full = len(verdicts) >= MOST_VERDICTS * VERDICT.size
        return Ignored.OLD if is_full and _by_time(found) < _by_time(unpack(verdicts)[0]) else found
    if _weight(found) > _weight(before):
        return found
    return Ignored.REPEAT if _weight(found) == _weight(before) else Ignored.WEAKER


def put(verdicts: bytes, verdict: Verdict) -> bytes:
    """The column with `verdict` in place of what was said about that payment before."""
    kept = [each for each in unpack(verdicts) if each.payment != verdict.payment]
    return b"".join(VERDICT.pack(*each) for each in sorted([*kept, verdict], key=_by_time)[-MOST_VERDICTS:])


def frauds(verdicts: bytes, at: Millis) -> tuple[int, Millis | None]:
    """Confirmed frauds that were known at `at`, and when the latest of them became known."""
    if not verdicts:
        return _NO_FRAUDS
    known = [each.known_at for each in unpack(verdicts) if each.is_fraud and each.known_at <= at]
    return len(known), max(known, default=None)


_NO_FRAUDS: Final = 0, None
_by_time: Final = attrgetter("at", "payment")


def _weight(verdict: Verdict) -> tuple[int, Millis, bool]:
    return verdict.strength, verdict.known_at, verdict.is_fraud
