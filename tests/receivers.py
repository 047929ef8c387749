"""Servers that alerts are sent to: real ones on this machine, that take them, fail, hang and lie."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from email import message_from_bytes
from email.message import Message
from typing import Any, NamedTuple, Self

import msgspec
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
FOREVER = 3600.0


class Got(NamedTuple):
    """A request."""

    headers: dict[str, str]
    content: bytes

    @property
    def said(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.content)
        return found


class Hook:
    """A server for webhooks on a free port. `answer` says how it behaves; change it at any time."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.taken: list[Got] = []
        """Those answered with success."""
        self.answer: Answer = take

    async def __aenter__(self) -> Self:
        views = web.Application()
        views.router.add_post("/hook", self._serve)
        self._runner = web.AppRunner(views, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        got = Got(dict(request.headers), await request.read())
        self.got.append(got)
        answer = await self.answer(request)
        if 200 <= answer.status < 300:
            self.taken.append(got)
        return answer


async def take(request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


async def page(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>Sorry, something went wrong.</html>", content_type="text/html")


def status(number: int) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=number, headers={"Location": "/elsewhere"})

    return answer


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(FOREVER)
    raise AssertionError


async def drip(request: web.Request) -> web.StreamResponse:
    """An answer a byte at a time: each in time, the whole never."""
    assert request.transport is not None
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 100_000:
        request.transport.write(bytes([byte]))
        await asyncio.sleep(0.1)
    raise AssertionError


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    sock = request.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    await asyncio.sleep(FOREVER)
    raise AssertionError


async def no_http(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"\x00\x01 200 OK, or so it says\r\n\r\n")
    request.transport.close()
    await asyncio.sleep(FOREVER)
    raise AssertionError


async def endless(request: web.Request) -> web.StreamResponse:
    """Taken, and then it talks without end."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b"x" * 65_536)


class Post:
    """A server for mail on a free port. `answer` is what it says once it has the whole message."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.answer = "250 OK"
        self.hangs = False
        self._connections: list[SMTP] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.hangs:
            await asyncio.sleep(FOREVER)
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.got.append(message_from_bytes(envelope.content))
        return self.answer

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()

        def connected() -> SMTP:
            self._connections.append(SMTP(self, hostname="127.0.0.1", loop=loop))
            return self._connections[-1]

        self._server = await loop.create_server(connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            if isinstance(connection.transport, asyncio.WriteTransport):
                connection.transport.abort()

    @property
    def url(self) -> str:
        """As apprise takes it."""
        port = self._server.sockets[0].getsockname()[1]
        return f"mailto://127.0.0.1:{port}?from=aegis@example.com&to=desk@example.com"


async def until(is_so: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for a condition. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110  # what changes is no event of ours
            await asyncio.sleep(0.05)
