"""How a message leaves: to a webhook as signed JSON, to any other service as text."""

import asyncio
import hmac
import threading
from collections.abc import Callable
from time import time
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

import apprise
import httpx

from aegis_app.sinks.alerts.message import Message, body, encode_message, title
from aegis_app.sinks.alerts.routes import Routes, RoutesError, Service, Webhook
from aegis_app.version import VERSION

T = TypeVar("T")
CONCURRENT: Final = {Webhook: 8, Service: 2}
"""Messages to one destination at the same time."""
MOST_THREADS: Final = 8
"""Of one service, those that outlived their time limit among them; with so many, no other is started."""
AGAIN_LATER: Final = (408, 425, 429)
"""Of the answers below 500, those that say nothing against the message."""


class UnreachedError(Exception):
    """Nobody there, no good answer in time, or one that says: later. Worth another attempt."""


class RefusedError(Exception):
    """The destination answers, and does not take this message as it is."""


class Sender(Protocol):
    """A destination, ready to be sent to."""

    concurrent: int

    async def send(self, alert: Message) -> None:
        """Return once it is taken. Raises `UnreachedError`, `RefusedError`, with nothing secret in them."""

    async def close(self) -> None: ...


def senders(routes: Routes) -> dict[str, Sender]:
    """Of every destination. Raises `RoutesError` for an address that apprise does not know."""
    return {name: WebhookSender(each) if isinstance(each, Webhook) else _service(name, each) for name, each in routes.destinations.items()}


class WebhookSender:
    """POST, signed anew at each attempt."""

    concurrent = CONCURRENT[Webhook]

    def __init__(self, webhook: Webhook) -> None:
        self._url = webhook.address()
        self._key = webhook.key()
        self._seconds = webhook.timeout_seconds
        self._client = httpx.AsyncClient(timeout=webhook.timeout_seconds, follow_redirects=False)

    async def send(self, alert: Message) -> None:
        content, at = encode_message(alert), str(int(time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"aegis/{VERSION}",
            "Idempotency-Key": alert.id,
            "Aegis-Timestamp": at,
            "Aegis-Signature": f"v1={signature(self._key, at, content)}",
        }
        try:
            # The answer's body is not read: whatever it says, and however long it is, the status alone counts.
            async with asyncio.timeout(self._seconds), self._client.stream("POST", self._url, content=content, headers=headers) as answer:
                status = answer.status_code
        except TimeoutError:
            raise UnreachedError(f"no answer within {self._seconds:g} s") from None
        except httpx.HTTPError as error:
            raise UnreachedError(f"no good answer ({type(error).__name__})") from None
        if status >= 500 or status in AGAIN_LATER:
            raise UnreachedError(f"it answers with status {status}")
        if not 200 <= status < 300:
            raise RefusedError(f"it answers with status {status}")

    async def close(self) -> None:
        await self._client.aclose()


def signature(key: bytes, at: str, content: bytes) -> str:
    """HMAC-SHA256 over time and content, in hexadecimal: what is sent again later than a receiver allows can be told by it."""
    return hmac.new(key, at.encode() + b"." + content, "sha256").hexdigest()


def _service(name: str, service: Service) -> "ServiceSender":
    address = service.address()
    if apprise.Apprise.instantiate(address, suppress_exceptions=True) is None:
        where = service.url_env or "url"
        raise RoutesError(f"destinations.{name}: apprise cannot make anything of {where} ({urlsplit(address).scheme}://…)")
    return ServiceSender(address, service.timeout_seconds)


class ServiceSender:
    """Apprise, which may block for as long as it likes: in a thread of its own that is left behind when its time is over."""

    concurrent = CONCURRENT[Service]

    def __init__(self, address: str, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._threads = 0

    async def send(self, alert: Message) -> None:
        if self._threads >= MOST_THREADS:
            raise UnreachedError(f"{self._threads} attempts before are still not over")
        self._threads += 1
        try:
            async with asyncio.timeout(self._seconds):
                taken = await in_thread(lambda: self._send(title(alert), body(alert)), self._over)
        except TimeoutError:
            raise UnreachedError(f"not done within {self._seconds:g} s") from None
        if not taken:
            raise UnreachedError("apprise could not deliver it")

    def _send(self, subject: str, text: str) -> bool:
        service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Aegis", app_desc="Aegis", app_url=""))
        return service.add(self._address) and bool(service.notify(text, subject, body_format=apprise.NotifyFormat.TEXT))

    def _over(self) -> None:
        self._threads -= 1

    async def close(self) -> None: ...


def in_thread(work: Callable[[], T], over: Callable[[], None]) -> asyncio.Future[T]:
    """Run `work` in a thread that nobody has to wait for, not even the end of the process; `over` is called in the loop once it ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(found: T | None, error: BaseException | None) -> None:
        over()
        if future.done():
            return
        if error is None:
            future.set_result(found)  # type: ignore[arg-type]  # what `work` gave
        else:
            future.set_exception(error)

    def run() -> None:
        found, error = None, None
        try:
            found = work()
        except BaseException as raised:  # whatever it is, it belongs to whoever waits
            error = raised
        try:
            loop.call_soon_threadsafe(settle, found, error)
        except RuntimeError:  # the loop is closed: the process ends
            return

    threading.Thread(target=run, daemon=True).start()
    return future
