"""What is told: of one decision, of several about one card as a message, and a message as text."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.decision import Reason
from aegis_app.core.payment import Channel, Outcome, money, strictest

MOST_TOLD: Final = 20
"""Decisions spelt out in a message."""
MOST_LINES: Final = 5
"""Of these, in one that people read: it may become an SMS."""


class Told(Struct, frozen=True, kw_only=True):
    """A decision, as far as it is told; each field as in the decision."""

    transaction_id: str
    card_id: str
    timestamp: datetime
    amount_minor: int
    currency: str
    channel: Channel | None = None
    merchant_id: str | None = None
    country: str | None = None
    outcome: Outcome
    verdict: Outcome
    score: float | None
    reasons: list[Reason] = []
    decided_at: datetime


class Decided(Told, frozen=True, kw_only=True):
    """A decision as it is read."""

    duplicate: bool = False
    stale: bool = False
    redriven: bool = False
    features: dict[str, Any] | None = None

    def told(self) -> Told:
        return msgspec.convert(self, Told, from_attributes=True)


class Raised(Struct, frozen=True, kw_only=True):
    """A decision that a destination is to be told of, as on `alerts` (key: destination:partition:offset, of the decision)."""

    destination: str
    routes: list[str]
    since: datetime
    """When it was decided; when it was sent back from `alerts-failed`."""
    decision: Told


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a webhook gets: decisions about one card."""

    id: Annotated[str, Meta(description="the same decisions for the same destination have the same id: seen already means told already")]
    destination: str
    routes: Annotated[list[str], Meta(description="names of those that led here")]
    card_id: Annotated[str, Meta(description="a token, as in the decisions")]
    count: Annotated[int, Meta(description="decisions that this message tells of")]
    verdict: Annotated[Outcome, Meta(description="the strictest of them")]
    score: Annotated[float | None, Meta(description="the highest of them, 0..1, 1 is fraud; null where no layer could tell")]
    amounts_minor: Annotated[dict[str, int], Meta(description="sum of each currency, in its minor units")]
    first_at: Annotated[datetime, Meta(description="time of the earliest payment")]
    last_at: datetime
    decisions: Annotated[list[Told], Meta(description=f"the first {MOST_TOLD}, in the order in which they were made")]
    test: Annotated[bool, Meta(description="of `aegis alerts test`: about no payment there is")] = False


def message(raised: Sequence[Raised], *, test: bool = False) -> Message:
    """The message about `raised`, at least one, all of one card and for one destination."""
    told = sorted((each.decision for each in raised), key=lambda told: (told.decided_at, told.transaction_id))
    amounts: Counter[str] = Counter()
    for each in told:
        amounts[each.currency] += each.amount_minor
    return Message(
        id=_id(raised[0].destination, told),
        destination=raised[0].destination,
        routes=sorted({route for each in raised for route in each.routes}),
        card_id=told[0].card_id,
        count=len(told),
        verdict=strictest([each.verdict for each in told]),
        score=max((each.score for each in told if each.score is not None), default=None),
        amounts_minor=dict(amounts),
        first_at=min(each.timestamp for each in told),
        last_at=max(each.timestamp for each in told),
        decisions=told[:MOST_TOLD],
        test=test,
    )


def _id(destination: str, told: Sequence[Told]) -> str:
    named = [[each.card_id, each.transaction_id, each.decided_at] for each in told]
    return sha256(msgspec.json.encode([destination, named])).hexdigest()[:32]


encode_message: Final = msgspec.json.Encoder().encode
encode_raised: Final = msgspec.json.Encoder().encode
decode_raised: Final = msgspec.json.Decoder(Raised).decode
decode_decided: Final = msgspec.json.Decoder(Decided).decode


def title(alert: Message) -> str:
    """One line for people."""
    what = "1 payment" if alert.count == 1 else f"{alert.count:,} payments"
    return f"{'[test] ' if alert.test else ''}Aegis: {alert.verdict}, {what} of card {alert.card_id}"


def body(alert: Message) -> str:
    """The rest, a line for each of the first decisions."""
    lines = [_line(told) for told in alert.decisions[:MOST_LINES]]
    if alert.count > MOST_LINES:
        amounts = ", ".join(money(amount, currency) for currency, amount in alert.amounts_minor.items())
        lines.append(f"and {alert.count - MOST_LINES:,} more until {_clock(alert.last_at)}; {amounts} in all")
    return "\n".join([*lines, f"Alert {alert.id}, by {', '.join(alert.routes)}"])


def _line(told: Told) -> str:
    where = f" at {told.merchant_id}" if told.merchant_id is not None else ""
    done = "" if told.outcome is told.verdict else f", {told.outcome} in effect"
    why = f": {told.reasons[0].text}" if told.reasons else ""
    return f"{_clock(told.timestamp)} {money(told.amount_minor, told.currency)}{where}, {told.verdict}{done}{why} ({told.transaction_id})"


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
