"""Numbers that belong to a thing for good: the same for the same key, without storing them.

A million cards cost nothing until they pay, because who they are is a hash of the seed and their number.
"""

from hashlib import blake2b
from struct import Struct

_KEY = Struct("<4Q")
_DIGEST = Struct("<16I")
_UNIT = 2.0**-32
_WORD = 2**64


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
