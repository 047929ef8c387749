"""Numbers that belong to a thing for good, the same for the same key without storing them, and the shapes that chance takes.

A million cards cost little until they pay, because who they are is a hash of the seed and their number.
"""

from bisect import bisect
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import accumulate
from statistics import NormalDist
from struct import Struct
from typing import Final, TypeVar

T = TypeVar("T")

_KEY = Struct("<4Q")
_DIGEST = Struct("<16I")
_UNIT = 2.0**-32
_WORD = 2**64
_GOLDEN = 0.6180339887498949

normal: Final = NormalDist().inv_cdf
"""The standard normal value that a number strictly between 0 and 1 stands for."""


def numbers(purpose: bytes, seed: int, *key: int) -> tuple[int, ...]:
    """Sixteen independent whole numbers in [0, 2**32) for `purpose` (up to 16 bytes) and up to three further numbers."""
    first, second, third = (*key, 0, 0, 0)[:3]
    return _DIGEST.unpack(blake2b(_KEY.pack(seed % _WORD, first, second, third), person=purpose).digest())


def uniforms(purpose: bytes, seed: int, *key: int) -> list[float]:
    """The same, as sixteen numbers strictly between 0 and 1."""
    return [(number + 0.5) * _UNIT for number in numbers(purpose, seed, *key)]


def token(letter: str, purpose: bytes, seed: int, *key: int) -> str:
    """A name that tells nothing about what it names but its kind: the letter and 16 hexadecimal digits."""
    first, second, *_ = numbers(purpose, seed, *key)
    return f"{letter}{first:08x}{second:08x}"


def spread(number: int) -> float:
    """A number in [0, 1) for each whole one, evenly spread over any run of them: what staggers things without a hash."""
    return number * _GOLDEN % 1.0


def weighted(things: Sequence[T], weights: Sequence[float]) -> Callable[[float], T]:
    """What picks, by a number in [0, 1), one of `things` as often as its weight says."""
    ends = list(accumulate(weights))

    def pick(share: float) -> T:
        return things[bisect(ends, share * ends[-1])]

    return pick


def zipf(share: float, count: int) -> int:
    """A rank from 0 to `count` - 1, by a number in [0, 1): the n-th is met about 1/n as often as the first."""
    return min(int((count + 1) ** share), count) - 1
