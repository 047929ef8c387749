"""Requests a second and their latency at the gateway, beside an app that scores in its own process. Load comes from wrk (Debian: wrk)."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from time import monotonic
from typing import Any

from aegis_app.core.payment import encode_transaction
from aegis_app.kafka.ports import free_port
from aegis_app.keys import Scope, create
from aegis_app.process import Gateway, Process
from aegis_app.send import send
from aegis_app.topics import Name, full_name
from bench.rig import Rig, cpu_seconds, payments

SCRIPT = Path(__file__).with_name("wrk.lua")
SECONDS = 15
WARM_SECONDS = 4
DEADLINE_MS = 2000
"""Beyond what is measured: this is about latency, not about fallbacks."""


def measure(rig: Rig, number: int) -> dict[str, Any]:
    """Both as fast as they go (32 connections), and the gateway at about 500 a second."""
    if shutil.which("wrk") is None:
        raise SystemExit("the bench of the gateway needs wrk: apt-get install wrk")
    settings = rig.settings("gateway")
    worker = rig.worker(settings)
    port, directory = free_port(), worker.directory
    key = create(directory / "keys.json", "bench", [Scope.SCORE], 1_000_000).secret
    environment = rig.environment(settings) | {"AEGIS_KEYS": str(directory / "keys.json"), "AEGIS_GATEWAY_DEADLINE_MS": str(DEADLINE_MS)}
    gateway = Gateway(directory, port, environment)
    found: dict[str, Any] = {}
    with rig.running(worker):
        worker.wait_until_ready()
        asyncio.run(send(settings, full_name(Name.TRANSACTIONS, settings), payments(20_000, 20_000), encode=encode_transaction))
        try:
            gateway.start().wait_until_ready()
            url = f"{gateway.url}/v1/transactions"
            wrk(url, WARM_SECONDS, 32, BENCH_KEY=key)
            for name, connections, pause in (("full", 32, 0), ("many", 256, 0), ("at_500", 50, 90)):
                before, begun = cpu_seconds(gateway), monotonic()
                found[name] = wrk(url, SECONDS, connections, BENCH_KEY=key, BENCH_DELAY_MS=str(pause))
                found[name]["gateway_cores"] = round((cpu_seconds(gateway) - before) / (monotonic() - begun), 2)
        finally:
            gateway.stop()
    return found | {"in_process": in_process(directory)}


def in_process(directory: Path) -> dict[str, Any]:
    """The alternative, with both cores to itself."""
    port = free_port()
    app = Process(
        "inprocess", ["bench.inprocess", str(port)], directory, port, {"PYTHONPATH": str(SCRIPT.parent.parent)}, ready="/openapi.json"
    )
    try:
        app.start().wait_until_ready(120)
        url = f"{app.url}/predict"
        wrk(url, WARM_SECONDS, 8, BENCH_FLAT="1")
        return {
            "full": wrk(url, SECONDS, 32, BENCH_FLAT="1"),
            "one_at_a_time": wrk(url, SECONDS, 1, BENCH_FLAT="1"),
        }
    finally:
        app.stop()


def wrk(url: str, seconds: int, connections: int, **environment: str) -> dict[str, Any]:
    """What the script prints."""
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "10s", "--latency", "-s", str(SCRIPT), url]
    ran = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    return found
