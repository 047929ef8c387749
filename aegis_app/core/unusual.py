"""How unusual a payment is for its card, from what the card remembers alone: what merchants and devices are told of it."""

from typing import Final

AMOUNT: Final = 400
"""Most points: for an amount five standard deviations above the card's usual; none up to one."""
MERCHANT: Final = 200
"""For a merchant where the card was never."""
HOUR: Final = 200
"""For an hour at which the card never paid; none where it pays as often as an even spread over the day would have it."""
DISTANCE: Final = 200
"""For 500 km or more from the last place."""

_EVEN: Final = 3 / 24


def unusual(amount_z: float | None, new_merchant: bool | None, hour_share: float | None, km: float | None) -> int | None:
    """0 to 1000, by features of those names: points for each that is known, of as many as those could have given.

    `None` where nothing is known.
    """
    points = possible = 0
    if amount_z is not None:
        points, possible = round(AMOUNT * _share((amount_z - 1) / 4)), AMOUNT
    if new_merchant is not None:
        points, possible = points + MERCHANT * new_merchant, possible + MERCHANT
    if hour_share is not None:
        points, possible = points + round(HOUR * _share(1 - hour_share / _EVEN)), possible + HOUR
    if km is not None:
        points, possible = points + round(DISTANCE * _share(km / 500)), possible + DISTANCE
    return points * 1000 // possible if possible else None


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
