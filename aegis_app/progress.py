"""How far a command is with its payments."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

STRIDE: Final = 1000
"""Payments between two looks at the progress bar."""
T = TypeVar("T")


def counted(payments: Iterable[T], show: Callable[[int], object]) -> Iterator[T]:
    """`payments`, while `show` hears of every thousand, and in the end of the rest."""
    number = 0
    for number, payment in enumerate(payments, start=1):
        if number % STRIDE == 0:
            show(STRIDE)
        yield payment
    show(number % STRIDE)
