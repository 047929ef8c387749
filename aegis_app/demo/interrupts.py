"""SIGINT and SIGTERM, met alike: nothing that was started is lost sight of."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

PATIENCE_SECONDS: Final = 1.0
"""Then even closing a connection is given up."""


def _raise() -> None:
    raise KeyboardInterrupt


class Interrupts:
    """Within a `with` block, both signals raise `KeyboardInterrupt`, or what is said here."""

    def __init__(self) -> None:
        self._meet: Callable[[], object] = _raise
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        self._before = [signal.signal(number, self._met) for number in SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def _met(self, _number: int, _frame: FrameType | None) -> None:
        self._meet()

    def ignore(self) -> None:
        """From now on they do nothing: what was started is being ended already."""
        self._meet = lambda: None

    @contextmanager
    def met_by(self, action: Callable[[], object]) -> Iterator[None]:
        before, self._meet = self._meet, action
        try:
            yield
        finally:
            self._meet = before

    @contextmanager
    def held(self) -> Iterator[None]:
        """They wait until the block is over: between a child's birth and its handle, one would leave an orphan."""
        came: list[bool] = []
        with self.met_by(lambda: came.append(True)):
            yield
        if came:
            self._meet()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """`asyncio.run`, in which a signal cancels `work`. Raises `KeyboardInterrupt` then."""
        came: list[bool] = []

        async def cancellable() -> T:
            loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)

            def cancel() -> None:
                task.cancel()
                loop.call_later(PATIENCE_SECONDS, task.cancel)

            with self.met_by(lambda: loop.call_soon_threadsafe(cancel)):
                if came:
                    cancel()
                return await task

        try:
            with self.met_by(lambda: came.append(True)):  # a loop half made or half closed can be told nothing
                done = asyncio.run(cancellable())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        if came:
            self._meet()
        return done
