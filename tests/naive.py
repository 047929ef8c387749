"""Every feature again, straight from its definition: all of a card's past in a list, counted from scratch."""

from datetime import timedelta
from math import acos, cos, degrees, exp, log, log1p, radians, sin
from statistics import fmean, stdev
from typing import Any

from msgspec import Struct

from aegis_app.core.case import Case
from aegis_app.core.encoding import CHANNELS, KINDS
from aegis_app.core.features import OF_OTHERS
from aegis_app.core.payment import CARD_PRESENT, DAY_MS, GIVES_BACK, HOUR_MS, MINUTE_MS, Channel, Kind, Outcome, Transaction, exponent

REACH = timedelta(hours=25) // timedelta(milliseconds=1)


class Event(Struct, frozen=True):
    """A payment as it was learnt."""

    case: Case
    verdict: Outcome

    @property
    def allowed(self) -> bool:
        return self.verdict is Outcome.ALLOW


def unknown_elsewhere() -> dict[str, Any]:
    """Features of merchants, devices and verdicts where nothing is known of any; see tests/test_risk.py and tests/test_verdicts.py."""
    return dict.fromkeys(OF_OTHERS) | {"card_frauds": 0, "days_since_card_fraud": None}


def recount(events: list[Event], case: Case) -> dict[str, Any]:
    """Every feature of a payment that comes after `events`, in their order of arrival."""
    txn, at, amount = case.txn, case.at, case.amount
    clock = max((event.case.at for event in events), default=0)
    tried = [event for event in events if event.case.txn.kind not in GIVES_BACK]
    habit = [event.case for event in tried if event.allowed]

    def window(length: int) -> list[Event] | None:
        return [event for event in tried if at - length < event.case.at <= at] if at - length >= clock - REACH else None

    minute, ten, hour, day = (window(length) for length in (MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, DAY_MS))
    today = at // DAY_MS

    def days(number: int) -> list[Event] | None:
        if today * DAY_MS - 1 < clock - REACH:
            return None
        return [event for event in tried if today - number < event.case.at // DAY_MS <= today and event.case.at <= at]

    week, month = days(7), days(30)
    before_today = [event.case.at // DAY_MS for event in tried if today - 30 < event.case.at // DAY_MS < today]
    amounts = [each.amount for each in habit if each.amount is not None and each.amount > 0]
    logs = [log(each) for each in amounts]
    typical = exp(fmean(logs)) if logs else None
    gaps, last = [], 0
    for each in habit:
        if 0 < last <= each.at:
            gaps.append(log1p((each.at - last) / 1000))
        last = max(last, each.at)
    placed = [each for each in habit if each.txn.latitude is not None and each.txn.channel in CARD_PRESENT]
    trusted = sorted(placed, key=lambda each: each.at)
    earlier = [each for each in trusted[-4:] if each.at <= at]
    present = [each.at for each in habit if each.txn.channel in CARD_PRESENT]
    is_here = txn.latitude is not None and txn.channel in CARD_PRESENT and bool(placed)
    km = degrees_apart(earlier[-1].txn, txn) * 111.19508 if is_here and earlier else None
    smallest = [event.case.amount for event in hour or [] if event.case.amount is not None]
    collected = [each for each in habit if each.txn.channel is Channel.RECURRING and each.amount is not None]
    same = [each.amount for each in collected if each.txn.merchant_id == txn.merchant_id and txn.merchant_id is not None]
    balance = txn.attributes.get("balance_minor")
    last_tried = [event.case.at for event in tried if event.case.at <= at]
    earliest = min((event.case.at for event in events), default=at + 1)
    compared = amount is not None and typical is not None
    return unknown_elsewhere() | {
        "attempts_1m": count(minute),
        "attempts_10m": count(ten),
        "attempts_1h": count(hour),
        "attempts_24h": count(day),
        "attempts_7d": count(week),
        "attempts_30d": count(month),
        "money_1m": money(minute),
        "money_10m": money(ten),
        "money_1h": money(hour),
        "money_24h": money(day),
        "money_7d": money(week),
        "money_30d": money(month),
        "smallest_1h": min(smallest) if smallest and money(hour) is not None else None,
        "small_1h": count(hour, small),
        "small_24h": count(day, small),
        "merchants_10m": merchants(ten),
        "merchants_1h": merchants(hour),
        "refused_1h": count(hour, refused),
        "refused_24h": count(day, refused),
        "saturated": False,
        "per_active_day": len(before_today) / len(set(before_today)) if before_today else None,
        "seconds_since_last": (at - max(last_tried)) / 1000 if last_tried else None,
        "usual_gap_seconds": exp(fmean(gaps)) - 1 if gaps else None,
        "gap_z": deviation(gaps, log1p((at - last) / 1000) if 0 < last <= at else None),
        "age_days": (at - earliest) / DAY_MS if earliest <= at else None,
        "habit": len(habit),
        "habit_amounts": len(amounts),
        "amount": amount,
        "typical_amount": typical,
        "amount_ratio": amount / typical if compared else None,  # type: ignore[operator]  # both known
        "amount_z": deviation(logs, log(amount) if amount is not None and amount > 0 else None),
        "amount_to_largest": amount / max(amounts) if compared else None,  # type: ignore[operator]  # known
        "amount_to_smallest_1h": amount / max(1, min(smallest)) if amount is not None and smallest and money(hour) is not None else None,
        "km": km,
        "kmh": None if km is None else km / (max((at - earlier[-1].at) / MINUTE_MS, 1) / 60),
        "km_from_home": from_home([each.txn for each in placed], txn) if is_here else None,
        "seconds_since_present": (at - max(present)) / 1000 if present and max(present) <= at else None,
        "hour": txn.timestamp.hour,
        "hour_share": share(habit, lambda each: (each.txn.timestamp.hour - txn.timestamp.hour) % 24 in {0, 1, 23}),
        "weekday": txn.timestamp.weekday(),
        "weekday_share": share(habit, lambda each: each.txn.timestamp.weekday() == txn.timestamp.weekday()),
        "abroad": None if txn.country is None or txn.home_country is None else txn.country != txn.home_country,
        "new_merchant": new(habit, txn, "merchant_id"),
        "merchant_share": share_of(habit, txn, "merchant_id"),
        "new_category": new(habit, txn, "merchant_category"),
        "category_share": share_of(habit, txn, "merchant_category"),
        "new_country": None if (fresh := new(habit, txn, "country")) is None else fresh and txn.country != txn.home_country,
        "country_share": share_of(habit, txn, "country"),
        "new_device": new(habit, txn, "device_id"),
        "device_share": share_of(habit, txn, "device_id"),
        "new_payee": None if txn.payee_id is None else txn.payee_id not in {each.txn.payee_id for each in habit},
        "payee_share": None if txn.payee_id is None else share(habit, lambda each: each.txn.payee_id == txn.payee_id),
        "card_present": None if txn.channel is None else txn.channel in CARD_PRESENT,
        "online_share": share(habit, lambda each: each.txn.channel in {Channel.ONLINE, Channel.PHONE}),
        "kind_share": share(habit, lambda each: each.txn.kind is txn.kind),
        "recurring_ratio": amount / same[-1] if txn.channel is Channel.RECURRING and amount is not None and same and same[-1] else None,
        "balance_share": txn.amount_minor / balance if balance else None,
        "kind": KINDS[txn.kind],
        "channel": 0 if txn.channel is None else CHANNELS[txn.channel],
        "category": 0 if txn.merchant_category is None else int(txn.merchant_category),
        "country": 0 if txn.country is None else (ord(txn.country[0]) - 65) * 26 + ord(txn.country[1]) - 64,
    }


def count(events: list[Event] | None, which: Any = lambda event: True) -> int | None:
    return None if events is None else sum(map(which, events))


def money(events: list[Event] | None) -> float | None:
    if events is None or any(event.case.amount is None for event in events):
        return None
    return sum(event.case.amount or 0 for event in events)


def small(event: Event) -> bool:
    txn = event.case.txn
    return txn.kind is Kind.VERIFICATION or txn.amount_minor <= 2 * 10 ** exponent(txn.currency)


def refused(event: Event) -> bool:
    return event.verdict is Outcome.BLOCK


def merchants(events: list[Event] | None) -> int | None:
    return None if events is None else len({event.case.txn.merchant_id for event in events} - {None})


def deviation(values: list[float], value: float | None) -> float | None:
    if value is None or len(values) < 2 or stdev(values) ** 2 <= 1e-4:
        return None
    return (value - fmean(values)) / stdev(values)


def share(habit: list[Case], which: Any) -> float | None:
    return sum(map(which, habit)) / len(habit) if habit else None


def new(habit: list[Case], txn: Transaction, field: str) -> bool | None:
    used = {getattr(each.txn, field) for each in habit} - {None}
    return None if getattr(txn, field) is None or not used else getattr(txn, field) not in used


def share_of(habit: list[Case], txn: Transaction, field: str) -> float | None:
    return None if new(habit, txn, field) is None else share(habit, lambda each: getattr(each.txn, field) == getattr(txn, field))


def vector(txn: Transaction) -> tuple[float, float, float]:
    assert txn.latitude is not None
    assert txn.longitude is not None
    north, east = radians(txn.latitude), radians(txn.longitude)
    return cos(north) * cos(east), cos(north) * sin(east), sin(north)


def degrees_apart(one: Transaction, other: Transaction) -> float:
    return degrees(acos(max(-1, min(1, sum(a * b for a, b in zip(vector(one), vector(other), strict=True))))))


def from_home(homes: list[Transaction], txn: Transaction) -> float | None:
    middle = [sum(axis) for axis in zip(*map(vector, homes), strict=True)]
    length = sum(axis * axis for axis in middle) ** 0.5
    if length <= 0.2 * len(homes):
        return None
    cosine = sum(a * b / length for a, b in zip(middle, vector(txn), strict=True))
    return degrees(acos(max(-1, min(1, cosine)))) * 111.19508
