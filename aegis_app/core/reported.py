"""Which merchant and device heard of a card's confirmed frauds, so that exactly those hear when one is none after all.

At most `MOST_REPORTS`, of `MOST_BYTES` together; those of the oldest payments go. A fraud whose report is gone is taken back where the
label says.
"""

from operator import attrgetter
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from aegis_app.core.label import Label
from aegis_app.core.payment import Millis

MOST_REPORTS: Final = 8
MOST_BYTES: Final = 256
"""Their names as UTF-8, and `_REST` more for each."""
_REST: Final = 24


class Report(Struct, frozen=True, array_like=True, gc=False):
    """What was told of a payment that is a confirmed fraud."""

    payment: bytes
    """Hash of its transaction_id, 8 bytes."""
    at: Millis
    """The payment's time, as the label had it that confirmed the fraud."""
    merchant_id: str | None
    device_id: str | None


def report_on(reports: tuple[Report, ...], payment: bytes) -> Report | None:
    """The one about the payment of this hash."""
    return next((each for each in reports if each.payment == payment), None)


def supplement(report: Report, label: Label) -> Report:
    """The report with what it lacks and `label` names. A name that was told stays, whatever another label says."""
    return replace(report, merchant_id=report.merchant_id or label.merchant_id, device_id=report.device_id or label.device_id)


def keep(reports: tuple[Report, ...], report: Report) -> tuple[Report, ...]:
    """With `report` in place of the one about its payment, in the order of the payments' times."""
    kept = tuple(sorted((*without(reports, report.payment), report), key=_by_time))
    while len(kept) > MOST_REPORTS or sum(map(_size, kept)) > MOST_BYTES:
        kept = kept[1:]
    return kept


def without(reports: tuple[Report, ...], payment: bytes) -> tuple[Report, ...]:
    """Without the one about the payment of this hash."""
    return tuple(each for each in reports if each.payment != payment)


_by_time: Final = attrgetter("at", "payment")


def _size(report: Report) -> int:
    return _REST + len((report.merchant_id or "").encode()) + len((report.device_id or "").encode())
