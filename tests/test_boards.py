"""The boards: written from code, explained, and every query answered by a real Prometheus that watches a real worker under load."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from aegis_app import metrics
from aegis_app.core.label import encode_label
from aegis_app.core.payment import encode_transaction
from aegis_app.gateway import metrics as gateway
from aegis_app.kafka.ports import free_port
from aegis_app.keys import Scope, create
from aegis_app.topics import Name
from bench.load import Load
from bench.postgres import Postgres
from grafana.__main__ import DIRECTORY, written
from grafana.detection import VERDICTS
from tests.conftest import Trained
from tests.deployment import Deployment, wait_until
from tests.make import label, payment
from tests.monitoring import ROOT, Monitoring, get, services, started
from tests.tools import postgres_programs

pytestmark = pytest.mark.timeout(600)  # the first of these tests starts all there is, and may have to train a bundle
TOKEN = "a token for this test only"
ALERTS = """
[destinations.desk]
kind = "webhook"
url = "http://127.0.0.1:{port}/nobody"
key_env = "PATH"
group_seconds = 0
[routes.all]
to = ["desk"]
"""
LOADED = 2500
"""Payments that are decided."""
POLICY = """
mode = "enforce"
control_share = 0.05
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
LATER = {"aegis:block_share:usual"}
"""What is known after an hour."""
ZERO_WHEN_WELL = {
    *(
        "Down, or not deciding",
        "Waiting",
        "Waiting, by partition",
        "Waiting for the ledger and for alerts",
        "Seconds behind",
        "Events waiting",
        "Events behind",
    ),
    *("Degraded, share of payments", "Layers that fail", "Records passed over"),
    *("Partitions given", "Memory to read back", "Read again"),
}
"""Panels that show trouble alone, or a matter of moments; every other must show something else than 0."""


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
    assert all(
        target["rawSql"] if "rawSql" in target else target["instant"] and not target["range"]
        for panel in figures
        for target in panel["targets"]
    )


@pytest.mark.parametrize("name", sorted(boards()))
def test_a_board_asks_one_question_and_leads_to_the_others(name: str) -> None:
    board = boards()[name]
    places = [panel["gridPos"] for panel in board["panels"]]

    assert board["description"].endswith("?")
    assert board["links"][0]["tags"] == board["tags"] == ["aegis"]
    assert [variable["name"] for variable in board["templating"]["list"]] == ["source", "ledger", "job", "instance", "currency"]
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))
    assert not any(overlap(one, other) for n, one in enumerate(places) for other in places[:n])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] >= other["x"] + other["w"] or other["x"] >= one["x"] + one["w"]
    below = one["y"] >= other["y"] + other["h"] or other["y"] >= one["y"] + one["h"]
    return not (beside or below)


@pytest.mark.parametrize("name", sorted(boards()))
def test_every_series_on_a_board_is_exported(name: str) -> None:
    families = {family.name for registry in (REGISTRY, gateway.REGISTRY) for family in registry.collect()}
    used = set(re.findall(r"\baegis_[a-z_]+", json.dumps(boards()[name])))

    assert used
    assert {re.sub("_(bucket|count|sum|total)$", "", series) for series in used} <= families


class Watched(NamedTuple):
    """What has watched two workers for a while: one that decided payments of all sorts, and one without any."""

    monitoring: Monitoring
    idle: str
    """The second worker's instance."""
    ledger: psycopg.Connection[Any]
    scraped: str
    """What the first one exports."""

    def answers(self, query: str) -> list[float]:
        """The numbers in what the ledger answers."""
        rows = self.ledger.execute(query.encode())
        return [float(value) for row in rows for value in row if isinstance(value, int | float | Decimal)]


@pytest.fixture(scope="module")
def watched(kafka: str, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("boards")
    names = "worker-1:6066", "worker-2:6066", "ledger:6066", "gateway:6066", "alerts:6066"
    ports = [free_port() for _ in names]
    targets = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
    with (
        Postgres(postgres_programs()) as server,
        Deployment(kafka, directory, "boards", **settings(directory, trained, server)) as made,
        Monitoring(directory, targets, TOKEN) as monitoring,
        beside(made, targets, directory),
    ):
        enlist(made)
        made.worker(ports[0]).wait_until_ready()
        wait_until(lambda: monitoring.figure("sum(aegis_ready)") == 1, 90, made)
        decide(made)
        ask(f"http://{targets['gateway:6066']}", made)
        made.worker(ports[1]).wait_until_ready()
        wait_until(lambda: monitoring.figure("sum(aegis_partitions_owned == 1)") == 2, 90, made)
        wait_until(lambda: monitoring.figure("sum(aegis_payments_total)") == made.decided(), 90, made)
        wait_until(lambda: monitoring.figure("sum(rate(aegis_labels_total[30s])) > 0") is not None, 90, made)
        wait_until(lambda: monitoring.figure('ALERTS{alertname="AegisDeadLetters"}') is not None, 90, made)
        wait_until(lambda: monitoring.figure('sum(aegis_sink_lag_records{sink="ledger"})') == 0, 90, made)
        wait_until(lambda: monitoring.figure("sum(aegis_alerts_waiting)") == 1, 90, made)
        scraped = get(f"http://{targets[names[0]]}/metrics", {"Authorization": f"Bearer {TOKEN}"})
        with psycopg.connect(made.environment["AEGIS_LEDGER"].replace("aegis@", "reader@"), autocommit=True) as ledger:
            yield Watched(monitoring, targets[names[1]], ledger, scraped)


def settings(directory: Path, trained: Trained, server: Postgres) -> dict[str, str]:
    (directory / "policy.toml").write_text(POLICY)
    (directory / "alerts.toml").write_text(ALERTS.format(port=free_port()))
    return {
        "AEGIS_POLICY": str(directory / "policy.toml"),
        "AEGIS_BUNDLE": str(trained.path),
        "AEGIS_ALERTS": str(directory / "alerts.toml"),
        "AEGIS_KEYS": str(directory / "keys.json"),
        "AEGIS_LEDGER": server.database("boards"),
        "AEGIS_WEB_TOKEN": TOKEN,
    }


@contextmanager
def beside(made: Deployment, targets: Mapping[str, str], directory: Path) -> Iterator[None]:
    """The ledger, with a role for Grafana, the gateway and alerts, by the commands of docker-compose.yml."""
    url = urlsplit(made.environment["AEGIS_LEDGER"])
    place = {"PGHOST": str(url.hostname), "PGPORT": str(url.port), "POSTGRES_USER": str(url.username), "POSTGRES_DB": url.path[1:]}
    secret = {"LEDGER_READER_PASSWORD": "a 'secret' of this test"}
    subprocess.run([ROOT / "grafana/reader.sh"], env=os.environ | place | secret, check=True, capture_output=True)
    with ExitStack() as running:
        for name in ("ledger", "gateway", "alerts"):
            port = targets[f"{name}:6066"].partition(":")[2]
            command = [word.replace("6066", port) for word in services()[name]["command"]]
            running.enter_context(started(command, made.environment | {"AEGIS_GATEWAY_PORT": port}, directory / f"{name}.log"))
        yield


def ask(gateway: str, made: Deployment) -> None:
    """Payments over HTTP: one without a key, one for which no time is left, and one that is flagged."""
    paid = encode_transaction(payment(transaction_id="asked", timestamp=datetime.now(UTC)))
    key = {"Authorization": f"Bearer {create(Path(made.environment['AEGIS_KEYS']), 'boards', [Scope.SCORE], 100).secret}"}
    pay = partial(httpx.post, f"{gateway}/v1/transactions", timeout=60)
    wait_until(lambda: pay(content=paid, headers=key | {"Aegis-Deadline-Ms": "30000"}).status_code == 200, 60)

    assert pay(content=paid).status_code == 401
    assert pay(content=paid, headers=key | {"Aegis-Deadline-Ms": "1"}).json()["fallback"]


def enlist(made: Deployment) -> None:
    """Countries to refuse and to watch; and a card whose payments are allowed whatever models say at this hour, frauds that are missed."""
    for name, of, value in (("deny", "country", "KP"), ("watch", "country", "FR"), ("allow", "card", "past-0")):
        assert made.aegis("lists", "add", name, of, value, "--reason", "for this test").exit_code == 0


def decide(made: Deployment) -> None:
    """Have payments of all sorts decided, of which the lists know some, labels among them, and records that nobody can read."""
    made.send(b"not a payment", b"card", name=Name.HISTORY)
    then = datetime.now(UTC) - timedelta(days=70)
    past = [
        payment(transaction_id=f"past-{n}", card_id=f"past-{n % 8}", timestamp=then + timedelta(seconds=n), country="DE") for n in range(64)
    ]
    made.pay(*past)
    for said in (label(txn, is_fraud=txn.card_id < "past-4") for txn in past):
        made.send(encode_label(said), said.card_id.encode(), name=Name.LABELS)
    load = Load(made.settings, rate=600, cards=60, seed=7)
    load.start()
    wait_until(lambda: load.sent > LOADED, 90, made)
    load.stop()
    for name in (Name.TRANSACTIONS, Name.LABELS, Name.HISTORY, Name.MERCHANT_EVENTS, Name.DEVICE_EVENTS):
        made.await_settled(name=name)


def filled_in(query: str, instance: str = ".*") -> str:
    """A panel's query as Grafana sends it."""
    for name, value in {"$__rate_interval": "1m", "$__range": "2m", "$job": "aegis", "$instance": instance}.items():
        query = query.replace(name, value)
    query = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 BETWEEN now() - interval '1 hour' AND now()", query)
    assert "$" not in query
    return query


@pytest.mark.kafka
@pytest.mark.parametrize(("board", "panel"), panels(), ids=named)
def test_every_query_is_answered(watched: Watched, board: str, panel: dict[str, Any]) -> None:
    shown: list[float] = []
    for target in panel["targets"]:
        query = filled_in(target.get("expr") or target["rawSql"])
        found = watched.answers(query) if "rawSql" in target else [float(each["value"][1]) for each in watched.monitoring.ask(query)]
        shown += found

        assert found or any(series in query for series in LATER), query
    assert not any(value != value for value in shown), "not a number"
    assert any(shown) or panel["title"] in ZERO_WHEN_WELL


@pytest.mark.kafka
def test_of_a_worker_without_payments_nothing_is_shown_that_is_no_number(watched: Watched) -> None:
    for _, panel in panels():
        for target in (target for target in panel["targets"] if "expr" in target):
            found = watched.monitoring.ask(filled_in(target["expr"], watched.idle))

            assert not any(series["value"][1] == "NaN" for series in found), target["expr"]


@pytest.mark.kafka
@pytest.mark.parametrize("name", sorted(boards()))
def test_every_annotation_and_variable_is_answered(watched: Watched, name: str) -> None:
    board = boards()[name]
    for annotation in board["annotations"]["list"]:
        watched.monitoring.ask(filled_in(annotation["expr"]))
    for variable in board["templating"]["list"][2:]:
        series, _, wanted = re.fullmatch(r"label_values\((.+?)(, )(\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
        found = watched.monitoring.ask(filled_in(series))
        assert found
        assert all(wanted in each["metric"] for each in found)


@pytest.mark.kafka
def test_what_verdicts_found_adds_up_to_what_was_caught(watched: Watched) -> None:
    (caught, frauds), *_ = watched.ledger.execute("SELECT sum(caught)::float, sum(frauds)::float FROM cohorts").fetchall()
    by_verdict = {row[0]: row[1:] for row in watched.ledger.execute(filled_in(VERDICTS).encode())}

    assert 0 < caught < frauds
    assert set(by_verdict) == {"review", "block"}
    assert sum(row[1] for row in by_verdict.values()) == caught
    assert sum(row[5] for row in by_verdict.values()) == pytest.approx(caught / frauds)
    for payments, found, false_alarms, unknown, precision, *_ in by_verdict.values():
        assert payments == found + false_alarms + unknown
        assert precision == (found / (found + false_alarms) if found + false_alarms else None)


@pytest.mark.kafka
def test_what_prometheus_counts_is_what_was_decided(watched: Watched) -> None:
    figure = watched.monitoring.figure
    of_transactions = 'sum(aegis_dead_letters_total{topic="boards-transactions"})'

    assert figure('sum(aegis_payments_total{verdict!="allow"})')
    assert figure('sum(aegis_amount_total{outcome="block"})')
    assert figure(f"sum(aegis_decision_seconds_count) - sum(aegis_payments_total) - {of_transactions}") == pytest.approx(0, abs=20)
    for name in ("late", "unrated", "duplicates", "conflicts", "dead_letters", "list_hits", "controls"):
        assert figure(f"sum(aegis_{name}_total)"), name
    assert figure(f'aegis_payments_total{{instance="{watched.idle}"}} > 0') is None
    assert figure("sum(aegis_degraded_total)") == 0
    assert figure("min(aegis_ready)") == 1
    assert figure("max(aegis_partitions)") == 2
    assert figure('count(ALERTS{alertstate="firing", alertname!~"AegisWatchdog|AegisDeadLetters"})') is None


@pytest.mark.kafka
def test_grafana_can_only_read(watched: Watched) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        watched.ledger.execute("DELETE FROM decisions")


@pytest.mark.kafka
def test_an_alert_reaches_alertmanager_and_leads_to_the_runbook(watched: Watched) -> None:
    wait_until(lambda: watched.monitoring.alerts("watchdog") != [], 60)
    (alert,) = watched.monitoring.alerts("watchdog")
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")

    assert alert["labels"]["alertname"] == "AegisWatchdog"
    assert f'<h2 id="{anchor}">' in get(page)


@pytest.mark.kafka
def test_a_scrape_is_what_prometheus_can_read_in_full(watched: Watched) -> None:
    exported = {family.name for family in text_string_to_metric_families(watched.scraped)}
    ours = {family.name for family in REGISTRY.collect() if family.name.startswith("aegis_") and not family.name.startswith(metrics.BESIDE)}

    assert ours <= exported
    assert len(watched.scraped.splitlines()) < 2000
