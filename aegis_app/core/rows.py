"""Tables in packed bytes: rows of one width, in the order of a key, which is a whole number at the head of each."""

from bisect import bisect_left

from msgspec import Struct


class Rows(Struct, frozen=True):
    """A shape of rows."""

    key: int
    """Bytes of the key, little-endian."""
    width: int
    """Bytes of a row, its key included."""

    def since(self, rows: bytes | bytearray, key: int) -> int:
        """Where the first row starts, in bytes, whose key is `key` or more; the length if there is none."""
        if not rows or self._key(rows, 0) >= key:
            return 0
        return self.width * bisect_left(range(len(rows) // self.width), key, lo=1, key=lambda row: self._key(rows, row * self.width))

    def row(self, rows: bytearray, key: int) -> int:
        """Where the row of `key` starts, in bytes; a row of zeros is put in if there was none."""
        end = len(rows)
        last = self._key(rows, end - self.width) if end else -1
        if last == key:
            return end - self.width
        start = end if last < key else self.since(rows, key)
        if start == end or self._key(rows, start) != key:
            rows[start:start] = key.to_bytes(self.width, "little")
        return start

    def _key(self, rows: bytes | bytearray, start: int) -> int:
        return int.from_bytes(rows[start : start + self.key], "little")


def column(rows: bytes, width: int, cell: int) -> list[int]:
    """The cells (unsigned, of four bytes each) at that place of all rows."""
    return memoryview(rows).cast("I")[cell :: width // 4].tolist()
