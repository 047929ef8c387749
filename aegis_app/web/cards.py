"""What is remembered about a card, from whichever worker holds it."""

from array import array
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from faust.types import TP
from yarl import URL

from aegis_app.application import app, settings
from aegis_app.core.attempts import REFUSED, SMALL, timeline
from aegis_app.core.card import DAY_MS, PLACE, RING, RULING, Card
from aegis_app.core.features import geometric_mean
from aegis_app.core.payment import Millis
from aegis_app.topics import home
from aegis_app.web.pages import Answer, page
from tables.cards import cards

HOP: Final = "X-Aegis-Hop"
PROXY_SECONDS: Final = 2.0


@page("/cards/{card_id}")
async def card(request: Any, card_id: str) -> Answer:
    """The memory of one card, readable; 404 for one never seen, 503 while it is changing hands."""
    partition = home(card_id.encode(), app.partitions)
    changelog = TP(cards.changelog_topic.get_topic_name(), partition)
    if app.rebalancing or app.in_recovery or not app.tables.actives_ready:
        return 503, {"error": "memory is being taken over; try again"}
    if changelog in app.assignor.assigned_actives() and cards.data.holds(partition):
        remembered = cards.read(partition, card_id)
        return (404, {"error": "no payment of this card is remembered"}) if remembered is None else (200, readable(card_id, remembered))
    assignor: Any = app.assignor
    url = assignor._tps_url.get(changelog)
    if url is None or HOP in request.headers:
        return 503, {"error": f"partition {partition} is changing hands; try again"}
    return await _ask(url, card_id)


async def _ask(url: str, card_id: str) -> Answer:
    headers = {HOP: "1"} | ({"Authorization": f"Bearer {settings.web_token}"} if settings.web_token else {})
    timeout = aiohttp.ClientTimeout(total=PROXY_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(URL(f"{str(url).rstrip('/')}/cards/{quote(card_id, safe='')}", encoded=True), headers=headers) as answer,
        ):
            return answer.status, await answer.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        return 503, {"error": f"the worker that holds this card does not answer: {type(error).__name__}"}


def readable(card_id: str, card: Card) -> dict[str, Any]:
    """A card's memory in words and figures."""
    times = timeline(card.times)
    return {
        "card_id": card_id,
        "clock": _time(card.clock),
        "last_offsets": dict(zip(("transactions", "labels", "history"), card.seen, strict=True)),
        "attempts": [
            {"at": _time(at), "small": bool(mark & SMALL), "refused": bool(mark & REFUSED)}
            for at, mark in zip(times, card.marks, strict=True)
        ],
        "attempts_per_day": {
            f"{_time(day * DAY_MS):%Y-%m-%d}": number
            for day, number in zip(array("H", card.days), array("I", card.day_counts), strict=True)
        },
        "places": [
            {"at": _time(at), "latitude": latitude / 1e6, "longitude": longitude / 1e6}
            for at, latitude, longitude in PLACE.iter_unpack(card.places)
        ],
        "habit": {
            "payments": card.habit,
            "currency": card.currency or None,
            "typical_amount_minor": geometric_mean(card),
            "largest_amount_minor": card.largest or None,
            "countries": [card.countries[at : at + 2].decode() for at in range(0, len(card.countries), 2)],
            "merchants_remembered": len(card.merchants) // 4,
            "devices_remembered": len(card.devices) // 4,
        },
        "repeats_answered": f"{len(card.ring) // RULING.size} of {RING}",
    }


def _time(at: Millis) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)
