"""The boards: written from code, explained, and every query answered by a real Prometheus that watches a real worker under load."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from aegis_app import metrics  # noqa: F401  # which registers every series
from aegis_app.core.label import encode_label
from aegis_app.kafka.ports import free_port
from aegis_app.topics import Name
from bench.load import Load
from grafana.__main__ import DIRECTORY, written
from tests.deployment import Deployment, wait_until
from tests.make import label, payment
from tests.tools import tool

ROOT = Path(__file__).parent.parent
TOKEN = "a token for this test only"
POLICY = """
mode = "enforce"
control_share = 0.01
[rules.velocity_1h]
state = "on"
asks = "review"
most = 4
[rules.impossible_travel]
state = "on"
asks = "block"
[rules.velocity_24h]
state = "shadow"
most = 1
"""
EMPTY_WHEN_WELL = {"Alerts that fire"}
"""Panels that show trouble alone; nothing is wrong under the load of this test."""
ZERO_WHEN_WELL = {
    *("Workers not deciding", "Alerts", "Waiting", "Waiting, by partition", "Seconds behind"),
    *("Degraded, share of payments", "Layers that fail", "Records passed over", "Entries of lists"),
    *("Partitions given", "Memory to read back", "Read again"),
}
"""Likewise, or a matter of moments; every other panel must show something else than 0."""


def boards() -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))}


def panels() -> list[tuple[str, dict[str, Any]]]:
    return [(name, panel) for name, board in boards().items() for panel in board["panels"] if panel["type"] != "row"]


def named(value: Any) -> str:
    return str(value["title"] if isinstance(value, dict) else value)


def test_the_committed_boards_are_those_of_the_code() -> None:
    assert {path.name: path.read_text() for path in DIRECTORY.glob("*.json")} == written(), "write them anew: python -m grafana"


@pytest.mark.parametrize("name", sorted(boards()))
def test_a_board_has_nothing_that_grafanas_schema_does_not_know(name: str) -> None:
    board = boards()[name]
    register_default_plugins()

    again = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))

    for each in (*again["links"], *again["annotations"]["list"]):
        each["placement"] = ""  # which the library knows in one value alone
    assert again == board


@pytest.mark.parametrize(("board", "panel"), panels(), ids=named)
def test_a_panel_says_what_it_means_and_in_what_unit(board: str, panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert re.fullmatch(r"[A-Z0-9/].{20,}[.]", panel["description"])
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])


def test_a_figure_is_of_now_and_not_the_last_that_somebody_said() -> None:
    figures = [panel for _, panel in panels() if panel["type"] == "stat"]

    assert len(figures) > 12
    assert all(target["instant"] and not target["range"] for panel in figures for target in panel["targets"])


@pytest.mark.parametrize("name", sorted(boards()))
def test_a_board_asks_one_question_and_leads_to_the_others(name: str) -> None:
    board = boards()[name]
    places = [panel["gridPos"] for panel in board["panels"]]

    assert board["description"].endswith("?")
    assert board["links"][0]["tags"] == board["tags"] == ["aegis"]
    assert [variable["name"] for variable in board["templating"]["list"]] == ["source", "job", "instance", "currency"]
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))
    assert not any(overlap(one, other) for n, one in enumerate(places) for other in places[:n])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] >= other["x"] + other["w"] or other["x"] >= one["x"] + one["w"]
    below = one["y"] >= other["y"] + other["h"] or other["y"] >= one["y"] + one["h"]
    return not (beside or below)


@pytest.mark.parametrize("name", sorted(boards()))
def test_every_series_on_a_board_is_exported(name: str) -> None:
    families = {family.name for family in REGISTRY.collect()}
    used = set(re.findall(r"\baegis_[a-z_]+", json.dumps(boards()[name])))

    assert used
    assert {re.sub("_(bucket|count|sum|total)$", "", series) for series in used} <= families


@pytest.fixture(scope="module")
def prometheus(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prometheus that has watched a worker decide payments of all sorts for a while."""
    server = tool("prometheus")
    directory = tmp_path_factory.mktemp("prometheus")
    policy = directory / "policy.toml"
    policy.write_text(POLICY)
    with Deployment(kafka, directory, "boards", AEGIS_POLICY=str(policy), AEGIS_WEB_TOKEN=TOKEN) as made:
        worker = made.worker().wait_until_ready()
        made.send(b"not a payment", b"card", name=Name.HISTORY)
        port = free_port()
        _configure(directory, port, worker.port)
        with (directory / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    server,
                    f"--config.file={directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={directory / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        address = f"http://127.0.0.1:{port}"
        load = Load(made.settings, rate=300, cards=60, seed=7)
        try:
            wait_until(lambda: figure(address, 'up{job="aegis"}') == 1, 90, made)
            load.start()
            time.sleep(20)
            load.stop()
            said = label(payment())
            made.send(encode_label(said), said.card_id.encode(), name=Name.LABELS)
            made.await_settled()
            wait_until(lambda: figure(address, "sum(rate(aegis_labels_total[30s])) > 0") is not None, 90, made)
            wait_until(lambda: figure(address, "sum(aegis_payments_total)") == made.decided(), 90, made)
            yield address
        finally:
            process.terminate()
            process.wait()


def _configure(directory: Path, port: int, worker: int) -> None:
    """The files as they are shipped, but a second between looks, and this test's worker."""
    token = directory / "token"
    token.write_text(TOKEN)
    for name in ("prometheus.yml", "rules.yml", "alerts.yml"):
        text = (ROOT / "prometheus" / name).read_text()
        text = re.sub(r"interval: (15|30)s", "interval: 1s", text).replace("/run/secrets/web_token", str(token))
        text = text.replace('["worker-1:6066", "worker-2:6066"]', f'["127.0.0.1:{worker}"]').replace("localhost:9090", f"127.0.0.1:{port}")
        (directory / name).write_text(text.replace('"alertmanager:9093"', ""))


def ask(address: str, query: str) -> list[Any]:
    """What Prometheus answers to `query` now; nothing while it does not. Raises where it finds the query wrong."""
    try:
        with urllib.request.urlopen(f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=10) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
            return found
    except urllib.error.HTTPError as error:
        with error:
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:  # it only starts
                return []
            raise AssertionError(f"{query}: {error.read().decode()}") from None
    except OSError:
        return []


def figure(address: str, query: str) -> float | None:
    found = ask(address, query)
    return float(found[0]["value"][1]) if found else None


def filled_in(query: str) -> str:
    """A panel's query as Grafana sends it."""
    for name, value in {"$__rate_interval": "30s", "$__range": "1m", "$job": "aegis", "$instance": ".*"}.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


@pytest.mark.kafka
@pytest.mark.parametrize(("board", "panel"), panels(), ids=named)
def test_every_query_is_answered(prometheus: str, board: str, panel: dict[str, Any]) -> None:
    shown: list[float] = []
    for target in panel["targets"]:
        found = ask(prometheus, filled_in(target["expr"]))
        values = [float(series["value"][1]) for series in found]
        shown += values

        assert bool(found) == (panel["title"] not in EMPTY_WHEN_WELL), target["expr"]
        assert all(value == value for value in values), f"not a number: {target['expr']}"
    assert any(shown) or panel["title"] in EMPTY_WHEN_WELL | ZERO_WHEN_WELL


@pytest.mark.kafka
@pytest.mark.parametrize("name", sorted(boards()))
def test_every_annotation_and_variable_is_answered(prometheus: str, name: str) -> None:
    board = boards()[name]
    for annotation in board["annotations"]["list"]:
        ask(prometheus, filled_in(annotation["expr"]))
    for variable in board["templating"]["list"][1:]:
        series, _, wanted = re.fullmatch(r"label_values\((.+?)(, )(\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
        assert all(wanted in found["metric"] for found in ask(prometheus, filled_in(series)))
        assert ask(prometheus, filled_in(series))


@pytest.mark.kafka
def test_what_prometheus_counts_is_what_was_decided(prometheus: str) -> None:
    of_transactions = 'sum(aegis_dead_letters_total{topic="boards-transactions"})'

    assert figure(prometheus, 'sum(aegis_payments_total{verdict!="allow"})')
    assert figure(prometheus, 'sum(aegis_amount_total{outcome="block"})')
    assert figure(prometheus, f"sum(aegis_decision_seconds_count) - sum(aegis_payments_total) - {of_transactions}") == pytest.approx(
        0, abs=20
    )
    for name in ("late", "unrated", "duplicates", "conflicts", "dead_letters"):
        assert figure(prometheus, f"sum(aegis_{name}_total)"), name
    assert figure(prometheus, "aegis_degraded_total") == 0
    assert figure(prometheus, "aegis_ready") == 1
    assert figure(prometheus, "aegis_partitions_owned") == 2
    assert figure(prometheus, 'count(ALERTS{alertstate="firing"})') is None


@pytest.mark.kafka
def test_a_scrape_is_what_prometheus_can_read_in_full(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "scrape") as made:
        text = made.worker().wait_until_ready().get("/metrics")[1]

    exported = {family.name for family in text_string_to_metric_families(text)}
    ours = {family.name for family in REGISTRY.collect() if family.name.startswith("aegis_")}

    assert ours <= exported
    assert len(text.splitlines()) < 2000
