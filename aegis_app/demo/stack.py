"""What the demo starts, and ends by its own handles: a broker, its topics, one worker."""

import asyncio
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec
from aiokafka.errors import KafkaError as ClientError
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from aegis_app import admin
from aegis_app.access import AccessError, connect
from aegis_app.core.policy import Mode
from aegis_app.demo.interrupts import Interrupts
from aegis_app.demo.training import Training
from aegis_app.kafka import Kafka, jars
from aegis_app.kafka.broker import USUAL_PORT
from aegis_app.kafka.ports import free_port
from aegis_app.policies import local_policy, with_mode
from aegis_app.process import Process, Worker, WorkerError
from aegis_app.settings import Settings
from aegis_app.simulate import RATES_FILE

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 8.0
"""For the worker; with the broker's ten, everything ends within 20 s even where all of it hangs."""
CLEAN_SECONDS: Final = 1.5

Advance = Callable[[float], None]


class Steps:
    """Says on stderr what is being done: with a bar on a terminal, in a line elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, text: str, total: float | None = None) -> Iterator[Advance]:
        """`total`: how much there is to `Advance`, where that is known."""
        if not self._console.is_terminal:
            self.say(text)
            yield lambda _: None
            return
        columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description:<46}"), BarColumn(24))
        with Progress(*columns, TaskProgressColumn(), TimeElapsedColumn(), console=self._console) as progress:
            task = progress.add_task(text, total=total)
            yield lambda amount: progress.advance(task, amount)
            progress.update(task, total=total or 1, completed=total or 1)

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


class Stack(Struct):
    """What runs."""

    settings: Settings
    worker: Worker
    kafka: Kafka | None
    """`None` where AEGIS_BROKER names another."""
    training: Training
    beside: list[Process] = []

    def check(self) -> None:
        """Raise `KafkaError` or `WorkerError` where something ended by itself."""
        if self.kafka is not None:
            self.kafka.check()
        for process in (self.worker, *self.beside):
            if process.pid is None:
                raise WorkerError(f"the {process.name} ended with status {process.returncode}: {process.last_words()}")


class Children:
    """The processes started, each the leader of a session of its own."""

    def __init__(self) -> None:
        self._leaders: dict[int, str] = {}

    def add(self, name: str, pid: int | None) -> None:
        if pid is not None:
            self._leaders[pid] = name

    def left(self) -> list[str]:
        """Those of whose sessions a process is left."""
        return [f"{name} ({pid})" for pid, name in self._leaders.items() if _lives(pid)]


def _lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def broker(
    given: Settings, directory: Path, steps: Steps, interrupts: Interrupts, children: Children
) -> Iterator[tuple[Settings, Kafka | None]]:
    """A Kafka of our own with the demo's topics; or, on that of AEGIS_BROKER, topics beside those of others, removed afterwards."""
    with ExitStack() as stack:
        if "AEGIS_BROKER" in os.environ:
            name = f"aegis-demo-{secrets.token_hex(4)}"
            settings, kafka = msgspec.structs.replace(given, topic_prefix=f"{name}-", app_id=name), None
            stack.callback(_remove_topics, settings)
        else:
            kafka = Kafka(directory / "kafka", jars(given), port=free_port(prefer=USUAL_PORT))
            settings = msgspec.structs.replace(given, broker=kafka.address)
            stack.callback(kafka.stop)
            with steps.step("Kafka starts"), interrupts.held():
                kafka.start()
                children.add("Kafka", kafka.pid)
            steps.say(f"Kafka serves on {kafka.address} (process {kafka.pid})")
        interrupts.run(admin.create(settings))
        yield settings, kafka


@contextmanager
def worker(settings: Settings, directory: Path, interrupts: Interrupts, children: Children) -> Iterator[tuple[Worker, Training]]:
    """A worker as a user would start it, under a policy that enforces; it may not be ready yet. And a training, not begun."""
    directory.mkdir(parents=True, exist_ok=True)
    policy = directory / "policy.toml"
    policy.write_text(enforcing(settings))
    rates = directory / "rates.toml"
    rates.write_text(RATES_FILE)
    environment = {
        "AEGIS_BROKER": settings.broker,
        "AEGIS_TOPIC_PREFIX": settings.topic_prefix,
        "AEGIS_APP_ID": settings.app_id,
        "AEGIS_POLICY": str(policy.absolute()),
        "AEGIS_BASE_CURRENCY": "EUR",
        "AEGIS_RATES": str(rates.absolute()),
    }
    process = Worker(directory / "worker", free_port(prefer=settings.web_port), environment)
    training = Training(settings, directory / "training", environment)
    try:
        with interrupts.held():
            process.start()
            children.add("worker", process.pid)
        yield process, training
    finally:
        training.stop()
        process.stop(STOP_SECONDS)


def enforcing(settings: Settings) -> str:
    """The policy file of AEGIS_POLICY, or the packaged one, in mode enforce. Raises `PolicyError`."""
    return with_mode(local_policy(settings).text, Mode.ENFORCE)


def wait_until_learnt(stack: Stack, payments: int, advance: Advance, seconds: float = 120.0) -> None:
    """Return once the worker has taken in `payments` from history. Raises `WorkerError`."""
    deadline = time.monotonic() + seconds
    learnt = 0
    while learnt < payments:
        stack.check()
        if time.monotonic() > deadline:
            raise WorkerError(f"{learnt:,} of {payments:,} payments of history learnt in {seconds:.0f} s: {stack.worker.last_words()}")
        time.sleep(0.1)
        status, text = stack.worker.get("/metrics")
        if status in {401, 403}:
            raise WorkerError("the demo reads the worker's /metrics without a token: unset AEGIS_WEB_TOKEN")
        now = int(_counter(str(text), "aegis_history_learnt_total"))
        advance(now - learnt)
        learnt = now


def _counter(text: str, name: str) -> float:
    found = re.search(rf"(?m)^{name} (\S+)$", text)
    return 0.0 if found is None else float(found[1])


def _remove_topics(settings: Settings) -> None:
    """What is left on a broker that went away is its own affair."""
    names = [topic.name for topic in admin.wanted(settings)]

    async def remove() -> None:
        async with asyncio.timeout(CLEAN_SECONDS), connect(settings) as client:
            await client.delete_topics(names)

    try:
        asyncio.run(remove())
    except (AccessError, ClientError, OSError, TimeoutError):
        return
