"""The demo's ways in and out: a gateway to pay at, and a ledger in SQLite that keeps what was decided."""

import shlex
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from aegis_app.demo.interrupts import Interrupts
from aegis_app.demo.stack import READY_SECONDS, STOP_SECONDS, Children, Steps
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
    )
    with ExitStack() as stack:
        for process in made.processes:
            stack.callback(process.stop, STOP_SECONDS)
            with interrupts.held():
                process.start()
                children.add(process.name, process.pid)
        yield made


def invite(made: Edge, steps: Steps) -> None:
    """Wait for both, pay once, and show how: a command to try, and its answer. Raises `WorkerError`."""
    with steps.step("The gateway and the ledger get ready"):
        for process in made.processes:
            process.wait_until_ready(READY_SECONDS)
    for process in made.processes:
        steps.say(f"The {process.name} is on {process.url} (process {process.pid})")
    url, body = f"{made.gateway.url}/v1/transactions", _payment()
    headers = {"Authorization": f"Bearer {made.key}"}
    said = urllib.request.Request(url, body, headers, method="POST")
    with urllib.request.urlopen(said, timeout=READY_SECONDS) as answer:
        decided = answer.read().decode()
    key = shlex.quote(f"Authorization: Bearer {made.key}")
    steps.say(f"Try it:  curl -s {url} -H {key} -d {shlex.quote(body.decode())}")
    steps.say(f"Answer:  {decided}")
    steps.say(f"All of its routes: {made.gateway.url}/docs")


def _payment() -> bytes:
    txn = {
        "transaction_id": "try-1",
        "card_id": "tok_try",
        "amount_minor": 4250,
        "currency": "EUR",
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "channel": "online",
        "merchant_id": "m-try",
    }
    return msgspec.json.encode(txn)
