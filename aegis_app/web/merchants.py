"""What is remembered about merchants and devices, from whichever worker holds one; and those with most risk, which every worker knows."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from heapq import nlargest
from typing import Any, Final, TypeVar

from aegis_app.application import device_risk, merchant_risk, settings
from aegis_app.core.merchant import TALLY, VERDICT, Merchant
from aegis_app.core.payment import DAY_MS, Millis
from aegis_app.core.risk import SPANS, Risk, risk
from aegis_app.topics import SOURCES
from aegis_app.web.owned import remembered
from aegis_app.web.pages import Answer, page
from tables.devices import devices
from tables.merchants import merchants

T = TypeVar("T")

MOST: Final = 1000
SLICE: Final = 500
"""How many are looked at before payments have their turn again."""


@page("/merchants/{merchant_id}")
async def merchant(request: Any, merchant_id: str) -> Answer:
    """The memory of one merchant, readable; 404 for one never seen, 503 while it is changing hands."""
    return await remembered(request, merchants, merchant_id, readable, "no payment at this merchant is remembered")


@page("/devices/{device_id}")
async def device(request: Any, device_id: str) -> Answer:
    """The memory of one device, likewise."""
    return await remembered(request, devices, device_id, readable, "no payment with this device is remembered")


@page("/merchants")
async def riskiest_merchants(request: Any) -> Answer:
    """`?order=risk&top=20`: those with most confirmed frauds and points of compromise within 30 days; among equals, the most unusual."""
    return await riskiest(request, "merchants", merchant_risk.held.packed)


@page("/devices")
async def riskiest_devices(request: Any) -> Answer:
    """The same of devices."""
    return await riskiest(request, "devices", device_risk.held.packed)


async def riskiest(request: Any, kind: str, packed: Mapping[str, bytes]) -> Answer:
    if strange := request.query.keys() - {"order", "top"}:
        return 400, {"error": f"no parameter is called {sorted(strange)[0]!r}; there are `order` and `top`"}
    order, top = request.query.get("order", "risk"), request.query.get("top", "20")
    if order != "risk":
        return 400, {"error": "the one order is `risk`"}
    if not (top.isascii() and top.isdigit() and 0 < int(top) <= MOST):
        return 400, {"error": f"`top` is a number from 1 to {MOST}"}
    newest = max([clock async for _, clock in _clocks(packed)], default=0)
    ranked = [(_rank(Risk(packed[name], newest)), name) async for name, _ in _clocks(packed)]
    return 200, {
        "order": "confirmed frauds and points of compromise within 30 days; among equals, how unusual payments were within 7",
        "as_of": _time(newest),
        "known": len(packed),
        kind: [{"id": name} | told(Risk(packed[name], newest)) for _, name in nlargest(int(top), ranked) if name in packed],
    }


async def _clocks(packed: Mapping[str, bytes]) -> AsyncIterator[tuple[str, Millis]]:
    """Every name, and when it was last used, with pauses."""
    for number, name in enumerate(list(packed), 1):
        if (raw := packed.get(name)) is not None:
            yield name, Risk(raw, 0).clock or 0
        if number % SLICE == 0:
            await asyncio.sleep(0)


def _rank(known: Risk) -> tuple[int, float]:
    _, unusual, _ = known.unusual
    return (known.frauds_known[-1] or 0) + (known.credits[-1] or 0), unusual or 0.0


def told(known: Risk) -> dict[str, Any]:
    """What workers know of a merchant or device; money in minor units of the base currency."""
    return {
        "last_payment": _time(known.clock or 0),
        "ten_minutes": known.ten_minutes,
        "hour": known.hour,
        "payments": _spans(known.payments),
        "cards": _spans(known.cards),
        "unusual_per_mille": _spans(known.unusual),
        "frauds_delayed": _spans(known.frauds_delayed),
        "fraud_rate": _spans(known.fraud_rates),
        "frauds_known": _spans(known.frauds_known),
        "credits": _spans(known.credits),
    }


def _spans(answers: Sequence[T]) -> dict[str, T]:
    return {f"{days}d": answer for days, answer in zip(SPANS, answers, strict=True)}


def readable(name: str, party: Merchant) -> dict[str, Any]:
    """A memory in words and figures, as of the latest that it knows of."""
    return {
        "id": name,
        "base_currency": settings.base_currency,
        "first_payment": _time(party.first),
        "last_offsets": dict(zip(SOURCES, party.seen, strict=True)),
        **told(Risk(risk(party), party.latest)),
        "days": {_day(day): _counted(*row) for day, *row in TALLY.iter_unpack(party.days)},
        "verdicts": {_day(day): {"frauds": frauds, "became_known": known} for day, frauds, known in VERDICT.iter_unpack(party.verdicts)},
    }


def _counted(
    payments: int, unpriced: int, described: int, small: int, verifications: int, refused: int, first: int, unusual: int, money: int
) -> dict[str, int | None]:
    return {
        "payments": payments,
        "small": small,
        "verifications": verifications,
        "refused": refused,
        "first_time": first,
        "amount_minor": None if unpriced else money,
        "unusual_per_mille": unusual // described if described else None,
    }


def _day(day: int) -> str:
    return f"{datetime.fromtimestamp(day * DAY_MS / 1000, UTC):%Y-%m-%d}"


def _time(at: Millis | None) -> datetime | None:
    return datetime.fromtimestamp(at / 1000, UTC) if at else None
