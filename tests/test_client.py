"""The client against a real HTTP server that fails at times. With a real gateway it is in `test_gateway`."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic

import pytest
import stamina

from aegis_app.client import DEADLINE, LEDGER_SECONDS, SECONDS, AegisError, AsyncClient, Client, _arguments, _decide
from aegis_app.core.label import Label, encode_label
from tests.make import label, payment

PROBLEM = b'{"title": "No", "status": 422, "detail": "it is odd", "errors": [{"field": "f", "detail": "odd"}]}'


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """Attempts follow each other without a pause."""
    with stamina.set_testing(True, attempts=3):
        yield


@contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers, one after another; its URL, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, body = answers[len(asked) - 1]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_is_to_come_later_is_asked_again() -> None:
    with answering((503, b"busy"), (429, PROBLEM), (200, b'{"mode": "observe"}')) as (url, asked), Client(url, "key") as aegis:
        assert aegis.rules() == {"mode": "observe"}
    assert len(asked) == 3


def test_a_refusal_is_final_and_names_the_field() -> None:
    with answering((422, PROBLEM)) as (url, asked), Client(url, "key") as aegis, pytest.raises(AegisError, match="422: it is odd") as error:
        aegis.card("a/b")

    assert [fault.field for fault in error.value.errors] == ["f"]
    assert asked == ["/v1/cards/a%2Fb"]


def test_a_verdict_waits_for_the_ledger_to_hear_of_the_decision() -> None:
    """Which it does some seconds later; what is only asked for is not waited for, and the pauses are long enough."""
    missing, made = (404, b'{"title": "No", "status": 404, "detail": "not yet"}'), (200, encode_label(label(payment())))
    with answering(missing, missing, made, missing, missing, made) as (url, asked):

        async def judge() -> Label:
            async with AsyncClient(url, "key") as aegis:
                return await aegis.judge("a", is_fraud=True)

        with Client(url, "key") as aegis:
            assert aegis.judge("a", is_fraud=True) == label(payment())
        assert asyncio.run(judge()) == label(payment())
    with answering(missing) as (url, asked), Client(url, "key") as aegis, pytest.raises(AegisError, match="404: not yet"):
        aegis.decision("a")
    assert len(asked) == 1


def test_the_ledger_is_waited_for_some_seconds() -> None:
    """But by who wants no second attempt; and never longer than for an answer."""
    missing = (404, PROBLEM)
    with stamina.set_testing(False), answering(missing, missing, missing) as (url, asked):
        begun = monotonic()
        with Client(url, "key", attempts=2) as aegis, pytest.raises(AegisError):
            aegis.judge("a", is_fraud=True)
        waited = monotonic() - begun
        with Client(url, "key", attempts=1) as aegis, pytest.raises(AegisError):
            aegis.judge("a", is_fraud=True)

    assert len(asked) == 3
    assert LEDGER_SECONDS <= waited < SECONDS


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "key", "said"), [("localhost:8080", "key", "http://"), ("", "key", "http://"), ("http://x", " ", "keys create")]
)
def test_an_address_without_scheme_and_an_empty_key_are_refused(client: type[Client | AsyncClient], url: str, key: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        client(url, key)


def test_a_gateway_that_stays_away_is_given_up() -> None:
    with answering() as (url, _):
        pass

    async def ask() -> None:
        async with AsyncClient(url, "key") as aegis:
            await aegis.rules()

    with pytest.raises(AegisError, match="does not answer"), Client(url, "key") as aegis:
        aegis.rules()
    with pytest.raises(AegisError, match="does not answer"):
        asyncio.run(ask())


def test_a_payment_with_a_deadline_does_not_wait_for_a_gateway_that_is_away() -> None:
    """Nor is anybody who keeps no log told of every attempt."""
    with answering() as (url, _):
        pass
    program = f"""
import time
from aegis_app.client import AegisError, Client
from tests.make import payment
with Client({url!r}, "key") as aegis:
    begun = time.monotonic()
    try:
        aegis.decide(payment(), deadline_ms=400)
    except AegisError as error:
        print(time.monotonic() - begun < 1.0, error)
"""
    root = Path(__file__).parent.parent

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)

    assert (done.stdout, done.stderr) == ("True the gateway does not answer: ConnectError\n", "")


def test_pages_follow_each_other() -> None:
    pages = (200, b'{"decisions": [{"n": 1}, {"n": 2}], "next": "abc"}'), (200, b'{"decisions": [{"n": 3}], "next": null}')
    with answering(*pages, *pages) as (url, asked):

        async def everything() -> list[int]:
            async with AsyncClient(url, "key") as aegis:
                return [entry["n"] async for entry in aegis.decisions(outcome="review")]

        with Client(url, "key") as aegis:
            assert [entry["n"] for entry in aegis.decisions(outcome="review")] == [1, 2, 3]
        assert asyncio.run(everything()) == [1, 2, 3]
    assert asked[:2] == ["/v1/decisions?outcome=review", "/v1/decisions?outcome=review&after=abc"]


def test_the_deadline_is_that_of_all_attempts_together() -> None:
    call = _decide(payment(), explain=False, deadline_ms=400)

    first, late = (_arguments(call, monotonic() - seconds) for seconds in (0, 0.3))

    assert 390 <= int(first["headers"][DEADLINE]) <= 400
    assert int(late["headers"][DEADLINE]) <= 100
    assert late["timeout"] < first["timeout"]
