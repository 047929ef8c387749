"""Payments on their way, seen: as a live screen on a terminal, as a line now and then elsewhere."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from aegis_app.demo import traffic
from aegis_app.demo.interrupts import Interrupts
from aegis_app.demo.screen import Scene, clock, render
from aegis_app.demo.stack import Stack, Steps
from aegis_app.demo.tally import KINDS, Tally, briefly
from aegis_app.simulate import Labelled

FRAMES: Final = 4
"""A second."""
LINE_SECONDS: Final = 5.0
CHECK_SECONDS: Final = 0.5
LAST_DECISION_SECONDS: Final = 20.0
AFTERMATH_SECONDS: Final = 0.5
"""A second decision about the last payments would be seen within it."""
HASTE_SECONDS: Final = 1.0
"""For decisions that are under way at an interrupt."""
CARD_SECONDS: Final = 10.0
"""For how long the same card is offered to look at: long enough to do so."""
PICTURE: Final = (100, 30)


class Show:
    """One run of payments, from the first sent to the last decided."""

    def __init__(self, stack: Stack, seconds: float | None, trial: Path | None = None) -> None:
        self.tally = Tally()
        self.scene: Scene | None = None
        """The latest while payments were sent."""
        self.interrupted = False
        self._stack = stack
        self._seconds = seconds
        self._trial = trial
        self._ending = asyncio.Event()
        self._begun = 0.0
        self._begun_at: datetime | None = None
        self._card: str | None = None
        self._card_since = 0.0

    def play(self, stream: Iterator[Labelled], steps: Steps, interrupts: Interrupts) -> None:
        """Send until the time is over or a signal comes, and wait for the decisions. Raises what ends it early."""
        console = Console()
        if not console.is_terminal:
            interrupts.run(self._play(stream, self._tell(steps.say), interrupts))
            return
        with Live(console=console, screen=True, refresh_per_second=FRAMES) as live:
            interrupts.run(self._play(stream, self._draw(live), interrupts))

    async def _play(self, stream: Iterator[Labelled], watching: Coroutine[Any, Any, None], interrupts: Interrupts) -> None:
        async with traffic.decisions(self._stack.settings) as consumer:
            course = asyncio.create_task(self._course(stream))
            tasks = [course, *map(asyncio.create_task, (traffic.read(consumer, self.tally), self._check(), watching))]
            try:
                with self._interruptible(interrupts, course):
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if not task.cancelled():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def _interruptible(self, interrupts: Interrupts, course: "asyncio.Task[None]") -> Iterator[None]:
        """A signal ends the sending, and soon after even the waiting for decisions."""
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            self.interrupted = True
            self._ending.set()
            loop.call_later(HASTE_SECONDS, course.cancel)

        with interrupts.met_by(lambda: loop.call_soon_threadsafe(interrupt)):
            yield

    async def _course(self, stream: Iterator[Labelled]) -> None:
        self._begun = perf_counter()
        if self._seconds is not None:
            asyncio.get_running_loop().call_later(self._seconds, self._ending.set)
        await traffic.send(self._stack.settings, stream, self.tally, self._ending)
        self._ending.set()
        deadline = perf_counter() + LAST_DECISION_SECONDS
        while self.tally.waiting and perf_counter() < deadline:  # noqa: ASYNC110  # the tally is pure and has no event to wait for
            await asyncio.sleep(traffic.TICK_SECONDS)
        await asyncio.sleep(AFTERMATH_SECONDS)

    async def _check(self) -> None:
        while True:
            self._stack.check()
            await self._stack.training.look()
            await asyncio.sleep(CHECK_SECONDS)

    async def _draw(self, live: Live) -> None:
        while True:
            live.update(render(self._look()))
            await asyncio.sleep(1 / FRAMES)

    async def _tell(self, say: Callable[[str], None]) -> None:
        due = perf_counter() + LINE_SECONDS
        while True:
            scene = self._look()
            if perf_counter() >= due:
                due += LINE_SECONDS
                say(line(scene))
            await asyncio.sleep(1 / FRAMES)

    def _look(self) -> Scene:
        """What there is to see now; what was last to be seen, once no more payments come."""
        if self.scene is not None and self._ending.is_set():
            return self.scene
        tally, now = self.tally, perf_counter()
        running = now - self._begun if self._begun else 0.0
        if self._begun_at is None:
            self._begun_at = tally.simulated
        blocked = tuple(tally.blocked)
        if blocked and now - self._card_since > CARD_SECONDS:
            self._card, self._card_since = blocked[0].transaction.card_id, now
        p50, p99 = tally.latencies(0.5, 0.99)
        self.scene = Scene(
            running=running,
            left=None if self._seconds is None else max(0.0, self._seconds - running),
            rate=tally.rate(now, running),
            p50=p50,
            p99=p99,
            genuine=tally.of(None),
            frauds=tuple(tally.of(kind) for kind in KINDS),
            blocked=blocked,
            simulated=tally.simulated,
            passed=timedelta() if tally.simulated is None or self._begun_at is None else tally.simulated - self._begun_at,
            cards=traffic.CARDS,
            url=self._stack.worker.url,
            card=self._card,
            models=self._stack.training.state,
            layers=tuple(tally.layers),
            trial=self._trial,
            waiting=tally.waiting,
        )
        return self.scene


def line(scene: Scene) -> str:
    """The scene where there is no screen."""
    every, frauds = scene.all, scene.caught
    return (
        f"{clock(scene.running)}  {every.payments:,} decided, {scene.rate:,.0f} a second; {every.reviewed:,} for review, {every.blocked:,} "
        f"blocked; frauds caught {frauds.stopped:,} of {frauds.payments:,}; p50 {briefly(scene.p50)}, p99 {briefly(scene.p99)}; "
        f"{scene.models}"
    )


def picture(scene: Scene) -> str:
    """The screen as SVG. Without the web fonts that rich asks for: a picture should load nothing."""
    width, height = PICTURE
    console = Console(
        record=True, width=width, height=height, file=StringIO(), force_terminal=True, color_system="truecolor", legacy_windows=False
    )
    console.print(render(scene), height=height)
    svg = console.export_svg(title="make demo", unique_id="aegis-demo")
    return re.sub(r"@font-face \{[^}]*\}\s*", "", svg)
