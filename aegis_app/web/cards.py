"""What is remembered about a card, from whichever worker holds it."""

from array import array
from datetime import UTC, datetime
from struct import Struct as Packed
from typing import Any, Final

from aegis_app.application import settings
from aegis_app.core.attempts import REFUSED, SMALL
from aegis_app.core.card import RING, RULING, Card
from aegis_app.core.habit import PLACE, typical_amount
from aegis_app.core.label import STRENGTH
from aegis_app.core.payment import DAY_MS, Millis
from aegis_app.core.uses import WIDTH
from aegis_app.core.verdicts import unpack
from aegis_app.core.visited import visited_before
from aegis_app.web.owned import remembered
from aegis_app.web.pages import Answer, page
from tables.cards import cards


@page("/cards/{card_id}")
async def card(request: Any, card_id: str) -> Answer:
    """The memory of one card, readable; 404 for one never seen, 503 while it is changing hands."""
    return await remembered(request, cards, card_id, readable, "nothing is remembered of this card")


def readable(card_id: str, card: Card) -> dict[str, Any]:
    """A card's memory in words and figures; money in minor units of the base currency."""
    attempts, days, habit = card.attempts, card.days, card.habit
    return {
        "card_id": card_id,
        "clock": _time(card.clock),
        "first_payment": _time(card.first) if card.first else None,
        "last_offsets": dict(zip(("transactions", "labels", "history"), card.seen, strict=True)),
        "base_currency": settings.base_currency,
        "attempts": [
            {"at": _time(at), "amount_minor": _known(money), "small": bool(mark & SMALL), "refused": bool(mark & REFUSED)}
            for at, money, mark in zip(array("q", attempts.times), array("f", attempts.money), attempts.marks, strict=True)
        ],
        "days": {
            f"{_time(day * DAY_MS):%Y-%m-%d}": {"attempts": number, "amount_minor": _known(money)}
            for day, number, money in zip(array("H", days.days), array("I", days.attempts), array("d", days.money), strict=True)
        },
        "places": [
            {"at": _time(at), "latitude": latitude / 1e6, "longitude": longitude / 1e6}
            for at, latitude, longitude, _, is_out in PLACE.iter_unpack(habit.places)
            if not is_out
        ],
        "habit": {
            "payments": habit.payments,
            "typical_amount_minor": typical_amount(habit),
            "largest_amount_minor": habit.largest or None,
            "countries": {code.rstrip(b"\0").decode(): number for code, number in _USES.iter_unpack(habit.countries)},
            "merchants_remembered": len(habit.merchants) // WIDTH,
            "categories_remembered": len(habit.categories) // WIDTH,
            "devices_remembered": len(habit.devices) // WIDTH,
            "payees_remembered": len(habit.payees) // WIDTH,
        },
        "verdicts": [
            {
                "payment_at": _time(each.at),
                "is_fraud": each.is_fraud,
                "source": _SOURCES[each.strength],
                "labelled_at": _time(each.known_at),
                "taken_out_of_habit": each.is_out,
            }
            for each in unpack(card.verdicts)
        ],
        "merchants_of_late": visited_before(card.visited, card.clock),
        "repeats_answered": f"{len(card.ring.rulings) // RULING.size} of {RING}",
    }


_SOURCES: Final = {strength: source for source, strength in STRENGTH.items()}
_USES: Final = Packed("<4sH")


def _known(amount: float) -> float | None:
    """`None` where a rate was missing."""
    return amount if amount == amount else None


def _time(at: Millis) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)
