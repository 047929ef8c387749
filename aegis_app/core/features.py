"""A payment described by what was known before it: the catalogue of features, and how each is found."""

from math import exp, log, log1p
from typing import Annotated, Final

from msgspec import Meta, Struct

from aegis_app.core import days, encoding, habit
from aegis_app.core.attempts import recent
from aegis_app.core.card import Card
from aegis_app.core.case import Case
from aegis_app.core.earth import kilometres
from aegis_app.core.payment import CARD_PRESENT, DAY_MS, HOUR_MS, MINUTE_MS, Channel
from aegis_app.core.uses import fingerprint, uses

NEAREST_MINUTES: Final = 1.0
"""Speeds are taken over at least this long: clocks of terminals differ."""
BALANCE: Final = "balance_minor"
"""The attribute with the account's balance before the payment, in minor units of the payment's currency."""


def _of(unit: str, meaning: str, null: str = "never") -> Meta:
    """What the catalogue says of a feature: its unit, what it means, and when it is null."""
    return Meta(description=meaning, extra_json_schema={"unit": unit, "null": null})


_EARLY: Final = "the window begins before memory does (late payments)"
_RATE: Final = "as for the attempts, or a payment in the window has a currency without a rate"
_NO_RATE: Final = "the payment's currency has no rate"
_NO_HABIT: Final = "no payment was allowed yet"
_NOT_GIVEN: Final = "the payment does not say, or none was ever known"
_PLACE: Final = "card not present, no position, or no earlier one"


class Features(Struct, frozen=True, gc=False):
    """All from the past alone. Counts and money of windows leave the present payment out; refunds and reversals are no attempts."""

    attempts_1m: Annotated[int | None, _of("payments", "attempts in the minute before", _EARLY)]
    attempts_10m: Annotated[int | None, _of("payments", "attempts in the 10 minutes before", _EARLY)]
    attempts_1h: Annotated[int | None, _of("payments", "attempts in the hour before", _EARLY)]
    attempts_24h: Annotated[int | None, _of("payments", "attempts in the 24 hours before", _EARLY)]
    attempts_7d: Annotated[int | None, _of("payments", "attempts on this UTC day so far and the 6 days before", _EARLY)]
    attempts_30d: Annotated[int | None, _of("payments", "attempts on this UTC day so far and the 29 days before", _EARLY)]
    money_1m: Annotated[float | None, _of("base minor units", "amounts tried in the minute before", _RATE)]
    money_10m: Annotated[float | None, _of("base minor units", "amounts tried in the 10 minutes before", _RATE)]
    money_1h: Annotated[float | None, _of("base minor units", "amounts tried in the hour before", _RATE)]
    money_24h: Annotated[float | None, _of("base minor units", "amounts tried in the 24 hours before", _RATE)]
    money_7d: Annotated[float | None, _of("base minor units", "amounts tried on this UTC day so far and the 6 days before", _RATE)]
    money_30d: Annotated[float | None, _of("base minor units", "amounts tried on this UTC day so far and the 29 days before", _RATE)]
    small_1h: Annotated[int | None, _of("payments", "verifications and tiny amounts in the hour before", _EARLY)]
    small_24h: Annotated[int | None, _of("payments", "verifications and tiny amounts in the 24 hours before", _EARLY)]
    merchants_10m: Annotated[int | None, _of("merchants", "different ones tried in the 10 minutes before", _EARLY)]
    merchants_1h: Annotated[int | None, _of("merchants", "different ones tried in the hour before", _EARLY)]
    refused_1h: Annotated[int | None, _of("payments", "attempts in the hour before that policy would block", _EARLY)]
    refused_24h: Annotated[int | None, _of("payments", "the same in the 24 hours before", _EARLY)]
    saturated: Annotated[bool, _of("yes or no", "a count above may exceed the truth: too many to keep each exactly")]
    per_active_day: Annotated[
        float | None, _of("payments", "attempts on days with any, over the 29 days before today", "no attempt on those days")
    ]
    seconds_since_last: Annotated[
        float | None,
        _of("seconds", "since the last attempt, however long ago", "none before, or none that memory holds (late payments)"),
    ]
    usual_gap_seconds: Annotated[float | None, _of("seconds", "geometric mean of the time between allowed payments", "fewer than two")]
    gap_z: Annotated[
        float | None,
        _of(
            "deviations",
            "of the time since the last allowed payment, in log, above the card's mean",
            "fewer than three, or all alike",
        ),
    ]
    age_days: Annotated[float | None, _of("days", "since the card's first payment known here", "this is the first, or lies before it")]
    habit: Annotated[int, _of("payments", "allowed ones that habit was learnt from")]
    habit_amounts: Annotated[int, _of("payments", "those of them whose amount is known in the base currency, and above zero")]
    amount: Annotated[int | None, _of("base minor units", "the payment's own", _NO_RATE)]
    typical_amount: Annotated[float | None, _of("base minor units", "geometric mean of the card's amounts", _NO_HABIT)]
    amount_ratio: Annotated[float | None, _of("times", "amount over typical amount", f"{_NO_RATE}, or {_NO_HABIT}")]
    amount_z: Annotated[
        float | None,
        _of("deviations", "of the amount, in log, above the card's mean", "fewer than two amounts, or all alike, or no rate"),
    ]
    amount_to_largest: Annotated[float | None, _of("times", "amount over the largest allowed before", f"{_NO_RATE}, or {_NO_HABIT}")]
    amount_to_smallest_1h: Annotated[
        float | None, _of("times", "amount over the smallest tried in the hour before, zero counting as one minor unit", "none, or no rate")
    ]
    km: Annotated[float | None, _of("km", "from the last trusted place, both card-present", _PLACE)]
    kmh: Annotated[float | None, _of("km/h", "speed that this distance takes", _PLACE)]
    km_from_home: Annotated[float | None, _of("km", "from the middle of the card's trusted places", _PLACE)]
    seconds_since_present: Annotated[
        float | None, _of("seconds", "since the last allowed payment with the card present", "none, or it lies later")
    ]
    hour: Annotated[int, _of("0 to 23", "hour of the day, UTC")]
    hour_share: Annotated[float | None, _of("0 to 1", "share of the card's payments within an hour of this hour", _NO_HABIT)]
    weekday: Annotated[int, _of("0 to 6", "day of the week from Monday, UTC")]
    weekday_share: Annotated[float | None, _of("0 to 1", "share of the card's payments on this weekday", _NO_HABIT)]
    abroad: Annotated[bool | None, _of("yes or no", "not in the home country", "country or home country not given")]
    new_merchant: Annotated[bool | None, _of("yes or no", "not among the merchants used before", _NOT_GIVEN)]
    merchant_share: Annotated[float | None, _of("0 to 1", "share of the card's payments at this merchant", _NOT_GIVEN)]
    new_category: Annotated[bool | None, _of("yes or no", "not among the merchant categories used before", _NOT_GIVEN)]
    category_share: Annotated[float | None, _of("0 to 1", "share of the card's payments in this category", _NOT_GIVEN)]
    new_country: Annotated[bool | None, _of("yes or no", "not among the countries used before, nor home", _NOT_GIVEN)]
    country_share: Annotated[float | None, _of("0 to 1", "share of the card's payments in this country", _NOT_GIVEN)]
    new_device: Annotated[bool | None, _of("yes or no", "not among the devices used before", _NOT_GIVEN)]
    device_share: Annotated[float | None, _of("0 to 1", "share of the card's payments with this device", _NOT_GIVEN)]
    new_payee: Annotated[bool | None, _of("yes or no", "not among the payees paid before", "no payee")]
    payee_share: Annotated[float | None, _of("0 to 1", "share of the card's payments to this payee", f"no payee, or {_NO_HABIT}")]
    card_present: Annotated[bool | None, _of("yes or no", "card and terminal are in one place", "channel not given")]
    online_share: Annotated[float | None, _of("0 to 1", "share of the card's payments online or by phone", _NO_HABIT)]
    kind_share: Annotated[float | None, _of("0 to 1", "share of the card's payments of this kind", _NO_HABIT)]
    recurring_ratio: Annotated[
        float | None,
        _of("times", "amount of a recurring payment over the last one to that merchant", "not recurring, the first, or no rate"),
    ]
    balance_share: Annotated[
        float | None, _of("times", f"amount over the balance before it (attribute `{BALANCE}`)", "no balance given, or none left")
    ]
    kind: Annotated[int, _of("code", "kind of payment; 1 purchase, and so on in the schema's order")]
    channel: Annotated[int, _of("code", "channel in the schema's order, from 1; 0 not known")]
    category: Annotated[int, _of("code", "merchant category: the MCC, or 10,000 to 10,999 for other names; 0 not known")]
    country: Annotated[int, _of("code", "country: AA is 1, ZZ is 676; 0 not known")]


def describe(card: Card, case: Case) -> Features:
    """Describe a payment using only what `card` held before it."""
    txn, at, amount = case.txn, case.at, case.amount
    known = card.habit
    tried = recent(card.attempts, card.clock, at)
    before = days.before(card.days, at // DAY_MS)
    gap = log1p((at - known.last) / 1000) if 0 < known.last <= at else None
    typical = habit.typical_amount(known)
    usual = habit.shares(known, case)
    km, kmh, km_from_home = _travel(card, case)
    balance = txn.attributes.get(BALANCE) if txn.attributes else None
    payments = known.payments
    merchant, new_merchant = _share(known.merchants, txn.merchant_id, payments)
    category, new_category = _share(known.categories, txn.merchant_category, payments)
    country, new_country = _share(known.countries, txn.country, payments)
    device, new_device = _share(known.devices, txn.device_id, payments)
    payee = None if txn.payee_id is None else uses(known.payees, fingerprint(txn.payee_id))
    return Features(
        tried.attempts_1m,
        tried.attempts_10m,
        tried.attempts_1h,
        tried.attempts_24h,
        None if tried.since_midnight is None else tried.since_midnight + before.week,
        None if tried.since_midnight is None else tried.since_midnight + before.month,
        tried.money_1m,
        tried.money_10m,
        tried.money_1h,
        tried.money_24h,
        _plus(tried.money_since_midnight, before.money_week),
        _plus(tried.money_since_midnight, before.money_month),
        tried.small_1h,
        tried.small_24h,
        tried.merchants_10m,
        tried.merchants_1h,
        tried.refused_1h,
        tried.refused_24h,
        tried.saturated,
        before.month / before.active if before.active else None,
        None if tried.last is None else (at - tried.last) / 1000,
        exp(known.sum_gap / habit.UNIT / known.gaps) - 1 if known.gaps else None,
        None if gap is None else habit.deviation(known.gaps, known.sum_gap, known.sum_gap_squared, gap),
        (at - card.first) / DAY_MS if 0 < card.first <= at else None,
        payments,
        known.amounts,
        amount,
        typical,
        None if amount is None or typical is None else amount / typical,
        habit.deviation(known.amounts, known.sum_log, known.sum_log_squared, log(amount)) if amount is not None and amount > 0 else None,
        None if amount is None or typical is None else amount / known.largest,
        None if amount is None or tried.smallest_1h is None else amount / max(tried.smallest_1h, 1.0),
        km,
        kmh,
        km_from_home,
        (at - known.present_at) / 1000 if 0 < known.present_at <= at else None,
        at // HOUR_MS % 24,
        usual.hour,
        habit.weekday(at),
        usual.weekday,
        None if txn.country is None or txn.home_country is None else txn.country != txn.home_country,
        new_merchant,
        merchant,
        new_category,
        category,
        None if new_country is None else new_country and txn.country != txn.home_country,
        country,
        new_device,
        device,
        None if payee is None else payee == 0,
        payee / max(payee, payments) if payee is not None and payments else None,
        None if txn.channel is None else txn.channel in CARD_PRESENT,
        usual.online,
        usual.kind,
        _recurring(card, case),
        txn.amount_minor / balance if balance is not None and balance > 0 else None,
        encoding.kind_code(txn.kind),
        encoding.channel_code(txn.channel),
        encoding.category_code(txn.merchant_category),
        encoding.country_code(txn.country),
    )


def _plus(today: float | None, before: float) -> float | None:
    """Money of today and of the days before; `None` where either is not known."""
    return None if today is None or before != before else today + before


def _share(column: bytes, name: str | None, payments: int) -> tuple[float | None, bool | None]:
    """Share of payments with `name`, and whether it is new; `None` where either is not known."""
    if name is None or not column:
        return _UNKNOWN
    found = uses(column, fingerprint(name))
    return (found / max(found, payments), False) if found else _NEW


_UNKNOWN: Final = None, None
_NEW: Final = 0.0, True


def _travel(card: Card, case: Case) -> tuple[float | None, float | None, float | None]:
    """Distance from the last trusted place, the speed that it takes, and distance from home."""
    txn = case.txn
    if txn.latitude is None or txn.longitude is None or not card.habit.places or not txn.is_card_present:
        return None, None, None
    home = habit.from_home(card.habit, txn.latitude, txn.longitude)
    before = habit.place_before(card.habit, case.at)
    if before is None:
        return None, None, home
    there, latitude, longitude = before
    km = kilometres(latitude, longitude, txn.latitude, txn.longitude)
    return km, km / (max((case.at - there) / MINUTE_MS, NEAREST_MINUTES) / 60), home


def _recurring(card: Card, case: Case) -> float | None:
    if case.txn.channel is not Channel.RECURRING or case.txn.merchant_id is None or case.amount is None:
        return None
    before = habit.last_collected(card.habit, case.txn.merchant_id)
    return None if before is None or before == 0 else case.amount / before
