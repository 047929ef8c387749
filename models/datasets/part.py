"""A part of a file's cards, for processes that share the work: all payments of a card are of the same part."""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct
from xxhash import xxh32_intdigest

from aegis_app.core.intake import unmarked


class _Head(Struct, gc=False):
    card_id: str


_decode_head = msgspec.json.Decoder(_Head).decode


class Part(Struct, frozen=True):
    """Part `number`, from 0, of `of` parts."""

    number: int
    of: int

    @property
    def is_whole(self) -> bool:
        return self.of == 1

    def holds(self, card: str) -> bool:
        """Whether payments of `card` are of this part."""
        return xxh32_intdigest(card.encode()) % self.of == self.number

    def of_lines(self, lines: Iterable[bytes]) -> Iterable[bytes]:
        """JSON lines, those of other parts blank, so that numbers stay as they are. A line without a card is the first part's."""
        lines = unmarked(lines)
        return lines if self.is_whole else (line if self._holds_line(line) else b"\n" for line in lines)

    def _holds_line(self, line: bytes) -> bool:
        try:
            card = _decode_head(line).card_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.number == 0
        return self.holds(card)


WHOLE: Final = Part(0, 1)
