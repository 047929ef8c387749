"""Tables in packed bytes: rows of one width, in the order of a key, which is a whole number at the head of each."""

from bisect import bisect_left

from msgspec import Struct


class Rows(Struct, frozen=True):
    """A shape of rows."""

    key: int
    """Bytes of the key, 4 or 8: a whole number, unsigned."""
    width: int
    """Bytes of a row, its key included; a multiple of the key's."""

    def since(self, rows: bytes | bytearray, key: int) -> int:
        """Where the first row starts, in bytes, whose key is `key` or more; the length if there is none."""
        if not rows or int.from_bytes(rows[: self.key], "little") >= key:
            return 0
        keys = memoryview(rows).cast("I" if self.key == 4 else "Q")[:: self.width // self.key]
        return bisect_left(keys, key) * self.width

    def row(self, rows: bytearray, key: int) -> int:
        """Where the row of `key` starts, in bytes; a row of zeros is put in if there was none."""
        head = key.to_bytes(self.key, "little")
        last = len(rows) - self.width
        if last >= 0 and rows[last : last + self.key] == head:
            return last
        start = self.since(rows, key)
        if rows[start : start + self.key] != head:
            rows[start:start] = head.ljust(self.width, b"\0")
        return start


def column(rows: bytes, width: int, cell: int) -> list[int]:
    """The cells (unsigned, of four bytes each) at that place of all rows."""
    return memoryview(rows).cast("I")[cell :: width // 4].tolist()
