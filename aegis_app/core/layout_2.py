"""Cards as the second layout had them, brought into the present one.

It did not know which payment a place is of, nor what each payment of the ring had taught: those stay in habit whatever is said about
them. The largest amount counts as that of a payment which the ring no longer holds.
"""

from struct import Struct as Packed
from typing import Final

from msgspec.structs import replace

from aegis_app.core.card import LAYOUT, Card
from aegis_app.core.habit import PLACE

PLACE_2: Final = Packed("<qii")
_OF_NONE: Final = bytes(4)


def read(card: Card) -> Card:
    """A card of layout 2, as it was decoded, in the present layout."""
    habit = replace(card.habit, places=read_places(card.habit.places), largest_before=card.habit.largest)
    return replace(card, layout=LAYOUT, habit=habit)


def read_places(places: bytes) -> bytes:
    """Places as the first two layouts had them."""
    return b"".join(PLACE.pack(*place, _OF_NONE, False) for place in PLACE_2.iter_unpack(places))
