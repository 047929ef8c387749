"""A merchant's memory again, straight from its definition: all of its events in a list, counted from scratch."""

from collections import Counter
from typing import Any

from aegis_app.core.encoding import KINDS
from aegis_app.core.merchant_events import Credited, Event, Labelled, Paid
from aegis_app.core.payment import DAY_MS, MINUTE_MS, Kind


def tables(events: list[Event]) -> dict[str, Any]:
    """What is held of `events`, in whatever order they come."""
    paid = [event for event in events if isinstance(event, Paid)]
    labelled = [event for event in events if isinstance(event, Labelled)]
    credited = [event for event in events if isinstance(event, Credited)]
    clock = max((event.at for event in paid), default=0)
    told = [label.at for label in labelled] + [label.labelled_at for label in labelled] + [credit.labelled_at for credit in credited]
    today = max([clock, *told]) // DAY_MS

    minutes: dict[int, list[Paid]] = {}
    days: dict[int, list[Paid]] = {}
    for event in paid:
        if event.at // MINUTE_MS > clock // MINUTE_MS - 61:
            minutes.setdefault(event.at // MINUTE_MS, []).append(event)
        if event.at // DAY_MS > today - 120:
            days.setdefault(event.at // DAY_MS, []).append(event)
    verdicts: dict[int, tuple[int, int]] = {}
    for label in labelled:
        for day, frauds, known in ((label.at // DAY_MS, label.change, 0), (label.labelled_at // DAY_MS, 0, label.change)):
            if day > today - 120:
                before = verdicts.get(day, (0, 0))
                verdicts[day] = before[0] + frauds, before[1] + known
    last: dict[int, int] = {}
    for event in paid:
        last[event.card] = max(last.get(event.card, 0), event.at // DAY_MS)
    recent = sorted((day, card) for card, day in last.items() if day > today - 38)[-64:]
    nets: Counter[tuple[int, int]] = Counter()
    for credit in credited:
        nets[credit.labelled_at // DAY_MS, credit.card] += credit.change
    credits = sorted((day, card, net) for (day, card), net in nets.items() if day > today - 38)[-256:]
    return {
        "clock": clock,
        "latest": max([clock, *told]),
        "first": min((event.at for event in paid), default=0),
        "minutes": {minute: tally(held) for minute, held in sorted(minutes.items())},
        "cards": [len({event.card for event in held}) for _, held in sorted(minutes.items())],
        "days": {day: tally(held) for day, held in sorted(days.items())},
        "verdicts": dict(sorted(verdicts.items())),
        "recent": recent,
        "credits": credits,
    }


def tally(paid: list[Paid]) -> tuple[int, ...]:
    return (
        len(paid),
        sum(event.amount is None for event in paid),
        sum(event.unusual is not None for event in paid),
        sum(event.small for event in paid),
        sum(event.kind == KINDS[Kind.VERIFICATION] for event in paid),
        sum(event.verdict > 0 for event in paid),
        sum(event.first for event in paid),
        sum(event.unusual or 0 for event in paid),
        min(sum(event.amount or 0 for event in paid), 2**64 - 1),
    )


def answers(events: list[Event], at: int) -> dict[str, Any]:
    """What a worker knows for a payment at `at`, which none of `events` is later than."""
    paid = [event for event in events if isinstance(event, Paid)]
    labelled = [event for event in events if isinstance(event, Labelled)]
    clock = max((event.at for event in paid), default=0)
    today = at // DAY_MS

    def within(days: int, ends: int = 0) -> list[Paid]:
        return [event for event in paid if today - ends - days < event.at // DAY_MS <= today - ends]

    found: dict[str, Any] = {
        "seconds_since_last": (at - clock) / 1000 if paid else None,
        "age_days": (at - min(event.at for event in paid)) / DAY_MS if paid else None,
    }
    net: Counter[int] = Counter()
    for label in labelled:
        net[today - label.at // DAY_MS] += label.change
    bad = [passed for passed, frauds in net.items() if frauds > 0 and 0 <= passed < 38]
    since = [event for event in paid if bad and 8 <= today - event.at // DAY_MS < min(bad)]
    found["fraud_days"] = (max(bad), min(bad), len(since)) if bad else (None, None, None)
    old = sorted(today - event.at // DAY_MS for event in paid if 8 <= today - event.at // DAY_MS < 38)
    shares = []
    for last in (1, 3, 10):
        held = [passed for passed in old if passed <= old[min(last, len(old)) - 1]]
        shares.append(min(1, max(0, sum(net[passed] for passed in set(held))) / len(held)) if held else 0)
    found["fraud_shares"] = shares
    for name, minutes in ("ten_minutes", 10), ("hour", 60):
        late = at - clock >= minutes * MINUTE_MS
        found[name] = window([event for event in paid if not late and event.at // MINUTE_MS >= clock // MINUTE_MS - minutes])
    for days in (1, 7, 30):
        unusual = [event.unusual for event in within(days) if event.unusual is not None]
        frauds = sum(label.change for label in labelled if today - 8 - days < label.at // DAY_MS <= today - 8)
        found |= {
            f"payments_{days}": len(within(days)),
            f"cards_{days}": len({event.card for event in within(days)}),
            f"unusual_{days}": sum(unusual) / len(unusual) if unusual else None,
            f"frauds_delayed_{days}": max(0, frauds),
            f"fraud_rate_{days}": min(1, (max(0, frauds) + 0.1) / (len(within(days, 8)) + 20)),
            f"frauds_known_{days}": max(0, sum(label.change for label in labelled if label.labelled_at // DAY_MS > today - days)),
        }
    return found


def window(paid: list[Paid]) -> tuple[Any, ...]:
    unusual = [event.unusual for event in paid if event.unusual is not None]
    return (
        len(paid),
        len({event.card for event in paid}),
        sum(event.small for event in paid),
        sum(event.kind == KINDS[Kind.VERIFICATION] for event in paid),
        sum(event.verdict > 0 for event in paid),
        sum(event.first for event in paid),
        None if any(event.amount is None for event in paid) else sum(event.amount or 0 for event in paid),
        int(sum(unusual) / len(unusual) + 0.5) if unusual else None,
    )
