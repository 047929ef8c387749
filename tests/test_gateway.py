"""The gateway on a real Kafka, before a real worker and a real ledger."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from aegis_app.access import connect
from aegis_app.client import AegisError, AsyncClient, Client, Refusal
from aegis_app.core.answer import Answer
from aegis_app.core.payment import Outcome, encode_transaction
from aegis_app.gateway.desk import busy
from aegis_app.gateway.exchange import BusyError, Exchange, Ticket
from aegis_app.kafka import Kafka, jars
from aegis_app.kafka.ports import free_port
from aegis_app.keys import Scope, create
from aegis_app.process import Gateway, Ledger
from aegis_app.settings import Settings, read
from aegis_app.stream.outbox import Outgoing
from aegis_app.topics import Name, full_name
from tests.deployment import NOISE, Deployment, wait_until
from tests.make import label, payment
from tests.tools import tool

pytestmark = pytest.mark.kafka

CARD_NUMBER = "4111 1111 1111 1111"
PATIENT: Mapping[str, str] = {"Aegis-Deadline-Ms": "30000"}
"""Long enough on a noisy machine: these tests want decisions, not fallbacks."""


class Edge(NamedTuple):
    """What runs, and a way in for each scope."""

    made: Deployment
    gateway: Gateway
    ledger: Ledger
    keys: dict[Scope, str]
    directory: Path

    def ask(
        self, method: str, path: str, body: Any = None, *, scope: Scope | None = Scope.SCORE, headers: Mapping[str, str] = PATIENT
    ) -> httpx.Response:
        """Bodies that are no bytes go as JSON."""
        content = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        key = {} if scope is None else {"Authorization": f"Bearer {self.keys[scope]}"}
        return httpx.request(method, self.gateway.url + path, content=content, headers=key | dict(headers), timeout=60)

    def pay(self, **fields: Any) -> httpx.Response:
        return self.ask("POST", "/v1/transactions", encode_transaction(payment(timestamp=now(), **fields)))


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def edge(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    directory = tmp_path_factory.mktemp("edge")
    policy = directory / "policy.toml"
    policy.write_text('mode = "enforce"\n\n[rules.amount_spike]\nstate = "on"\n')
    ports = {name: free_port() for name in ("gateway", "ledger", "worker")}
    environment = {
        "AEGIS_POLICY": str(policy),
        "AEGIS_KEYS": str(directory / "keys.json"),
        "AEGIS_LEDGER": f"sqlite:///{directory}/ledger.sqlite",
        "AEGIS_CARD_KEY": f"k2:{'2' * 32},k1:{'1' * 32}",
    }
    keys = {scope: create(directory / "keys.json", f"test {scope}", [scope], 100_000).secret for scope in Scope}
    with Deployment(kafka, directory, "edge", **environment) as made:
        worker = made.worker()
        assert made.aegis("ledger", "migrate").exit_code == 0
        made_environment = made.environment | {"AEGIS_WORKERS": f"http://127.0.0.1:9,{worker.url}"}
        gateway = Gateway(directory / "gateway", ports["gateway"], made_environment)
        ledger = Ledger(directory / "ledger", ports["ledger"], made_environment)
        try:
            worker.wait_until_ready()
            ledger.start()
            gateway.start().wait_until_ready()
            yield Edge(made, gateway, ledger, keys, directory)
        finally:
            gateway.kill()
            ledger.kill()


def test_a_payment_is_answered_with_its_decision(edge: Edge) -> None:
    answer = edge.pay(transaction_id="first", card_id="card-first")

    assert answer.status_code == 200, answer.text
    said = answer.json()
    (decision,) = [each for each in edge.made.decisions() if each["transaction_id"] == "first"]
    assert (said["outcome"], said["action"], said["fallback"], said["duplicate"]) == ("allow", "approve", False, False)
    assert {name: said[name] for name in ("verdict", "score", "policy", "decided_at")} == {
        name: decision[name] for name in ("verdict", "score", "policy", "decided_at")
    }
    assert said["explanation"] is None


def test_a_repeat_is_answered_as_before(edge: Edge) -> None:
    same = payment(transaction_id="twice", card_id="card-twice", timestamp=now())
    bodies = [encode_transaction(each) for each in (same, same, msgspec.structs.replace(same, amount_minor=77_700))]
    first, again, other = (edge.ask("POST", "/v1/transactions", body).json() for body in bodies)

    assert [(each["duplicate"], each["conflict"]) for each in (first, again, other)] == [(False, False), (True, False), (True, True)]
    assert [first[name] for name in ("outcome", "score")] == [again[name] for name in ("outcome", "score")]


def test_five_at_once_are_one_payment(edge: Edge) -> None:
    """A storm of duplicates: every request is answered, all of one payment alike, and one decision each is no duplicate."""
    payments = [payment(transaction_id=f"storm-{number}", card_id=f"storm-card-{number % 7}", timestamp=now()) for number in range(40)]

    async def storm() -> list[dict[str, Any]]:
        async with httpx.AsyncClient(base_url=edge.gateway.url, timeout=60) as client:
            headers = dict(PATIENT) | {"Authorization": f"Bearer {edge.keys[Scope.SCORE]}"}
            bodies = [encode_transaction(txn) for txn in payments for _ in range(5)]
            answers = await asyncio.gather(*(client.post("/v1/transactions", content=body, headers=headers) for body in bodies))
            return [answer.json() for answer in answers]

    said = asyncio.run(storm())

    assert len(said) == 200
    assert not any(answer["fallback"] for answer in said)
    for txn in payments:
        mine = [answer for answer in said if answer["transaction_id"] == txn.transaction_id]
        assert len(mine) == 5
        assert len({(answer["outcome"], answer["score"]) for answer in mine}) == 1
        assert [answer["duplicate"] for answer in mine].count(False) == 1


def test_a_batch_is_answered_in_order_and_what_cannot_be_taken_gets_its_problem(edge: Edge) -> None:
    good = [msgspec.to_builtins(payment(transaction_id=f"b{number}", card_id="card-b", timestamp=now())) for number in range(3)]
    bad = good[0] | {"amount_minor": -1}

    answers = edge.ask("POST", "/v1/transactions/batch", {"transactions": [good[0], bad, *good[1:]]}).json()["answers"]

    assert [answer.get("transaction_id") for answer in answers] == ["b0", None, "b1", "b2"]
    assert answers[1]["status"] == 422
    assert answers[1]["errors"][0]["field"] == "transactions[1].amount_minor"


def test_a_refusal_is_explained(edge: Edge) -> None:
    """A large amount on a card that is known for small ones, with layers and features."""
    for number in range(12):
        edge.pay(transaction_id=f"habit-{number}", card_id="card-habit", amount_minor=20_00)
    body = encode_transaction(payment(transaction_id="spike", card_id="card-habit", amount_minor=9000_00, timestamp=now()))

    said = edge.ask("POST", "/v1/transactions?explain=true", body).json()

    assert (said["outcome"], said["action"], said["rules"]) == ("review", "hold", ["amount_spike"])
    assert "9,000.00 EUR" in said["reasons"][0]["text"]
    assert said["explanation"]["features"]["amount"] == 9000_00


def test_what_is_allowed_is_described_for_who_asks(edge: Edge) -> None:
    plain, asked = (encode_transaction(payment(transaction_id=name, card_id="card-plain", timestamp=now())) for name in ("plain", "asked"))

    said = [edge.ask("POST", f"/v1/transactions?explain={ask}", body).json() for ask, body in (("false", plain), ("true", asked))]

    assert [each["outcome"] for each in said] == ["allow", "allow"]
    assert said[0]["explanation"] is None
    assert said[1]["explanation"]["features"]["amount"] == payment().amount_minor
    carried = {each["transaction_id"]: each["features"] for each in edge.made.decisions()}
    assert carried["plain"] is None
    assert carried["asked"] == said[1]["explanation"]["features"]


def test_past_the_deadline_the_answer_is_the_fallback_and_the_decision_follows(edge: Edge) -> None:
    body = encode_transaction(payment(transaction_id="late", card_id="card-late", timestamp=now()))

    said = edge.ask("POST", "/v1/transactions", body, headers={"Aegis-Deadline-Ms": "1"}).json()

    assert (said["outcome"], said["action"], said["fallback"], said["score"], said["verdict"]) == ("review", "hold", True, None, None)
    assert said["decision"] == "/v1/decisions/late"
    wait_until(
        lambda: 'aegis_gateway_late_total{as_answered="false",outcome="allow"} 1.0' in edge.gateway.get("/metrics")[1], 30, edge.made
    )
    wait_until(lambda: edge.ask("GET", said["decision"], scope=Scope.READ).status_code == 200, 60, edge.made)
    told = edge.ask("GET", said["decision"], scope=Scope.READ).json
    wait_until(lambda: told()["fallback"] is not None, 60, edge.made)
    entry = told()
    assert entry["decision"]["outcome"] == "allow"
    assert [entry["fallback"][name] for name in ("outcome", "action", "waited_ms", "card_id")] == ["review", "hold", 1, "card-late"]


def test_bodies_of_other_systems_are_answered_as_they_expect(edge: Edge) -> None:
    """As written in their documents."""
    checked = edge.ask(
        "POST",
        "/api/check-fraud",
        b'{"transaction_id": "o1", "user_id": "u1", "merchant_id": "m1", "amount": 1500.00, "timestamp": "%s"}'
        % now().isoformat().encode(),
    ).json()
    predicted = edge.ask("POST", "/predict", b'{"amount": 149.62, "V1": -1.36, "V2": 0.07, "hour": 14}').json()

    assert checked.pop("processing_time_ms") > 0
    assert checked == {
        "transaction_id": "o1",
        "fraud_score": 0.0,
        "is_fraud": False,
        "risk_level": "low",
        "factors": [],
        "action": "approve",
        "mode": "enforce",
        "fallback": False,
    }
    assert {name: predicted[name] for name in ("fraud_score", "action", "mode", "reason", "alone")} == {
        "fraud_score": 0.0,
        "action": "approve",
        "mode": "enforce",
        "reason": "nothing stands out",
        "alone": True,
    }
    assert edge.ask("POST", "/predict", b'{"amount": 149.62, "V1": -1.36, "user_id": "u2"}').json()["alone"] is False
    by_id = {each["transaction_id"]: each for each in edge.made.decisions()}
    assert by_id["o1"]["amount_minor"] == 1500_00
    assert by_id[predicted["transaction_id"]]["attributes"] == {"V1": -1.36, "V2": 0.07, "hour": 14.0}


@pytest.mark.parametrize(
    ("method", "path", "body", "scope", "status", "field"),
    [
        ("POST", "/v1/transactions", b"{}", None, 401, None),
        ("POST", "/v1/transactions", b"{}", Scope.READ, 403, None),
        ("GET", "/v1/decisions", None, Scope.SCORE, 403, None),
        ("POST", "/v1/labels", b"{}", Scope.SCORE, 403, None),
        ("POST", "/v1/transactions", b"{", Scope.SCORE, 400, None),
        ("POST", "/v1/transactions", b"", Scope.SCORE, 400, None),
        ("POST", "/v1/transactions", b"{}", Scope.SCORE, 422, "transaction_id"),
        ("POST", "/v1/transactions", b'{"transaction_id": 3}', Scope.SCORE, 422, "transaction_id"),
        ("POST", "/v1/transactions?explain=maybe", b"{}", Scope.SCORE, 422, "explain"),
        ("POST", "/v1/transactions", b"x" * 70_000, Scope.SCORE, 413, None),
        ("POST", "/v1/transactions/batch", {"transactions": []}, Scope.SCORE, 422, "transactions"),
        ("POST", "/v1/transactions/batch", {"transactions": [{}] * 1001}, Scope.SCORE, 422, "transactions"),
        ("POST", "/v1/transactions/batch?explain=true", {"transactions": [{}] * 51}, Scope.SCORE, 422, "explain"),
        ("POST", "/predict", {"V1": 1}, Scope.SCORE, 422, "amount"),
        ("POST", "/api/check-fraud", {"amount": 1.001, "user_id": "u1"}, Scope.SCORE, 422, "amount"),
        ("POST", "/api/check-fraud", {"amount": 1, "merchant_id": "m1"}, Scope.SCORE, 422, "card_id"),
        ("POST", "/api/check-fraud", {"amount": 1, "userid": "u1"}, Scope.SCORE, 422, "card_id"),
        ("POST", "/predict", {"amount": 1, "V1": 1, "userid": "u1"}, Scope.SCORE, 422, "card_id"),
        ("POST", "/v1/labels", [{"transaction_id": "x"}], Scope.LABEL, 422, "[0].card_id"),
        ("POST", "/v1/labels", [], Scope.LABEL, 422, None),
        ("POST", "/v1/labels", {"transaction_id": "x", "is_fruad": True}, Scope.LABEL, 422, "is_fruad"),
        ("POST", "/v1/labels", [{"transaction_id": "x", "is_fruad": True}], Scope.LABEL, 422, "[0].is_fruad"),
        ("POST", "/v1/transactions/batch", {"transactions": [{}], "explian": True}, Scope.SCORE, 422, "explian"),
        ("POST", "/v1/decisions/unknown/verdict", {"is_fraud": False, "nte": "x"}, Scope.LABEL, 422, "nte"),
        ("GET", "/v1/decisions?outcome=block&outcome=review", None, Scope.READ, 422, "outcome"),
        ("GET", "/v1/decisions/unknown", None, Scope.READ, 404, None),
        ("GET", "/v1/decisions/unknown", None, Scope.SCORE, 404, None),
        ("GET", "/v1/decisions/unknown", None, Scope.LABEL, 403, None),
        ("POST", "/v1/decisions/unknown/verdict", {"is_fraud": True}, Scope.LABEL, 404, None),
        ("POST", "/v1/decisions/unknown/verdict", {"is_fraud": 3}, Scope.LABEL, 422, "is_fraud"),
        ("GET", "/v1/decisions?limit=0", None, Scope.READ, 422, "limit"),
        ("GET", "/v1/decisions?after=x", None, Scope.READ, 422, "after"),
        ("GET", "/v1/cards/nobody", None, Scope.READ, 404, None),
        ("GET", "/nothing", None, Scope.READ, 404, None),
        ("DELETE", "/v1/transactions", None, Scope.SCORE, 405, None),
    ],
)
def test_what_goes_wrong_has_one_shape(
    edge: Edge, method: str, path: str, body: Any, scope: Scope | None, status: int, field: str | None
) -> None:
    answer = edge.ask(method, path, body, scope=scope)

    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert problem["type"].startswith("urn:aegis:problem:")
    assert problem["detail"]
    assert [fault["field"] for fault in problem.get("errors", [])] == ([] if field is None else [field])


def test_an_id_of_several_cards_asks_for_one_where_the_request_can_say_it(edge: Edge) -> None:
    for card in ("card-x", "card-y"):
        edge.pay(transaction_id="of-two", card_id=card)
    wait_until(lambda: edge.ask("GET", "/v1/decisions/of-two", scope=Scope.READ).status_code == 409, 60, edge.made)

    asked = edge.ask("GET", "/v1/decisions/of-two", scope=Scope.READ).json()
    judged = edge.ask("POST", "/v1/decisions/of-two/verdict", {"is_fraud": False}, scope=Scope.LABEL).json()

    assert [fault["field"] for said in (asked, judged) for fault in said["errors"]] == ["card", "card_id"]
    assert edge.ask("GET", "/v1/decisions/of-two?card=card-y", scope=Scope.READ).status_code == 200
    assert edge.ask("POST", "/v1/decisions/of-two/verdict", {"is_fraud": False, "card_id": "card-y"}, scope=Scope.LABEL).status_code == 200


def test_no_route_ignores_a_parameter_that_it_does_not_have(edge: Edge) -> None:
    """A script that judges what `?outcom=block` finds would judge every payment of the bank."""
    every = create(edge.directory / "keys.json", "misspelling", list(Scope), 100_000)
    headers = {"Authorization": f"Bearer {every.secret}"}
    wait_until(lambda: edge.ask("GET", "/v1/rules", scope=None, headers=headers).status_code == 200, 30)
    paths = edge.ask("GET", "/openapi.json", scope=None).json()["paths"]
    probes = ("/health", "/ready", "/metrics")  # of balancers and scrapes, which put there what they like
    routes = [(method.upper(), re.sub(r"{.*?}", "x", path)) for path, methods in paths.items() for method in methods if path not in probes]

    asked = [edge.ask(method, f"{path}?outcom=block", scope=None, headers=headers) for method, path in routes]

    assert [edge.ask("GET", f"{path}?now=1", scope=None, headers=headers).status_code for path in probes] == [200] * 3
    assert len(routes) > 10
    assert [(answer.status_code, answer.json()["errors"][0]["field"]) for answer in asked] == [(422, "outcom")] * len(routes)


def test_a_payment_may_have_fields_that_are_of_later_versions(edge: Edge) -> None:
    body = msgspec.to_builtins(payment(transaction_id="further", card_id="card-further", timestamp=now())) | {"loyalty": "gold"}

    assert edge.ask("POST", "/v1/transactions", body).status_code == 200


@pytest.mark.parametrize("deadline", ["0", "-1", "60001", "soon", "1e3"])
def test_a_deadline_is_milliseconds(edge: Edge, deadline: str) -> None:
    answer = edge.ask("POST", "/v1/transactions", b"{}", headers={"Aegis-Deadline-Ms": deadline})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Aegis-Deadline-Ms")


def test_a_key_counts_what_it_may_and_is_refused_once_revoked(edge: Edge) -> None:
    path = edge.directory / "keys.json"
    few = create(path, "few", [Scope.READ], 2)
    headers = {"Authorization": f"Bearer {few.secret}"}
    wait_until(lambda: edge.ask("GET", "/v1/rules", scope=None, headers=headers).status_code == 200, 30)

    statuses = {edge.ask("GET", "/v1/rules", scope=None, headers=headers).status_code for _ in range(30)}
    too_many = [
        answer for answer in (edge.ask("GET", "/v1/rules", scope=None, headers=headers) for _ in range(30)) if answer.status_code == 429
    ]

    assert statuses == {200, 429}
    assert too_many[0].headers["retry-after"] == "1"
    assert edge.made.aegis("keys", "revoke", few.key.id).exit_code == 0
    wait_until(lambda: edge.ask("GET", "/v1/rules", scope=None, headers=headers).status_code == 401, 30)
    wrong = f"{few.secret[:-1]}{'A' if few.secret[-1] != 'A' else 'B'}"
    assert edge.ask("GET", "/v1/rules", scope=None, headers={"Authorization": f"Bearer {wrong}"}).status_code == 401


def test_reviews_are_found_and_closed(edge: Edge) -> None:
    """What was sent to review is listed, judged, and then no longer open; the verdict is a label that the card learns."""
    for number in range(12):
        edge.pay(transaction_id=f"open-{number}", card_id="card-open", amount_minor=20_00, merchant_id="m-open")
    for number in range(3):
        edge.pay(transaction_id=f"odd-{number}", card_id="card-open", amount_minor=9000_00 + number, merchant_id="m-open")
    query = "/v1/decisions?outcome=review&card=card-open&merchant=m-open&rule=amount_spike&reviewed=false&since=2020-01-01T00:00:00Z"
    wait_until(lambda: len(edge.ask("GET", query, scope=Scope.READ).json()["decisions"]) == 3, 60, edge.made)

    first = edge.ask("GET", f"{query}&limit=2", scope=Scope.READ).json()
    rest = edge.ask("GET", f"{query}&limit=2&after={first['next']}", scope=Scope.READ).json()
    table = edge.ask("GET", f"{query}&limit=2&format=csv", scope=Scope.READ)
    judged = edge.ask("POST", "/v1/decisions/odd-1/verdict", {"is_fraud": True, "note": "not his"}, scope=Scope.LABEL)

    ids = [entry["decision"]["transaction_id"] for entry in (*first["decisions"], *rest["decisions"])]
    assert (ids, rest["next"]) == (["odd-2", "odd-1", "odd-0"], None)
    assert [line.split(",")[0] for line in table.text.splitlines()] == ["transaction_id", "odd-2", "odd-1"]
    assert f"after={first['next']}" in table.headers["link"]
    assert judged.status_code == 200, judged.text
    assert (judged.json()["source"], judged.json()["labelled_by"], judged.json()["note"]) == ("analyst", "test label", "not his")
    wait_until(lambda: len(edge.ask("GET", query, scope=Scope.READ).json()["decisions"]) == 2, 60, edge.made)
    known = edge.ask("GET", "/v1/decisions/odd-1", scope=Scope.READ).json()["known"]
    assert (known["is_fraud"], known["note"]) == (True, "not his")
    edge.made.await_settled(name=Name.LABELS)
    card = edge.ask("GET", "/v1/cards/card-open", scope=Scope.READ).json()
    assert [verdict["is_fraud"] for verdict in card["memory"]["verdicts"]] == [True]
    assert len(card["history"]) == 15


def test_labels_come_one_or_many(edge: Edge) -> None:
    said = {
        "transaction_id": "l1",
        "card_id": "card-l",
        "timestamp": (now() - timedelta(days=3)).isoformat(),
        "is_fraud": True,
        "labelled_at": now().isoformat(),
        "source": "chargeback",
    }
    before = len(edge.made.records(Name.LABELS))

    one = edge.ask("POST", "/v1/labels", said, scope=Scope.LABEL)
    many = edge.ask("POST", "/v1/labels", [said | {"transaction_id": f"l{number}"} for number in range(2, 5)], scope=Scope.LABEL)
    none = edge.ask("POST", "/v1/labels", [said, said | {"source": "rumour"}], scope=Scope.LABEL)

    assert (one.json(), many.json(), none.json()["errors"][0]["field"]) == ({"accepted": 1}, {"accepted": 3}, "[1].source")
    assert len(edge.made.records(Name.LABELS)) == before + 4


def test_fields_that_nobody_knows_are_taken_and_counted(edge: Edge) -> None:
    def counted() -> float:
        lines = edge.gateway.get("/metrics")[1].splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("aegis_gateway_unknown_fields_total "))

    before, name = counted(), "misspelt"
    body = msgspec.json.decode(encode_transaction(payment(transaction_id=name, card_id=name, timestamp=now())))
    flat = {"transaction_id": "misspelt-2", "user_id": name, "amount": 1, "V1": 3.5}

    assert edge.ask("POST", "/v1/transactions", body | {"chanel": "online", "merchnt_id": "m"}).json()["outcome"] == "allow"
    assert edge.ask("POST", "/api/check-fraud", flat | {"merchnt_id": "m"}).json()["action"] == "approve"
    assert counted() == before + 2
    assert edge.ask("POST", "/v1/transactions", body).json()["duplicate"] is True
    assert edge.ask("POST", "/api/check-fraud", flat).status_code == 200
    assert counted() == before + 2


def test_what_is_in_force_is_told(edge: Edge) -> None:
    rules = edge.ask("GET", "/v1/rules", scope=Scope.READ).json()

    assert (rules["mode"], rules["source"]) == ("enforce", {"from": "AEGIS_POLICY"})
    assert {each["rule"]: each["state"] for each in rules["rules"]}["amount_spike"] == "on"
    assert edge.ask("GET", "/v1/bundle", scope=Scope.READ).json()["bundle"] is None
    assert httpx.get(f"{edge.gateway.url}/health").json()["status"] == "ok"


def test_it_says_where_it_serves_and_that_it_has_stopped(edge: Edge, tmp_path: Path) -> None:
    """To a Ctrl-C and to a supervisor's SIGTERM alike, with exit code 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        gateway = Gateway(tmp_path / number.name, free_port(), edge.gateway.environment)
        try:
            gateway.start().wait_until_ready()
            gateway.signal(number)
            wait_until(lambda: gateway.pid is None, 30)  # noqa: B023
        finally:
            gateway.kill()

        assert (gateway.returncode, gateway.last_words(1).rpartition("] ")[2]) == (0, "the gateway has stopped")
        assert f"the gateway serves on {gateway.url}, /docs\n" in gateway.log.read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/gateway.md"])
def test_what_is_to_be_pasted_is_answered_by_a_gateway_that_just_starts(edge: Edge, tmp_path: Path, page: str) -> None:
    text = (Path(__file__).parent.parent / page).read_text()
    command = text[text.index("curl -sS --retry") : text.index("\n```", text.index("curl -sS --retry"))]
    gateway = Gateway(tmp_path, free_port(), edge.gateway.environment)
    shell = [tool("bash"), "-c", command.replace("http://127.0.0.1:8080", gateway.url)]
    environment = os.environ | {"KEY": edge.keys[Scope.SCORE]}
    try:
        gateway.start()
        pasted = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=120, check=False)
    finally:
        gateway.kill()

    assert pasted.returncode == 0, pasted.stderr
    assert msgspec.json.decode(pasted.stdout)["transaction_id"] == "t-1001"


def test_a_port_that_is_taken_stops_its_start_in_one_line(edge: Edge, tmp_path: Path) -> None:
    second = Gateway(tmp_path, edge.gateway.port, edge.gateway.environment).start()
    wait_until(lambda: second.pid is None, 30)

    where = f"127.0.0.1, port {second.port} (Address already in use)"
    line = f"aegis: the gateway cannot listen on {where}: set AEGIS_GATEWAY_PORT to a free one"
    assert (second.returncode, second.log.read_text().splitlines()) == (1, [line])


def test_without_a_ledger_a_card_is_known_by_its_memory(edge: Edge, tmp_path: Path) -> None:
    """And every answer says what the ledger wants."""
    edge.pay(transaction_id="remembered", card_id="card-remembered")
    edge.made.await_settled()
    ledger = {"AEGIS_LEDGER": f"sqlite:///{tmp_path}/none.sqlite"}
    gateway = Gateway(tmp_path, free_port(), edge.gateway.environment | ledger)
    try:
        bare = edge._replace(gateway=gateway.start().wait_until_ready())
        card, nobody, listed = (
            bare.ask("GET", path, scope=Scope.READ) for path in ("/v1/cards/card-remembered", "/v1/cards/nobody", "/v1/decisions")
        )
    finally:
        gateway.kill()

    why = "the ledger cannot be read now; it wants `aegis ledger migrate`"
    assert card.status_code == 200, card.text
    assert (card.json()["history"], card.json()["history_missing"]) == (None, why)
    assert card.json()["memory"] is not None
    assert [(answer.status_code, answer.json()["detail"]) for answer in (nobody, listed)] == [(503, why)] * 2


def test_the_page_of_docs_runs_nothing_that_a_stranger_serves(edge: Edge) -> None:
    page = httpx.get(f"{edge.gateway.url}/docs")

    wanted = [link for link in re.findall(r'(?:src|href)="([^"]+)"', page.text) if link != "data:,"]
    assert {*wanted} > {"docs/files/swagger-ui-bundle.js", "docs/start.js", "openapi.json"}
    assert [httpx.get(f"{edge.gateway.url}/{link}").status_code for link in wanted] == [200] * len(wanted)
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert "http" not in page.headers["content-security-policy"]


def test_pages_of_other_origins_may_not_ask(edge: Edge) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    answers = [edge.ask("OPTIONS", "/v1/transactions", headers=asked), edge.ask("GET", "/v1/rules", scope=Scope.READ, headers=asked)]

    assert [answer.status_code for answer in answers] == [405, 200]
    assert not any(name.startswith("access-control-") for answer in answers for name in answer.headers)


def test_card_numbers_go_no_further(edge: Edge) -> None:
    """Sent in every way there is, they are on no topic, in no log, no metric and no answer; a token stands for each."""
    digits = CARD_NUMBER.replace(" ", "")
    usual = msgspec.to_builtins(payment(transaction_id="numbered", timestamp=now()))
    del usual["card_id"]
    ways: list[tuple[str, str, Any]] = [
        ("POST", "/v1/transactions", usual | {"card_number": CARD_NUMBER}),
        ("POST", "/v1/transactions", usual | {"card_number": digits, "card_key": "k1"}),
        ("POST", "/v1/transactions/batch", {"transactions": [usual | {"card_number": digits}]}),
        ("POST", "/predict", {"amount": 1, "card_number": int(digits)}),
        ("POST", "/v1/transactions", usual | {"card_number": int(digits)}),
        ("POST", "/v1/transactions", usual | {"card_number": digits, "card_key": digits}),
        ("POST", "/v1/transactions", usual | {"card_number": f"{digits}{digits}"}),
        ("POST", "/v1/transactions", usual | {"card_id": digits}),
        ("POST", "/v1/transactions", usual | {"card_id": "x", "attributes": {"reference": int(digits)}}),
        ("POST", "/v1/transactions", usual | {"card_id": "x", "kind": digits}),
        ("POST", "/v1/transactions", b'{"card_number": "' + digits.encode()),
        ("POST", "/predict", {"amount": 1, "user_id": digits}),
        ("POST", "/predict", {"amount": 1, "Card_Number": digits}),
        ("POST", "/predict", {"amount": 1, "timestamp": digits}),
        ("POST", "/api/check-fraud", {"amount": 1, "pan": int(digits)}),
        ("GET", f"/v1/cards/{digits}", None),
        ("GET", f"/v1/decisions?card={digits}", None),
        ("GET", f"/v1/decisions?since={digits}x&after={digits}", None),
        ("GET", f"/nothing/{digits}", None),
        ("POST", "/v1/decisions/numbered/verdict", {"is_fraud": True, "note": f"of {CARD_NUMBER}"}),
        ("POST", "/v1/labels", {"transaction_id": "x", "card_id": digits}),
    ]
    scopes = {"GET": Scope.READ, "POST": Scope.SCORE}
    answers = [
        edge.ask(method, path, body, scope=Scope.LABEL if "verdict" in path or "labels" in path else scopes[method])
        for method, path, body in ways
    ]
    wait_until(lambda: edge.ask("GET", "/v1/decisions/numbered?card=nobody", scope=Scope.READ).status_code == 404, 60, edge.made)

    tokens = [
        msgspec.json.decode(record.value)["card_id"] for record in edge.made.records(Name.TRANSACTIONS) if b"numbered" in record.value
    ]
    assert [answer.status_code for answer in answers[:4]] == [200] * 4
    assert [answer.status_code for answer in answers[4:] if answer.status_code not in {400, 404, 422}] == []
    assert [token.partition(".")[0] for token in sorted(tokens)] == ["k1", "k2", "k2"]
    assert len(set(tokens)) == 2
    everywhere = [
        *(answer.content + repr(answer.headers).encode() for answer in answers),
        *(part for name in Name for record in edge.made.records(name) for part in (record.key or b"", record.value or b"")),
        *(path.read_bytes() for path in edge.directory.rglob("*") if path.is_file()),
        edge.gateway.get("/metrics")[1].encode(),
    ]
    assert len(everywhere) > 100
    assert [part[:300] for part in everywhere if digits.encode() in part or CARD_NUMBER.encode() in part] == []


def test_the_client_speaks_to_it(edge: Edge) -> None:
    payments = [payment(transaction_id=f"c{number}", card_id="card-c", timestamp=now()) for number in range(3)]

    async def meanwhile() -> list[Answer | Refusal]:
        async with AsyncClient(edge.gateway.url, edge.keys[Scope.SCORE]) as aegis:
            one = await aegis.decide(payments[0], deadline_ms=30_000)
            return [one, *await aegis.decide_many([*payments[1:], payments[0]], deadline_ms=30_000)]

    answers = asyncio.run(meanwhile())

    assert [(said.transaction_id, said.duplicate) for said in answers if isinstance(said, Answer)] == [
        ("c0", False),
        ("c1", False),
        ("c2", False),
        ("c0", True),
    ]
    with Client(edge.gateway.url, edge.keys[Scope.LABEL]) as aegis:
        edge.pay(transaction_id="c3", card_id="card-c")
        assert aegis.judge("c3", is_fraud=True).card_id == "card-c"  # at once, though the ledger may not have heard of it
        assert aegis.label(label(payments[0], after=timedelta())) == 1
        assert aegis.judge("c1", is_fraud=False, by="ana").labelled_by == "ana"
        with pytest.raises(AegisError, match="403"):
            aegis.rules()


def test_fuzzed_from_its_own_description_it_neither_fails_nor_strays(edge: Edge) -> None:
    """Every route, by schemathesis: no 5xx, no status, type or body that openapi.json does not know."""
    every = create(edge.directory / "keys.json", "fuzz", list(Scope), 100_000)
    wait_until(lambda: edge.ask("GET", "/v1/rules", scope=None, headers={"Authorization": f"Bearer {every.secret}"}).status_code == 200, 30)
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = ["run", f"{edge.gateway.url}/openapi.json", "-H", f"Authorization: Bearer {every.secret}", "--checks", checks]
    bounds = ["--phases", "examples,fuzzing", "-n", "10", "--seed", "1", "--no-shrink"]
    quiet = ["--generation-database", "none", "--no-color", "--warnings", "off"]

    fuzzed = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *command, *bounds, *quiet],
        cwd=edge.directory,
        capture_output=True,
        text=True,
        check=False,
    )

    assert fuzzed.returncode == 0, fuzzed.stdout[-6000:] + fuzzed.stderr[-2000:]
    operations = [path for path, methods in httpx.get(f"{edge.gateway.url}/openapi.json").json()["paths"].items() for _ in methods]
    assert f"Tested: {len(operations)}" in fuzzed.stdout


def test_a_killed_worker_leaves_no_request_without_an_answer_and_none_with_two(edge: Edge) -> None:
    """Requests go on while the one worker dies and another takes over: decisions or fallbacks, and no decision is ever another."""
    payments = [payment(transaction_id=f"kill-{number}", card_id=f"kill-card-{number % 20}", timestamp=now()) for number in range(400)]
    headers = {"Aegis-Deadline-Ms": "300", "Authorization": f"Bearer {edge.keys[Scope.SCORE]}"}

    async def pay(client: httpx.AsyncClient, number: int) -> dict[str, Any]:
        await asyncio.sleep(number / 100)
        answer = await client.post("/v1/transactions", content=encode_transaction(payments[number]), headers=headers)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    async def under_load() -> list[dict[str, Any]]:
        async with httpx.AsyncClient(base_url=edge.gateway.url, timeout=60) as client:
            asyncio.get_running_loop().call_later(1.5, edge.made.workers[0].kill)
            return await asyncio.gather(*(pay(client, number) for number in range(len(payments))))

    first = asyncio.run(under_load())
    edge.made.worker().wait_until_ready()
    again = [edge.ask("POST", "/v1/transactions", encode_transaction(txn)).json() for txn in payments]

    assert [said["transaction_id"] for said in first] == [txn.transaction_id for txn in payments]
    decided = [said for said in first if not said["fallback"]]
    assert 0 < len(decided) < len(payments)
    repeated = {said["transaction_id"]: said for said in again}
    assert not any(said["fallback"] for said in again)
    assert [said for said in decided if _told(said) != _told(repeated[said["transaction_id"]])] == []
    fresh = Counter(each["transaction_id"] for each in edge.made.decisions() if not each.get("duplicate"))
    assert {fresh[txn.transaction_id] for txn in payments} == {1}


def _told(said: dict[str, Any]) -> tuple[Any, ...]:
    return said["outcome"], said["verdict"], said["score"], [reason["code"] for reason in said["reasons"]]


def test_fallbacks_that_kafka_refuses_are_no_affair_of_payments(kafka: str, tmp_path: Path) -> None:
    async def pay(exchange: Exchange) -> Ticket:
        record = Outgoing(b"card-1", encode_transaction(payment()))
        (ticket,) = await exchange.decide([("t1", record)], asyncio.get_running_loop().time() + 0.5)
        return ticket

    async def send(settings: Settings) -> None:
        topic = ConfigResource(ConfigResourceType.TOPIC, full_name(Name.FALLBACKS, settings), {"max.message.bytes": "1"})
        async with connect(settings) as client:
            await client.alter_configs([topic])
        exchange = Exchange(settings)
        await exchange.start()
        ticket, (payments, _, fallbacks) = await pay(exchange), exchange._mails
        before = payments._outbox, fallbacks._outbox
        exchange.fell_back(ticket, Outcome.REVIEW, Outgoing(b"card-1", b"{}"))
        await asyncio.gather(*(lane.drained() for lane in exchange._fallbacks))
        assert fallbacks._outbox is not before[1], "none was refused"
        assert payments._outbox is before[0]
        assert (await pay(exchange)).source is not None
        await exchange.stop()

    with Deployment(kafka, tmp_path, "refusing") as made:
        asyncio.run(send(made.settings))


def test_a_body_that_does_not_arrive_is_given_up_and_holds_up_nobody(edge: Edge) -> None:
    head = f"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {edge.keys[Scope.SCORE]}\r\nContent-Length: 100\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", edge.gateway.port)) for _ in range(50)]
    for connection in slow:
        connection.sendall(head.encode() + b"{")

    assert edge.pay(transaction_id="quick", card_id="card-quick").json()["fallback"] is False
    for connection in slow:
        with closing(connection):
            connection.settimeout(60)
            assert connection.recv(12) == b"HTTP/1.1 408"


def test_no_more_is_taken_in_hand_than_may_be(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegis_app.gateway.exchange.MOST_WAITING", 3)

    async def pay(exchange: Exchange, number: int) -> int:
        records = [("t", Outgoing(b"card-1", encode_transaction(payment())))] * number
        return len(await exchange.decide(records, asyncio.get_running_loop().time() + 2))

    async def flood(made: Deployment) -> None:
        exchange = Exchange(made.settings)
        await exchange.start()
        waiting = asyncio.create_task(pay(exchange, 2))
        await asyncio.sleep(0.1)
        with pytest.raises(BusyError):
            await pay(exchange, 2)
        assert await waiting == 2
        assert await pay(exchange, 3) == 3
        await exchange.stop()

    with Deployment(kafka, tmp_path, "flood") as made:
        asyncio.run(flood(made))
        assert len(made.records(Name.TRANSACTIONS)) == 5

    refusal = busy().response()
    assert (refusal.status_code, refusal.headers["retry-after"]) == (503, "1")


def test_while_kafka_is_away_callers_are_answered_by_their_deadline_and_payments_go_their_way_later(tmp_path: Path) -> None:
    with Kafka(tmp_path / "kafka", jars(read({}))) as broker, Deployment(broker.address, tmp_path, "away") as made:
        keys = tmp_path / "keys.json"
        bearer = {"Authorization": f"Bearer {create(keys, 'test', [Scope.SCORE], 1000).secret}", "Aegis-Deadline-Ms": "500"}
        gateway = Gateway(tmp_path / "gateway", free_port(), made.environment | {"AEGIS_KEYS": str(keys)})
        try:
            gateway.start().wait_until_ready()
            broker.kill()
            ids = [f"t{number}" for number in range(5)]
            bodies = [encode_transaction(payment(transaction_id=name, timestamp=now())) for name in ids]
            said = [httpx.post(f"{gateway.url}/v1/transactions", content=body, headers=bearer, timeout=30) for body in bodies]
            wait_until(lambda: gateway.get("/ready")[0] == 503, 60)
            health, waited = gateway.get("/health")[0], max(answer.elapsed for answer in said)
            broker.start()
            wait_until(lambda: gateway.get("/ready")[0] == 200, 60)
            wait_until(lambda: sorted(json["transaction_id"] for json in sent(made)) == ids, 90)
        finally:
            gateway.kill()

    answers = [answer.json() for answer in said]
    assert health == 200
    assert waited < timedelta(seconds=0.5 * NOISE)
    assert [(each["fallback"], each["recorded"], each["outcome"]) for each in answers] == [(True, False, "allow")] * 5


def sent(made: Deployment) -> list[dict[str, Any]]:
    return [msgspec.json.decode(record.value) for record in made.records(Name.TRANSACTIONS)]
