"""The merchants that a card used of late, by name: where its data may have been stolen, if a fraud is confirmed.

The `MOST_VISITED` used last, as far as they fit into `MOST_BYTES`; of each the first and the last day, of allowed payments alone.
"""

from functools import lru_cache
from typing import Final

from aegis_app.core.payment import DAY_MS, Millis

MOST_VISITED: Final = 24
MOST_BYTES: Final = 512
"""A name takes its UTF-8 and six bytes more."""
REACH_DAYS: Final = 30
"""So long before a fraud can the card have been copied."""

# An entry is BEGIN, the name, END, and two days. UTF-8 holds neither mark, and days are written so that they hold neither.
_BEGIN: Final = b"\xff"
_END: Final = b"\xfe"
_BASE: Final = 250


def visit(visited: bytes, merchant_id: str, at: Millis) -> bytes:
    """The column after a payment at a merchant."""
    name, day = _named(merchant_id), _packed(at // DAY_MS)
    begin = visited.find(name)
    if begin < 0:
        return _bounded(visited + name + day + day)
    days = begin + len(name)
    first, last = visited[days : days + 2], visited[days + 2 : days + 4]
    if last == day and days + 4 == len(visited):
        return visited
    return visited[:begin] + visited[days + 4 :] + name + (first if first < day else day) + (last if last > day else day)


def visited_before(visited: bytes, at: Millis) -> list[str]:
    """The merchants used in the 30 days before `at`; the one used last comes last.

    One that was used before and after counts, although only the first and the last day are known.
    """
    if not visited:
        return []
    latest, earliest = _packed(at // DAY_MS), _packed(at // DAY_MS - REACH_DAYS)
    found = []
    for entry in visited.split(_BEGIN)[1:]:
        name, _, days = entry.partition(_END)
        if days[:2] <= latest and days[2:] >= earliest:
            found.append(name.decode())
    return found


@lru_cache(1 << 14)
def _named(merchant_id: str) -> bytes:
    return _BEGIN + merchant_id.encode() + _END


@lru_cache(1 << 10)
def _packed(day: int) -> bytes:
    """Compares as the days do."""
    return bytes(divmod(day, _BASE))


def _bounded(visited: bytes) -> bytes:
    while visited.count(_BEGIN) > MOST_VISITED or len(visited) > MOST_BYTES:
        visited = visited[visited.find(_BEGIN, 1) :]
    return visited
