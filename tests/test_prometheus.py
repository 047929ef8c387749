"""Prometheus' and Alertmanager's files: valid, every alert tried out, every link to the runbook there, every series exported."""

import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from aegis_app import metrics  # noqa: F401  # which registers every series
from aegis_app.gateway import metrics as gateway
from prometheus import runbook
from tests.tools import tool

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "prometheus"
CASES = ("alerts.test.yml", "alerts.days.test.yml")
SUFFIXES = ("_bucket", "_count", "_sum", "_total")


def read(name: str) -> Any:
    return msgspec.yaml.decode((PROMETHEUS / name).read_bytes())


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> list[dict[str, Any]]:
    return [rule for group in read("alerts.yml")["groups"] for rule in group["rules"]]


def test_the_files_are_what_prometheus_and_alertmanager_expect() -> None:
    run(tool("promtool"), "check", "config", "--syntax-only", "prometheus.yml")
    run(tool("promtool"), "check", "rules", "rules.yml", "alerts.yml")
    run(tool("amtool"), "check-config", "alertmanager.yml")


def test_every_alert_fires_when_it_should_and_is_silent_when_it_should_be() -> None:
    run(tool("promtool"), "test", "rules", *CASES)


def test_every_alert_has_a_case_that_fires_and_one_that_stays_silent() -> None:
    cases = [case for name in CASES for test in read(name)["tests"] for case in test["alert_rule_test"]]
    fired = {(case["alertname"], alert["exp_labels"]["severity"]) for case in cases for alert in case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}

    assert fired == {(alert["alert"], alert["labels"]["severity"]) for alert in alerts()}
    assert silent == {alert["alert"] for alert in alerts()} - {"AegisWatchdog"}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: f"{alert['alert']}-{alert['labels']['severity']}")
def test_an_alert_says_what_is_wrong_with_figures_and_where_help_is(alert: dict[str, Any]) -> None:
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")

    assert alert["labels"]["severity"] in {"page", "ticket", "watchdog"}
    assert page == "{{ $externalURL }}/user/runbook.html"
    assert f'id="{anchor}"' in runbook.PAGE.read_text()
    assert anchor == alert["alert"].lower()
    assert alert["annotations"]["summary"].endswith(".")


def test_the_runbook_that_prometheus_serves_is_that_of_the_docs() -> None:
    assert runbook.PAGE.read_text() == runbook.page(), "write it anew: python -m prometheus.runbook"


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [("severity=page", "on-call"), ("severity=ticket", "team"), ("alertname=AegisWatchdog severity=watchdog", "watchdog")],
)
def test_an_alert_reaches_whom_it_should(labels: str, receiver: str) -> None:
    run(tool("amtool"), "config", "routes", "test", "--config.file=alertmanager.yml", f"--verify.receivers={receiver}", *labels.split())


def test_no_rule_of_alertmanager_names_an_alert_that_is_not_there() -> None:
    named = set(re.findall(r"Aegis\w+", (PROMETHEUS / "alertmanager.yml").read_text()))

    assert named <= {alert["alert"] for alert in alerts()}
    assert "AegisKafkaAway" in named


@pytest.mark.parametrize("name", ["rules.yml", "alerts.yml", *CASES])
def test_every_series_used_is_exported(name: str) -> None:
    used = set(re.findall(r"\baegis_[a-z_]+", (PROMETHEUS / name).read_text()))

    assert used
    assert used <= exported()


def test_every_recorded_series_used_is_recorded() -> None:
    recorded = {rule["record"] for group in read("rules.yml")["groups"] for rule in group["rules"]}
    used = set(re.findall(r"\baegis:[a-z_:0-9]+", (PROMETHEUS / "alerts.yml").read_text()))

    assert used <= recorded


def exported() -> set[str]:
    """Names of every series that we export."""
    registries = REGISTRY, gateway.REGISTRY
    families = {family.name for registry in registries for family in registry.collect() if family.name.startswith("aegis_")}
    return families | {family + suffix for family in families for suffix in SUFFIXES}
