"""Work that nobody waits for, in slices between that which somebody waits for.

The event loop gives every task that is ready a turn, and a payment needs several rounds of the loop from Kafka to Kafka. So of all that is
learnt and settled for later, only one task goes on at a time, for a millisecond or for as long as others had just before.
"""

import asyncio
from time import perf_counter
from typing import Final, Self

LEAST: Final = 0.001
"""Shortest slice and shortest pause, in seconds."""
MOST: Final = 0.05
"""Longest slice: while payments are more than can be decided, what nobody waits for keeps a share of the time, the smaller the longer
they hold the loop: half of it at 5 ms, a quarter at 50."""


class Background:
    """Enter it for a stretch of computing, and rest often within; nothing else may be waited for there."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._until = 0.0

    async def __aenter__(self) -> Self:
        await self._turn.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._turn.release()

    async def rest(self) -> None:
        """Let others go on, where this slice is over."""
        begun = perf_counter()
        if begun < self._until:
            return
        await asyncio.sleep(LEAST)
        now = perf_counter()
        self._until = now + min(max(now - begun, LEAST), MOST)
