"""`aegis demo`: all of Aegis on one machine, and its end at one Ctrl-C."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from rich.console import Console

from aegis_app.demo import stack, traffic
from aegis_app.demo.edge import edge, invite
from aegis_app.demo.interrupts import Interrupts
from aegis_app.demo.show import LAST_DECISION_SECONDS, Show, picture
from aegis_app.demo.stack import Children, Stack, Steps
from aegis_app.demo.tally import faults, summary
from aegis_app.settings import Settings
from aegis_app.simulate import Labelled

__all__ = ["DemoError", "run"]


class DemoError(RuntimeError):
    """The demo did not show what it should; the message says why."""


def run(
    settings: Settings, seconds: float | None = None, keep: Path | None = None, drawing: Path | None = None, *, with_models: bool = True
) -> None:
    """Show Aegis at work for `seconds`, or until SIGINT or SIGTERM, then end all that was started.

    Data goes to `keep`, a new directory, or else to one that is removed at the end; `drawing` receives the last screen as SVG.
    Raises `DemoError` where a run of so many seconds did not decide each payment once or caught no fraud, where it was cut short, and
    where a process is left; `KafkaError`, `WorkerError`, `PolicyError` or what aiokafka raises where something else went wrong.
    """
    steps, children = Steps(Console(stderr=True)), Children()
    with Interrupts() as interrupts:
        try:
            show = _run(settings, seconds, keep, steps, interrupts, children, with_models=with_models)
        except KeyboardInterrupt:
            raise DemoError("interrupted before the first payment was sent") from None
    if drawing is not None and show.scene is not None:
        drawing.write_text(picture(show.scene), "utf-8")
    print(*summary(show.tally), sep="\n", flush=True)
    if show.scene is not None:
        print(f"at the end: {show.scene.models}", flush=True)
    reasons = [f"still running: {each}" for each in children.left()]
    if seconds is not None:
        reasons += ["interrupted before its time was over"] if show.interrupted else faults(show.tally, LAST_DECISION_SECONDS)
    if reasons:
        raise DemoError("; ".join(reasons))
    steps.say("Everything has ended, nothing is left running" + ("" if keep is None else f"; data and logs are in {keep}"))


def _run(
    given: Settings,
    seconds: float | None,
    keep: Path | None,
    steps: Steps,
    interrupts: Interrupts,
    children: Children,
    *,
    with_models: bool,
) -> Show:
    begun = perf_counter()
    with (
        _directory(keep) as directory,
        stack.broker(given, directory, steps, interrupts, children) as (settings, kafka),
        stack.worker(settings, directory, interrupts, children) as (worker, training),
        edge(settings, worker, directory, interrupts, children) as beside,
    ):
        try:
            running = Stack(settings, worker, kafka, training, [] if beside is None else beside.processes)
            if with_models:
                with interrupts.held():
                    children.add("training", training.start())
            stream = _settle_in(running, steps, interrupts)
            if beside is None:
                steps.say("No gateway and no ledger: they need the extra `gateway`")
            else:
                invite(beside, steps)
            steps.say(f"Up after {perf_counter() - begun:.0f} s; views on {worker.url}")
            show = Show(running, seconds, None if beside is None else beside.trial)
            show.play(stream, steps, interrupts)
            return show
        finally:
            interrupts.ignore()
            steps.say("Ending what was started")


def _settle_in(running: Stack, steps: Steps, interrupts: Interrupts) -> Iterator[Labelled]:
    """Bring the worker up, its memory warm. Returns the payments that follow."""
    steps.say(f"A worker starts (process {running.worker.pid})")
    stream = traffic.lives()
    with steps.step(f"{traffic.CARDS:,} cardholders live for {traffic.WARM_DAYS.days} days", traffic.WARM_PAYMENTS) as advance:
        past = interrupts.run(traffic.warm(running.settings, stream, advance))
    with steps.step("The worker gets ready"):
        running.worker.wait_until_ready(stack.READY_SECONDS)
    with steps.step(f"It learns their {past:,} payments", past) as advance:
        stack.wait_until_learnt(running, past, advance)
    return stream


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="aegis-demo-") as name:
            yield Path(name)
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise DemoError(f"{keep} is there already: name a new directory to keep data in")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.absolute()
