"""The clock by which a lease ends."""

import time
from typing import Final

CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine is suspended, where the system has such a clock: the group goes on, too."""


def now() -> float:
    """Seconds since some moment."""
    return time.clock_gettime(CLOCK)
