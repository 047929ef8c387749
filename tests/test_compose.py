"""docker-compose.yml and Dockerfile: well-formed, nothing open or unpinned, and our own commands are ones that exist.

There need not be a Docker here: what they start is started by hand.
"""

import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from aegis_app.kafka.ports import free_port
from aegis_app.settings import Settings, read
from aegis_app.topics import Name
from aegis_app.version import VERSION
from grafana.panels import LEDGER
from tests.deployment import Deployment, wait_until
from tests.monitoring import BIN, ROOT, services, started

TOKEN = "a token for this test only"


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_what_compose_and_docker_expect() -> None:
    run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    run(str(BIN / "hadolint"), "Dockerfile")


@pytest.mark.parametrize("name", services())
def test_a_service_is_pinned_bounded_watched_and_closed(name: str) -> None:
    service = services()[name]

    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?", service["image"])
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["cap_drop"] == ["ALL"]
    assert service.get("user", "999:999") == "999:999"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service.get("healthcheck") or service["image"].startswith("aegis:")
    for on in service.get("depends_on", {}).values():
        assert on == {"condition": "service_healthy"}


def test_every_base_image_is_pinned_and_the_last_runs_as_nobody_in_particular() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()

    assert all(re.match(r"FROM python:3\.13\.\d+-slim( AS build)?$", line) for line in lines if line.startswith("FROM"))
    assert "USER 10001:10001" in lines[lines.index(next(line for line in reversed(lines) if line.startswith("FROM"))) :]


def test_what_is_ours_is_of_this_version() -> None:
    ours = {service["image"] for service in services().values() if service["image"].startswith("aegis:")}

    assert ours == {f"aegis:{VERSION}"}


def test_grafana_finds_prometheus_and_the_ledger() -> None:
    sources = msgspec.yaml.decode((ROOT / "grafana/provisioning/datasources/sources.yml").read_bytes())["datasources"]
    _, ledger = sources

    assert [source["url"] for source in sources] == ["http://prometheus:9090", "postgres:5432"]
    assert ledger["type"] == LEDGER.type_val
    assert ledger["jsonData"]["database"] == services()["postgres"]["environment"]["POSTGRES_DB"]
    assert ledger["secureJsonData"]["password"].removeprefix("$") in services()["grafana"]["environment"]


def test_no_secret_has_a_default_and_the_example_names_them_all() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    example = (ROOT / ".env.example").read_text()
    wanted = set(re.findall(r"\$\{(\w+)", text))

    assert wanted == set(re.findall(r"\$\{(\w+):\?", text)), "one without :? would be empty"
    assert wanted == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))


def test_a_container_that_is_given_a_secret_can_be_written_to() -> None:
    """A secret from the environment is copied into it, which Docker refuses where its file system is read-only."""
    assert not any(service.get("read_only") and service.get("secrets") for service in services().values())


def test_monitoring_waits_for_no_worker() -> None:
    assert not any("worker" in name for name in services()["prometheus"].get("depends_on", {}))


def test_every_file_that_is_mounted_is_there() -> None:
    mounted = [volume.split(":")[0] for service in services().values() for volume in service.get("volumes", []) if volume.startswith(".")]

    assert mounted
    assert all((ROOT / path).exists() for path in mounted)


def test_every_setting_is_one_of_ours() -> None:
    for service in services().values():
        given = {name: str(value) for name, value in service.get("environment", {}).items() if name.startswith("AEGIS_")}
        assert isinstance(read({key: re.sub(r"\$\{.*\}", "a secret of this test", value) for key, value in given.items()}), Settings)


def test_prometheus_looks_where_the_workers_are_and_with_the_token_that_it_is_given() -> None:
    job = msgspec.yaml.decode((ROOT / "prometheus/prometheus.yml").read_bytes())["scrape_configs"][0]
    workers = {name for name in services() if name.startswith("worker-")}

    assert {target.split(":")[0] for target in job["static_configs"][0]["targets"]} == workers | {"ledger", "gateway"}
    assert job["dns_sd_configs"][0]["names"] == ["alerts"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{services()['prometheus']['secrets'][0]}"
    assert {services()[name]["environment"]["AEGIS_CANONICAL_URL"] for name in workers} == {f"http://{name}:6066" for name in workers}


@pytest.mark.kafka
def test_workers_decide_what_the_simulator_sends(kafka: str, tmp_path: Path) -> None:
    environment = services()["worker-1"]["environment"]
    rates = environment["AEGIS_RATES"].partition("site-packages/")[2]
    ours = {
        "AEGIS_LOG": environment["AEGIS_LOG"],
        "AEGIS_RATES": str(ROOT / rates),
        "AEGIS_WEB_TOKEN": TOKEN,
        "AEGIS_WEB_HOST": environment["AEGIS_WEB_HOST"],
        "AEGIS_WEB_PORT": str(free_port()),
        "AEGIS_DATADIR": str(tmp_path / "data"),
    }
    with Deployment(kafka, tmp_path, "compose", **ours) as made, ExitStack() as running:
        running.enter_context(started(dockerfile(r"^CMD (.+)$"), made.environment, tmp_path / "worker.log"))
        check, *arguments = dockerfile(r"HEALTHCHECK .+\\\n +CMD (\[.+\])$")
        wait_until(lambda: subprocess.run([BIN / check, *arguments], env=ours, capture_output=True, check=False).returncode == 0, 60)
        running.enter_context(started(services()["simulator"]["command"], made.environment, tmp_path / "simulator.log"))
        wait_until(lambda: made.decided() > 100, 60)

        assert made.records(Name.DEAD_LETTERS) == []
        assert all(decision["rates"] for decision in made.decisions())


def dockerfile(pattern: str) -> list[str]:
    """A command that stands in the Dockerfile."""
    found: list[str] = msgspec.json.decode(re.findall(pattern, (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0])
    return found


def test_the_health_check_fails_where_nothing_answers() -> None:
    _, *arguments = dockerfile(r"HEALTHCHECK .+\\\n +CMD (\[.+\])$")

    done = subprocess.run([sys.executable, *arguments], env={"AEGIS_WEB_PORT": "1"}, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "Connection refused" in done.stderr
