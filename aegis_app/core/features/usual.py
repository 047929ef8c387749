"""How usual the payment is for its card: when, where, with what, and of which kind."""

from math import exp, log1p
from typing import Annotated, Final

from msgspec import Struct

from aegis_app.core import encoding, habit
from aegis_app.core.attempts import Attempts
from aegis_app.core.card import Card
from aegis_app.core.case import Case
from aegis_app.core.features.catalogue import NO_HABIT, NOT_GIVEN, of
from aegis_app.core.features.windows import Span
from aegis_app.core.habit import Habit
from aegis_app.core.payment import CARD_PRESENT, DAY_MS, HOUR_MS, Millis, Transaction
from aegis_app.core.uses import fingerprint, uses


class Rhythm(Struct, frozen=True, gc=False):
    seconds_since_last: Annotated[
        float | None,
        of("seconds", "since the last attempt, however long ago", "none before, or none that memory holds (late payments)"),
    ]
    usual_gap_seconds: Annotated[float | None, of("seconds", "geometric mean of the time between allowed payments", "fewer than two")]
    gap_z: Annotated[
        float | None,
        of(
            "deviations",
            "of the time since the last allowed payment, in log, above the card's mean",
            "fewer than three, or all alike",
        ),
    ]
    age_days: Annotated[float | None, of("days", "since the card's first payment known here", "this is the first, or lies before it")]
    seconds_since_present: Annotated[
        float | None, of("seconds", "since the last allowed payment with the card present", "none, or it lies later")
    ]


class Hours(Struct, frozen=True, gc=False):
    hour: Annotated[int, of("0 to 23", "hour of the day, UTC")]
    hour_share: Annotated[float | None, of("0 to 1", "share of the card's payments within an hour of this hour", NO_HABIT)]


class Shares(Struct, frozen=True, gc=False):
    weekday: Annotated[int, of("0 to 6", "day of the week from Monday, UTC")]
    weekday_share: Annotated[float | None, of("0 to 1", "share of the card's payments on this weekday", NO_HABIT)]
    online_share: Annotated[float | None, of("0 to 1", "share of the card's payments online or by phone", NO_HABIT)]
    kind_share: Annotated[float | None, of("0 to 1", "share of the card's payments of this kind", NO_HABIT)]


class Parties(Struct, frozen=True, gc=False):
    new_merchant: Annotated[bool | None, of("yes or no", "not among the merchants used before", NOT_GIVEN)]
    merchant_share: Annotated[float | None, of("0 to 1", "share of the card's payments at this merchant", NOT_GIVEN)]
    new_device: Annotated[bool | None, of("yes or no", "not among the devices used before", NOT_GIVEN)]
    device_share: Annotated[float | None, of("0 to 1", "share of the card's payments with this device", NOT_GIVEN)]
    new_payee: Annotated[bool | None, of("yes or no", "not among the payees paid before", "no payee")]
    payee_share: Annotated[float | None, of("0 to 1", "share of the card's payments to this payee", f"no payee, or {NO_HABIT}")]


class Novelty(Struct, frozen=True, gc=False):
    new_category: Annotated[bool | None, of("yes or no", "not among the merchant categories used before", NOT_GIVEN)]
    category_share: Annotated[float | None, of("0 to 1", "share of the card's payments in this category", NOT_GIVEN)]
    new_country: Annotated[bool | None, of("yes or no", "not among the countries used before, nor home", NOT_GIVEN)]
    country_share: Annotated[float | None, of("0 to 1", "share of the card's payments in this country", NOT_GIVEN)]


class Codes(Struct, frozen=True, gc=False):
    card_present: Annotated[bool | None, of("yes or no", "card and terminal are in one place", "channel not given")]
    kind: Annotated[int, of("code", "kind of payment; 1 purchase, and so on in the schema's order")]
    channel: Annotated[int, of("code", "channel in the schema's order, from 1; 0 not known")]
    category: Annotated[int, of("code", "merchant category: the MCC, or 10,000 to 10,999 for other names; 0 not known")]
    country: Annotated[int, of("code", "country: AA is 1, ZZ is 676; 0 not known")]


def rhythm(card: Card, case: Case, span: Span) -> Rhythm:
    known, at = card.habit, case.at
    last = _last(card.attempts, span)
    gap = log1p((at - known.last) / 1000) if 0 < known.last <= at else None
    return Rhythm(
        None if last is None else (at - last) / 1000,
        exp(known.sum_gap / habit.UNIT / known.gaps) - 1 if known.gaps else None,
        None if gap is None else habit.deviation(known.gaps, known.sum_gap, known.sum_gap_squared, gap),
        (at - card.first) / DAY_MS if 0 < card.first <= at else None,
        (at - known.present_at) / 1000 if 0 < known.present_at <= at else None,
    )


def _last(attempts: Attempts, span: Span) -> Millis | None:
    if span.upto:
        return int.from_bytes(attempts.times[8 * span.upto - 8 : 8 * span.upto], "little")
    return attempts.last if 0 < attempts.last <= span.at else None


def hours(known: Habit, case: Case) -> Hours:
    return Hours(case.at // HOUR_MS % 24, habit.hour_share(known, case.at))


def shares(known: Habit, case: Case) -> Shares:
    return Shares(
        habit.weekday(case.at),
        habit.weekday_share(known, case.at),
        habit.online_share(known),
        habit.kind_share(known, case.txn.kind),
    )


def parties(known: Habit, txn: Transaction) -> Parties:
    payments = known.payments
    merchant, new_merchant = _share(known.merchants, txn.merchant_id, payments)
    device, new_device = _share(known.devices, txn.device_id, payments)
    payee = None if txn.payee_id is None else uses(known.payees, fingerprint(txn.payee_id))
    return Parties(
        new_merchant,
        merchant,
        new_device,
        device,
        None if payee is None else payee == 0,
        payee / max(payee, payments) if payee is not None and payments else None,
    )


def novelty(known: Habit, txn: Transaction) -> Novelty:
    category, new_category = _share(known.categories, txn.merchant_category, known.payments)
    country, new_country = _share(known.countries, txn.country, known.payments)
    return Novelty(new_category, category, None if new_country is None else new_country and txn.country != txn.home_country, country)


def codes(txn: Transaction) -> Codes:
    return Codes(
        None if txn.channel is None else txn.channel in CARD_PRESENT,
        encoding.kind_code(txn.kind),
        encoding.channel_code(txn.channel),
        encoding.category_code(txn.merchant_category),
        encoding.country_code(txn.country),
    )


def _share(column: bytes, name: str | None, payments: int) -> tuple[float | None, bool | None]:
    """Share of payments with `name`, and whether it is new; `None` where either is not known."""
    if name is None or not column:
        return _UNKNOWN
    found = uses(column, fingerprint(name))
    return (found / max(found, payments), False) if found else _NEW  # categories are not taken out with a confirmed fraud, payments are


_UNKNOWN: Final = None, None
_NEW: Final = 0.0, True
