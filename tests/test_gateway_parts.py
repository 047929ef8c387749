"""Parts of the gateway that need no worker: what is slow or away, and what an answer says."""

import asyncio
import gc
import socket
import threading
import time
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import uvicorn
from fastapi import Request

from aegis_app.core.decision import Reason, Ruling, encode_decision
from aegis_app.core.payment import Outcome
from aegis_app.core.policy import Mode
from aegis_app.gateway import patience
from aegis_app.gateway.answers import Answers, checked, predicted
from aegis_app.gateway.guard import body
from aegis_app.gateway.lanes import Lane, Mail
from aegis_app.gateway.patience import Protocol
from aegis_app.gateway.server import application
from aegis_app.kafka.ports import free_port
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outbox, Outgoing
from tests.make import payment

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


@contextmanager
def serving() -> Iterator[int]:
    """A uvicorn with our protocol; its port."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, http=Protocol, lifespan="off", log_config=None, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield port
    finally:
        server.should_exit = True
        thread.join()


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side closes it, within a minute."""
    connection.settimeout(60)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_headers_that_do_not_end_close_the_connection_and_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEADER_SECONDS", 2.0)
    with serving() as port:
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        for connection in slow[1:]:
            connection.sendall(HEAD)
        with closing(socket.create_connection(("127.0.0.1", port))) as quick:
            quick.sendall(HEAD + b"\r\n")
            assert quick.recv(12) == b"HTTP/1.1 204"
        for connection in slow:
            with closing(connection):
                assert is_closed(connection)


def test_headers_without_end_close_the_connection() -> None:
    broken = pytest.raises(OSError, match=r"reset|[Bb]roken")
    with serving() as port, closing(socket.create_connection(("127.0.0.1", port))) as flood, broken:
        flood.sendall(HEAD + b"X: %s\r\n" % (b"x" * 1000) * 20_000)


def test_what_was_there_at_the_start_is_not_looked_through_for_garbage() -> None:
    before = gc.get_threshold()

    async def nothing() -> None: ...

    async def start() -> int:
        desk: Any = SimpleNamespace(start=nothing, stop=nothing)
        app = application(desk)
        async with app.router.lifespan_context(app):
            return gc.get_freeze_count()

    try:
        assert asyncio.run(start()) > 100_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


@pytest.mark.parametrize("parts", [[BOM_UTF8 + b"{}"], [BOM_UTF8[:1], BOM_UTF8[1:] + b"{}"], [b"{}"]])
def test_a_body_may_begin_with_a_byte_order_mark(parts: list[bytes]) -> None:
    arriving = iter(parts)

    async def receive() -> Any:
        part = next(arriving)
        return {"type": "http.request", "body": part, "more_body": part is not parts[-1]}

    assert asyncio.run(body(Request({"type": "http", "headers": []}, receive))) == b"{}"


def test_records_for_a_kafka_that_is_away_are_given_up_and_said_so() -> None:
    landed: list[int | None] = []

    async def send() -> None:
        mail = Mail(lambda: Outbox(Settings(broker=f"127.0.0.1:{free_port()}").connection()))
        lane = Lane(mail, "transactions", 0)
        running = asyncio.create_task(lane.run())
        for _ in range(3):
            lane.put(Outgoing(b"card", b"{}"), landed.append)
        assert len(lane) == 3
        await lane.drained()
        running.cancel()
        await mail.stop()

    asyncio.run(send())

    assert landed == [None, None, None]


def decided(outcome: Outcome, **fields: Any) -> bytes:
    txn = payment(transaction_id="a/b")
    usual: dict[str, Any] = {"outcome": outcome, "verdict": outcome, "score": 0.5, "policy": "p", "decided_at": txn.timestamp}
    return encode_decision(txn, Ruling(**usual | fields))


@pytest.mark.parametrize(
    ("outcome", "review", "action", "level", "is_fraud"),
    [
        (Outcome.ALLOW, "hold", "approve", "low", False),
        (Outcome.REVIEW, "hold", "hold", "medium", False),
        (Outcome.REVIEW, "challenge", "challenge", "medium", False),
        (Outcome.REVIEW, "approve_and_queue", "approve_and_queue", "medium", False),
        (Outcome.BLOCK, "hold", "decline", "high", True),
    ],
)
def test_an_action_means_the_same_in_every_shape(outcome: Outcome, review: str, action: str, level: str, is_fraud: bool) -> None:
    answer = Answers(review).decided(decided(outcome, reasons=[Reason("x", "so")]), "1:2", explain=False)
    others = predicted(answer, Mode.ENFORCE, alone=False), checked(answer, Mode.ENFORCE, 0.004)

    assert [answer.action, *(other.action for other in others)] == [action] * 3
    assert (others[1].risk_level, others[1].is_fraud, others[1].factors, others[1].processing_time_ms) == (level, is_fraud, ["so"], 4.0)
    assert (others[0].fraud_score, others[0].reason) == (0.5, "so")
    assert answer.decision == "/v1/decisions/a%2Fb"


def test_under_observation_the_action_follows_the_outcome_and_the_risk_the_verdict() -> None:
    answer = Answers("hold").decided(decided(Outcome.ALLOW, verdict=Outcome.BLOCK), "1:2", explain=False)

    said = checked(answer, Mode.OBSERVE, 0)

    assert (answer.action, said.mode, said.risk_level, said.is_fraud) == ("approve", "observe", "high", True)


def test_an_explanation_has_layers_and_what_models_say() -> None:
    record = decided(
        Outcome.REVIEW, isolation_forest=0.7, reasons=[Reason("models", "odd"), Reason("model_amount", "large")], shadow_rules=["r"]
    )
    explanation = Answers("hold").decided(record, "1:2", explain=True).explanation

    assert explanation is not None
    assert explanation.layers == {"isolation_forest": 0.7, "autoencoder": None, "supervised": None}
    assert [reason.code for reason in explanation.contributions] == ["model_amount"]
    assert (explanation.shadow_rules, explanation.features) == (["r"], None)


def test_a_fallback_knows_no_score() -> None:
    answer = Answers("hold").fallback("t", Outcome.REVIEW, None, 100)

    assert msgspec.to_builtins(answer) | {"reasons": []} == msgspec.to_builtins(answer) | {
        "reasons": [],
        "score": None,
        "verdict": None,
        "probability": None,
        "fallback": True,
        "recorded": False,
        "action": "hold",
    }
    said = predicted(answer, None, alone=True)
    assert (said.fraud_score, said.alone, said.reason) == (None, True, "fallback: no decision within 100 ms")


@pytest.mark.parametrize(
    ("outcome", "level", "is_fraud"), [(Outcome.ALLOW, "medium", False), (Outcome.REVIEW, "medium", False), (Outcome.BLOCK, "high", True)]
)
def test_a_fallback_is_never_low_risk(outcome: Outcome, level: str, is_fraud: bool) -> None:
    said = checked(Answers("hold").fallback("t", outcome, None, 100), Mode.OBSERVE, 0)

    assert (said.risk_level, said.is_fraud, said.fraud_score, said.fallback) == (level, is_fraud, None, True)
    assert said.factors == ["fallback: no decision within 100 ms"]


def test_a_repeat_names_its_reasons_in_every_shape() -> None:
    """Their figures are not kept."""
    kept = [Reason(code, "as decided when this payment came first") for code in ("amount_spike", "many_merchants")]
    answer = Answers("hold").decided(decided(Outcome.REVIEW, reasons=kept, duplicate=True), "1:2", explain=False)

    sentences = [f"{code}: as decided when this payment came first" for code in ("amount_spike", "many_merchants")]
    assert checked(answer, None, 0).factors == sentences
    assert predicted(answer, None, alone=False).reason == sentences[0]
