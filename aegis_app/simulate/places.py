"""Cities: where cardholders live and travel to, what is paid with there, and how long the way takes."""

from functools import cache
from math import cos, pi, radians, sin
from typing import Final

from msgspec import Struct

from aegis_app.core.earth import kilometres
from aegis_app.simulate.chance import weighted
from aegis_app.simulate.currencies import currency_of

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
KM_PER_DEGREE: Final = 111.2
CITY_RADIUS_KM: Final = 7.0

CRUISE_KM_PER_HOUR: Final = 600.0
WAITING_HOURS: Final = 4.0
"""To the airport, through it, and from the other one into town."""


class City(Struct, frozen=True):
    """A disc of `CITY_RADIUS_KM` around its centre; `residents` and `visitors` are relative weights."""

    number: int
    name: str
    country: str
    currency: str
    latitude: float
    longitude: float
    utc_hours: int
    residents: int
    visitors: int

    def position(self, angle: float, share: float) -> tuple[float, float]:
        """A point of the disc in degrees, from two numbers in [0, 1): more of them near the centre than at the edge."""
        turn = 2 * pi * angle
        distance = CITY_RADIUS_KM * share / KM_PER_DEGREE
        return (
            round(self.latitude + distance * sin(turn), 5),
            round(self.longitude + distance * cos(turn) / cos(radians(self.latitude)), 5),
        )


CITIES: Final = tuple(
    City(number, name, country, currency_of(country), latitude, longitude, utc_hours, residents, visitors)
    for number, (name, country, latitude, longitude, utc_hours, residents, visitors) in enumerate(
        [
            # Nine in ten residents live where the currency is EUR.
            ("Berlin", "DE", 52.52, 13.405, 1, 9, 5),
            ("Hamburg", "DE", 53.551, 9.994, 1, 5, 3),
            ("Munich", "DE", 48.137, 11.575, 1, 5, 4),
            ("Cologne", "DE", 50.938, 6.96, 1, 4, 2),
            ("Paris", "FR", 48.857, 2.352, 1, 10, 9),
            ("Lyon", "FR", 45.764, 4.836, 1, 4, 2),
            ("Marseille", "FR", 43.297, 5.37, 1, 4, 3),
            ("Madrid", "ES", 40.417, -3.704, 1, 7, 5),
            ("Barcelona", "ES", 41.385, 2.173, 1, 5, 8),
            ("Rome", "IT", 41.903, 12.496, 1, 6, 8),
            ("Milan", "IT", 45.464, 9.19, 1, 4, 4),
            ("Naples", "IT", 40.852, 14.268, 1, 3, 3),
            ("Amsterdam", "NL", 52.368, 4.904, 1, 4, 6),
            ("Brussels", "BE", 50.85, 4.352, 1, 3, 3),
            ("Vienna", "AT", 48.208, 16.373, 1, 4, 5),
            ("Lisbon", "PT", 38.722, -9.139, 0, 3, 6),
            ("Dublin", "IE", 53.35, -6.26, 0, 2, 3),
            ("Helsinki", "FI", 60.17, 24.938, 2, 2, 1),
            ("Athens", "GR", 37.984, 23.728, 2, 3, 5),
            ("Bratislava", "SK", 48.149, 17.107, 1, 1, 1),
            ("London", "GB", 51.507, -0.128, 0, 4, 9),
            ("Zurich", "CH", 47.377, 8.541, 1, 1, 3),
            ("Prague", "CZ", 50.075, 14.438, 1, 1, 4),
            ("Warsaw", "PL", 52.23, 21.012, 1, 2, 2),
            ("Copenhagen", "DK", 55.676, 12.568, 1, 1, 2),
            ("Oslo", "NO", 59.914, 10.752, 1, 1, 1),
            ("Bucharest", "RO", 44.427, 26.102, 2, 0, 1),
            ("Istanbul", "TR", 41.008, 28.978, 3, 0, 5),
            ("Marrakesh", "MA", 31.63, -7.981, 1, 0, 2),
            ("Dubai", "AE", 25.205, 55.271, 4, 0, 2),
            ("New York", "US", 40.713, -74.006, -5, 2, 3),
            ("Miami", "US", 25.762, -80.192, -5, 0, 1),
            ("Los Angeles", "US", 34.052, -118.244, -8, 0, 1),
            ("Mexico City", "MX", 19.433, -99.133, -6, 0, 1),
            ("Sao Paulo", "BR", -23.551, -46.633, -3, 0, 1),
            ("Lagos", "NG", 6.524, 3.379, 1, 0, 1),
            ("Bangkok", "TH", 13.756, 100.502, 7, 0, 2),
            ("Singapore", "SG", 1.352, 103.82, 8, 0, 1),
            ("Tokyo", "JP", 35.677, 139.65, 9, 2, 1),
            ("Sydney", "AU", -33.869, 151.209, 10, 0, 1),
            ("Kuwait City", "KW", 29.376, 47.977, 3, 1, 1),
        ]
    )
)


home_city: Final = weighted(CITIES, [city.residents for city in CITIES])
"""The city of residence that a number in [0, 1) stands for."""
visited_city: Final = weighted(CITIES, [city.visitors for city in CITIES])
"""The destination that a number in [0, 1) stands for."""


@cache
def residences(country: str) -> tuple[City, ...]:
    """Where people live in a country."""
    return tuple(city for city in CITIES if city.country == country and city.residents)


@cache
def far_from(home: City, least_km: float) -> tuple[City, ...]:
    """Cities at least so far away."""
    return tuple(city for city in CITIES if distance_km(city, home) >= least_km)


def distance_km(one: City, other: City) -> float:
    """Between centres, along the great circle."""
    return kilometres(one.latitude, one.longitude, other.latitude, other.longitude)


def travel_ms(one: City, other: City) -> int:
    """How long the way takes, door to door; never faster than an airliner."""
    return round((WAITING_HOURS + distance_km(one, other) / CRUISE_KM_PER_HOUR) * HOUR_MS)
