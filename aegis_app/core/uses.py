"""Which merchants, devices, countries … a card has used, and how often: a bounded set, packed.

Six bytes each: four that stand for the name, two for the number of uses. In the order of use, so that the one unused for longest
goes where there are too many. A name whose uses were all taken out again stays in its place with none.
"""

from functools import lru_cache
from typing import Final

from xxhash import xxh32_digest

WIDTH: Final = 6
MOST_USES: Final = 65_535
"""A count stays there."""
_ONCE: Final = (1).to_bytes(2, "little")


@lru_cache(1 << 16)
def fingerprint(name: str) -> bytes:
    """Four bytes that stand for a name; those of a country are its code, readable."""
    return name.encode() + b"\0\0" if len(name) == 2 and name.isascii() else xxh32_digest(name.encode())


def find(column: bytes, item: bytes, width: int) -> int:
    """Where the entry that begins with `item` stands in a column of entries of `width` bytes, or -1."""
    at = column.find(item)
    while at > 0 and at % width:
        at = column.find(item, at + 1)
    return at


def uses(column: bytes, item: bytes) -> int:
    """How often `item` was used, as far as remembered."""
    at = column.find(item)
    if at > 0 and at % WIDTH:
        at = find(column, item, WIDTH)
    return 0 if at < 0 else column[at + 4] | column[at + 5] << 8


def use(column: bytes, item: bytes, most: int) -> bytes:
    """The column after one more use of `item`."""
    at = column.find(item)
    if at > 0 and at % WIDTH:
        at = find(column, item, WIDTH)
    if at < 0:
        return (column + item + _ONCE)[-most * WIDTH :]
    count = (column[at + 4] | column[at + 5] << 8) + 1
    if at == len(column) - WIDTH and count <= MOST_USES:
        return column[:-2] + count.to_bytes(2, "little")
    return column[:at] + column[at + WIDTH :] + item + (count if count < MOST_USES else MOST_USES).to_bytes(2, "little")


def add_uses(column: bytes, item: bytes, by: int) -> bytes:
    """The column with so many uses of `item` more, or less, and the order left as it is; nothing where it is not remembered."""
    at = find(column, item, WIDTH)
    if at < 0:
        return column
    count = min(max((column[at + 4] | column[at + 5] << 8) + by, 0), MOST_USES)
    return column[: at + 4] + count.to_bytes(2, "little") + column[at + WIDTH :]
