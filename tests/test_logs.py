"""What a worker says, and what it never says."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, GroupCoordinatorNotAvailableError

from aegis_app.kafka.ports import free_port
from aegis_app.logs import SELDOM_SECONDS, Json, Seldom, Text, quieten
from aegis_app.process import Worker
from aegis_app.topics import Name
from tests.deployment import Deployment, wait_until
from tests.make import payment

CARD_NUMBER = "4111111111111111"


def record(message: str, *arguments: object, error: Exception | None = None, **extra: Any) -> logging.LogRecord:
    about = (type(error), error, None) if error is not None else None
    made = logging.LogRecord("aegis", logging.ERROR, "a file", 1, message, arguments, about)
    vars(made).update(extra)
    return made


def test_a_json_line_says_when_who_what_and_where() -> None:
    said = json.loads(Json().format(record("%s is passed over", "it", topic="lists", partition=0, offset=7, other="not ours")))

    assert said.pop("time").endswith("+00:00")
    assert said == {"level": "ERROR", "logger": "aegis", "message": "it is passed over", "topic": "lists", "partition": 0, "offset": 7}


def test_an_error_stays_on_its_line() -> None:
    line = Json().format(record("Stopped", error=ValueError("first\nsecond")))

    assert "\n" not in line
    assert json.loads(line)["error"] == "ValueError: first\nsecond"


@pytest.mark.parametrize("formatter", [Json(), Text()], ids=["json", "text"])
def test_a_card_number_is_never_said(formatter: logging.Formatter) -> None:
    line = formatter.format(record("card %s", CARD_NUMBER, error=ValueError(f"in 4111 1111 1111 1111, or {CARD_NUMBER}")))

    assert "card " in line
    assert "1111" not in line


def test_what_a_library_says_over_and_over_is_said_once_in_a_while_and_counted() -> None:
    seldom = Seldom()

    def said(at: float, node: int, name: str = "aiokafka.client", level: int = logging.WARNING) -> str | None:
        made = logging.LogRecord(name, level, "a file", 1, "Unable to connect to node %s", (node,), None)
        made.created = at
        return made.getMessage() if seldom.filter(made) else None

    assert said(0.3, 1, "agents.refusing") == "Unable to connect to node 1"
    assert said(0.4, 2, "agents.refusing") is None
    assert [said(at, node) for at, node in ((0.0, 1), (0.1, 1), (0.2, 2))] == ["Unable to connect to node 1", None, None]
    assert said(0.3, 1, "aegis") == said(0.4, 1, "aegis") == "Unable to connect to node 1"
    assert said(SELDOM_SECONDS, 1) == "Unable to connect to node 1 (2 more like this before)"
    assert said(2 * SELDOM_SECONDS, 1) == "Unable to connect to node 1"
    errors = [said(0.0, node, level=logging.ERROR) for node in (1, 2, 1)]
    assert errors == ["Unable to connect to node 1", "Unable to connect to node 2", None]  # each may have a cause of its own


@pytest.mark.kafka
@pytest.mark.parametrize("form", ["json", "text"])
def test_a_life_of_a_worker_is_told_in_a_few_lines(kafka: str, tmp_path: Path, form: str) -> None:
    with Deployment(kafka, tmp_path, f"logs-{form}", AEGIS_LOG=form) as made:
        worker = made.worker().wait_until_ready()
        made.pay(payment())
        made.await_settled()
        wait_until(lambda: "Ready" in worker.log.read_text(), 30, made)
        rules = worker.get("/rules")[1]
        worker.stop()
        lines = [line for line in worker.log.read_text().splitlines() if line.startswith(("{", "["))]

    said = [json.loads(line)["message"] if form == "json" else line.split("] ", 3)[3] for line in lines]

    assert len(said) < 15
    assert any(text.startswith("Aegis ") for text in said)
    assert "Takes over partitions 0, 1" in said
    by = f"policy {rules['policy']} (observe) of the package"
    assert f"Ready: decides payments of partitions 0, 1; {by}; views at {worker.url}" in said
    assert said[-1].startswith("Stops")
    assert not any("baker" in text or "card-1" in text for text in said)


@pytest.mark.kafka
def test_a_worker_at_its_usual_level_says_that_it_is_ready_and_what_cannot_be_read(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "logs-usual") as made:
        worker = Worker(tmp_path / "usual", free_port(), made.environment)
        made.workers.append(worker)
        worker.start().wait_until_ready()
        for name, value in ((Name.TRANSACTIONS, b"a secret"), (Name.TRANSACTIONS, b""), (Name.LABELS, b"a secret")):
            made.send(value, b"card-1", name=name)
            made.await_settled(name=name)
        assert made.aegis("policies", "enforce", "--local").exit_code == 0
        wait_until(lambda: all(word in worker.log.read_text() for word in ("Ready", "(enforce) is in force")), 30, made)
        worker.stop()
        lines = worker.log.read_text().splitlines()

    assert any("[INFO] Ready: decides payments of partitions 0, 1; policy " in line for line in lines)
    warned = [line.split("[WARNING] ", 1)[1] for line in lines if "[WARNING] Dead letters" in line]
    assert warned == [
        f"Dead letters: 1 of {made.topic(name)} ({reason}); see `aegis dead-letters list`"
        for name, reason in ((Name.TRANSACTIONS, "malformed"), (Name.TRANSACTIONS, "empty"), (Name.LABELS, "malformed"))
    ]
    assert not any("secret" in line or "card-1" in line for line in lines)


def test_a_kafka_that_has_only_just_started_is_a_warning(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = logging.getLogger("aiokafka.consumer.group_coordinator")
    monkeypatch.setattr(coordinator, "filters", [])
    quieten()
    for error in (GroupCoordinatorNotAvailableError(), GroupAuthorizationFailedError("aegis")):
        coordinator.error("Group Coordinator Request failed: %s", error)

    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said[0] == ("WARNING", "Kafka has no coordinator for groups yet, as after its start; it is asked again")
    assert said[1][0] == "ERROR"
    assert "GroupAuthorizationFailedError" in said[1][1]
