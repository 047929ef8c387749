"""Messages on their way to real servers, which take them, fail, hang and lie."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aegis_app.cli import main
from aegis_app.settings import settings
from aegis_app.sinks.alerts.message import message
from aegis_app.sinks.alerts.routes import Webhook
from aegis_app.sinks.alerts.sending import MOST_THREADS, RefusedError, Sender, ServiceSender, UnreachedError, WebhookSender
from tests import receivers
from tests.receivers import Answer, Hook, Post, until
from tests.test_alerts_routes import KEY, SOME, raised

PAGE = Path(__file__).parent.parent / "docs/alerts.md"
ALERT = message([raised()])
SECONDS = 1.0
"""For what takes for ever."""


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASES_KEY", KEY)


def webhook(url: str, seconds: float = 60) -> WebhookSender:
    return WebhookSender(Webhook(url=url, key_env="CASES_KEY", timeout_seconds=seconds))


async def sent(sender: Sender) -> str | None:
    """What became of one attempt; `None` where it was taken."""
    try:
        await sender.send(ALERT)
    except (UnreachedError, RefusedError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        await sender.close()
    return None


def to_hook(answer: Answer) -> tuple[str | None, Hook]:
    async def scenario() -> tuple[str | None, Hook]:
        async with Hook() as hook:
            hook.answer = answer
            return await sent(webhook(hook.url, SECONDS if answer in (receivers.hang, receivers.drip) else 60)), hook

    return asyncio.run(scenario())


def test_a_webhook_gets_the_message_signed_with_the_time_as_the_documentation_says() -> None:
    before = int(time.time())

    shown: dict[str, Any] = {}
    exec(PAGE.read_text().split("```python\n")[1].partition("```")[0], shown)
    is_genuine = shown["is_genuine"]

    problem, hook = to_hook(receivers.take)

    assert problem is None
    (got,) = hook.got
    assert got.said["card_id"] == "card-1"
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["Idempotency-Key"] == got.said["id"] == ALERT.id
    assert before <= int(got.headers["Aegis-Timestamp"]) <= time.time()
    assert is_genuine(got.headers, got.content, KEY.encode())
    assert not is_genuine(got.headers, got.content + b" ", KEY.encode())
    assert not is_genuine(got.headers | {"Aegis-Timestamp": str(before - 301)}, got.content, KEY.encode())
    assert not is_genuine(got.headers, got.content, b"another key of sixteen")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (receivers.page, None),
        (receivers.endless, None),
        (receivers.status(202), None),
        (receivers.status(301), "RefusedError: it answers with status 301"),
        (receivers.status(401), "RefusedError: it answers with status 401"),
        (receivers.status(422), "RefusedError: it answers with status 422"),
        (receivers.status(429), "UnreachedError: it answers with status 429"),
        (receivers.status(500), "UnreachedError: it answers with status 500"),
        (receivers.hang, "UnreachedError: no answer within 1 s"),
        (receivers.drip, "UnreachedError: no answer within 1 s"),
        (receivers.reset, "UnreachedError: no good answer ("),
        (receivers.no_http, "UnreachedError: no good answer ("),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_a_webhook_took_it_where_its_status_says_so_whatever_else_it_says_or_does(answer: Answer, problem: str | None) -> None:
    found, hook = to_hook(answer)

    assert (found is None) if problem is None else (found or "").startswith(problem)
    assert len(hook.got) == 1


def test_a_webhook_that_is_not_there() -> None:
    assert asyncio.run(sent(webhook("http://127.0.0.1:1/hook"))) == "UnreachedError: no good answer (ConnectError)"


def test_mail_arrives_as_people_read_it() -> None:
    async def scenario() -> Post:
        async with Post() as post:
            assert await sent(ServiceSender(post.url, 60)) is None
        return post

    (mail,) = asyncio.run(scenario()).got

    text = b"".join(part.get_payload(decode=True) for part in mail.walk() if not part.is_multipart()).decode()  # type: ignore[misc]  # bytes
    assert mail["Subject"] == "Aegis: block, 1 payment of card card-1"
    assert (mail["From"], mail["To"]) == ("aegis@example.com", "desk@example.com")
    assert "3 small amounts in 10 minutes" in text
    assert ALERT.id in text


def test_mail_that_the_server_does_not_want_is_not_taken_for_delivered() -> None:
    async def scenario() -> str | None:
        async with Post() as post:
            post.answer = "451 try again later"
            return await sent(ServiceSender(post.url, 60))

    assert asyncio.run(scenario()) == "UnreachedError: apprise could not deliver it"


def test_mail_that_hangs_is_left_behind_and_only_so_many_threads_with_it() -> None:
    async def scenario() -> tuple[list[str | None], str | None, str | None]:
        async with Post() as post:
            post.hangs = True
            sender = ServiceSender(post.url, SECONDS)
            hung = await asyncio.gather(*(sent(sender) for _ in range(MOST_THREADS)))
            one_more = await sent(sender)
            post.hangs = False
        await until(lambda: sender._threads == 0)  # the server closed what hung
        async with Post() as post:
            sender._address, sender._seconds = post.url, 60
            return hung, one_more, await sent(sender)

    hung, one_more, after = asyncio.run(scenario())

    assert hung == ["UnreachedError: not done within 1 s"] * MOST_THREADS
    assert one_more == f"UnreachedError: {MOST_THREADS} attempts before are still not over"
    assert after is None


def test_a_trial_says_of_each_destination_whether_it_took_the_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"

    def aegis(*arguments: str) -> Result:
        settings.cache_clear()
        return CliRunner().invoke(main, arguments, env={"AEGIS_ALERTS": str(file)})

    async def scenario() -> tuple[Result, Result, Hook, Post]:
        async with Hook() as hook, Post() as post:
            monkeypatch.setenv("DESK_URL", post.url)
            patient = SOME.replace("kind =", "timeout_seconds = 60\nkind =")
            file.write_text(patient.replace("http://127.0.0.1:9/hook", hook.url))
            both = await asyncio.to_thread(aegis, "alerts", "test", "--json")
            hook.answer = receivers.status(401)
            return both, await asyncio.to_thread(aegis, "alerts", "test", "cases"), hook, post

    both, refused, hook, post = asyncio.run(scenario())
    settings.cache_clear()

    assert both.exit_code == 0, both.output
    assert [json.loads(line)["taken"] for line in both.stdout.splitlines()] == [True, True]
    assert hook.got[0].said["test"] is True
    assert post.got[0]["Subject"] == "[test] Aegis: review, 1 payment of card test"
    assert (refused.exit_code, refused.stdout) == (1, "cases: it answers with status 401\n")
    assert refused.stderr == "aegis: 1 destination did not take the message\n"
