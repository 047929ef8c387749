"""What a payment lets its merchant and its device learn."""

from msgspec import Struct
from xxhash import xxh3_64_intdigest

from aegis_app.core.card import AHEAD_MS
from aegis_app.core.encoding import kind_code
from aegis_app.core.features import Features
from aegis_app.core.merchant import Paid, unusual
from aegis_app.core.payment import GIVES_BACK, SEVERITY, Kind, Millis, Outcome, Transaction, is_small


class Tidings(Struct, frozen=True, gc=False):
    """Of one payment; `None` for a party that it does not name."""

    merchant: Paid | None
    device: Paid | None


NONE = Tidings(None, None)


def tidings(txn: Transaction, seen: Features | None, verdict: Outcome, written: Millis, offset: int) -> Tidings:
    """What is sent on, once `txn` is decided. `seen` is how its card described it; `None` for a repeat, which is no news.

    Neither is what gives money back. A time ahead of `written`, when the payment's record was, counts as that, as for the card.
    """
    if seen is None or txn.kind in GIVES_BACK or (txn.merchant_id is None and txn.device_id is None):
        return NONE
    at = txn.at
    facts = (
        offset,
        at if at - written <= AHEAD_MS else written,
        kind_code(txn.kind),
        seen.amount,
        is_small(txn),
        txn.kind is Kind.VERIFICATION,
        xxh3_64_intdigest(txn.card_id.encode()),
    )
    oddity, rank = unusual(seen.amount_z, seen.new_merchant, seen.hour_share, seen.km), SEVERITY[verdict]
    return Tidings(
        None if txn.merchant_id is None else Paid(*facts, seen.new_merchant is not False, oddity, rank),
        None if txn.device_id is None else Paid(*facts, seen.new_device is not False, oddity, rank),
    )
