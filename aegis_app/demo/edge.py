"""The demo's ways in and out: a gateway to pay at, and a ledger in SQLite that keeps what was decided."""

import shlex
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from aegis_app.demo.interrupts import Interrupts
from aegis_app.demo.stack import READY_SECONDS, STOP_SECONDS, Children, Steps
from aegis_app.demo.traffic import BEGIN, WARM_DAYS
from aegis_app.kafka.ports import free_port
from aegis_app.keys import Scope, create
from aegis_app.process import Gateway, Ledger, Process, Worker
from aegis_app.settings import Settings

WANTED: Final = ("fastapi", "uvicorn", "sqlalchemy", "alembic")
"""Of the extra `gateway`."""
PER_SECOND: Final = 1000
DEADLINE_MS: Final = 10_000
"""The machine is busy with everything at once, and a first answer should be a decision."""


class Edge(Struct):
    """What stands beside the worker, and a key that the gateway takes."""

    gateway: Gateway
    ledger: Ledger
    key: str
    trial: Path
    """A shell's file that pays once, for whoever watches the screen: it holds the key."""

    @property
    def processes(self) -> list[Process]:
        return [self.gateway, self.ledger]


@contextmanager
def edge(settings: Settings, worker: Worker, directory: Path, interrupts: Interrupts, children: Children) -> Iterator[Edge | None]:
    """Both, started, not ready yet; `None` where the extra `gateway` is not installed. The one place where a key is made unasked."""
    if any(find_spec(name) is None for name in WANTED):
        yield None
        return
    from aegis_app.ledger.database import opened
    from aegis_app.ledger.migrating import migrate

    directory = directory.absolute()
    keys, ledger = directory / "keys.json", f"sqlite:///{directory / 'ledger.sqlite'}"
    with opened(msgspec.structs.replace(settings, ledger=ledger)) as engine:
        migrate(engine)
    environment = worker.environment | {
        "AEGIS_KEYS": str(keys),
        "AEGIS_LEDGER": ledger,
        "AEGIS_WORKERS": worker.url,
        "AEGIS_GATEWAY_DEADLINE_MS": str(DEADLINE_MS),
    }
    made = Edge(
        Gateway(directory / "gateway", free_port(prefer=settings.gateway_port), environment),
        Ledger(directory / "ledger", free_port(), environment),
        create(keys, "demo", list(Scope), PER_SECOND).secret,
        directory / "pay.sh",
    )
    with ExitStack() as stack:
        for process in made.processes:
            stack.callback(process.stop, STOP_SECONDS)
            with interrupts.held():
                process.start()
                children.add(process.name, process.pid)
        yield made


def invite(made: Edge, steps: Steps) -> None:
    """Wait for both, pay once, and show the answer, and how to pay again. Raises `WorkerError`."""
    with steps.step("The gateway and the ledger get ready"):
        for process in made.processes:
            process.wait_until_ready(READY_SECONDS)
    for process in made.processes:
        steps.say(f"The {process.name} is on {process.url} (process {process.pid})")
    url = f"{made.gateway.url}/v1/transactions"
    headers = {"Authorization": f"Bearer {made.key}"}
    said = urllib.request.Request(url, _payment("try-1"), headers, method="POST")
    with urllib.request.urlopen(said, timeout=READY_SECONDS) as answer:
        decided = answer.read().decode()
    key = shlex.quote(f"Authorization: Bearer {made.key}")
    curl = f"curl -sS {url} -H {key} -d {shlex.quote(_payment('try-2').decode())}"
    made.trial.touch(0o600)
    made.trial.write_text(f"{curl}\necho\n")
    steps.say(f"Paid:    {decided}")
    steps.say(f"Try it:  {curl}")
    steps.say(f"All of its routes: {made.gateway.url}/docs")


def _payment(transaction_id: str) -> bytes:
    """Of the cardholders' time, not of ours: what is known of merchants is as of the latest payment."""
    txn = {
        "transaction_id": transaction_id,
        "card_id": "tok_try",
        "amount_minor": 4250,
        "currency": "EUR",
        "timestamp": f"{BEGIN + WARM_DAYS:%Y-%m-%dT%H:%M:%SZ}",
        "channel": "online",
        "merchant_id": "m-try",
    }
    return msgspec.json.encode(txn)
