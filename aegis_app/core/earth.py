"""Distances on the Earth, taken as a sphere."""

from math import asin, cos, radians, sin, sqrt
from typing import Final

EARTH_KM: Final = 6371.0088
"""Mean radius (IUGG)."""


def kilometres(latitude: float, longitude: float, to_latitude: float, to_longitude: float) -> float:
    """Great-circle distance between two places in degrees (haversine)."""
    north, south = radians(latitude), radians(to_latitude)
    half = sin((south - north) / 2) ** 2 + cos(north) * cos(south) * sin(radians(to_longitude - longitude) / 2) ** 2
    return 2 * EARTH_KM * asin(min(1.0, sqrt(half)))


def direction(latitude: float, longitude: float) -> tuple[float, float, float]:
    """From the centre of the Earth to a place in degrees: a vector of length 1."""
    north, east = radians(latitude), radians(longitude)
    across = cos(north)
    return across * cos(east), across * sin(east), sin(north)
