"""What a worker says of its own state, to whoever restarts it or sends it work."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aegis_app.kafka import Kafka, jars
from aegis_app.kafka.ports import free_port
from aegis_app.process import Worker
from aegis_app.settings import read
from tests.deployment import Deployment, wait_until
from tests.make import payment

EARLY = """
import asyncio
import aegis_app.worker
from aegis_app.web import health

async def ask():
    return [(await view(None))[0] for view in (health.health, health.ready, health.exported)]

print(asyncio.run(ask()))
"""


def test_views_answer_before_there_is_a_consumer(tmp_path: Path) -> None:
    environment = os.environ | {"AEGIS_DATADIR": str(tmp_path)}

    asked = subprocess.run([sys.executable, "-c", EARLY], env=environment, capture_output=True, text=True, check=False)

    assert asked.stdout == "[200, 503, 200]\n", asked.stderr


UNANSWERED = """
import asyncio
from aegis_app.stream import owner
from aegis_app.web import health
from aegis_app.worker import app

async def never(sent):
    await asyncio.Event().wait()

owner.landed = never
assert health.STUCK_SECONDS + 2 * health.LOOK_SECONDS < 60
health.STUCK_SECONDS = 3.0
"""
"""A worker that waits for ever for Kafka to hold its decisions."""


@pytest.mark.kafka
def test_a_worker_that_is_stuck_with_work_to_do_is_not_healthy_and_one_without_kafka_is(tmp_path: Path) -> None:
    (tmp_path / "unanswered.py").write_text(UNANSWERED)
    with Kafka(tmp_path / "kafka", jars(read({}))) as broker, Deployment(broker.address, tmp_path, "stuck") as made:
        worker = Worker(tmp_path, free_port(), made.environment, "unanswered").start("-l", "info")
        made.workers.append(worker)
        worker.wait_until_ready()
        time.sleep(6)
        assert worker.get("/health") == (200, {"status": "ok", "waiting": 0})

        made.pay(payment())
        wait_until(lambda: worker.get("/health")[0] == 503, 20, made)
        assert worker.get("/health")[1]["status"] == "stuck"

        broker.kill()
        wait_until(lambda: worker.get("/health")[0] == 200, 20, made)
        time.sleep(6)
        assert worker.get("/health") == (200, {"status": "waiting for Kafka", "waiting": None})
