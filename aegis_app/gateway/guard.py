"""Who may do what, how much of it, and how large: before anything else is looked at."""

import asyncio
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final

from fastapi import Request
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from aegis_app.gateway import docs, metrics
from aegis_app.gateway.problems import Problem
from aegis_app.gateway.unknown import known_query
from aegis_app.keys import Key, Keyring, Scope, bears
from aegis_app.settings import Settings, is_loopback

BODY_SECONDS: Final = 10.0
"""For a request's body to arrive."""
LARGEST_BODY: Final = 64 * 1024
LARGEST_BATCH: Final = 8 * 1024 * 1024
MOST_HEADERS: Final = 16 * 1024
"""Bytes."""
HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"strict-transport-security", b"max-age=31536000"),
)
STRICT: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


class Guard:
    """Keys, with what each may do and how often."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = Keyring(settings.keys)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())  # the one without asyncio starts a thread every 10 ms
        self._limits: dict[int, RateLimitItemPerSecond] = {}

    def admit(self, request: Request, *scopes: Scope) -> Key:
        """The key that the request came with, good for one of `scopes`. Raises `Problem` (401, 403)."""
        kind, _, presented = request.headers.get("authorization", "").partition(" ")
        key = self._keys.find(presented.strip()) if kind.lower() == "bearer" else None
        if key is None:
            raise Problem(401, "send `Authorization: Bearer` with a key of `aegis keys create`", WWW_Authenticate="Bearer")
        if not set(scopes) & set(key.scopes):
            raise Problem(403, f"this key lacks the scope {' or '.join(scopes)}; it has {', '.join(key.scopes)}")
        return key

    async def charge(self, key: Key, number: int) -> None:
        """Count payments, or requests of another kind, against what `key` may within a second. Raises `Problem` (429)."""
        limit = self._limits.setdefault(key.per_second, RateLimitItemPerSecond(key.per_second))
        if number < 1:
            return
        if number > key.per_second:
            raise Problem(
                429, f"this key may {key.per_second} a second, and this is {number} at once: send smaller batches", Retry_After="1"
            )
        if not await self._limiter.hit(limit, key.id, cost=number):
            raise Problem(429, f"this key may {key.per_second} a second; try again in a second", Retry_After="1")

    def may_scrape(self, request: Request) -> None:
        """Whether /metrics may be read: with `AEGIS_WEB_TOKEN`, or without where only this machine asks. Raises `Problem` (401)."""
        token = self._settings.web_token
        if token is None and is_loopback(self._settings.gateway_host):
            return
        if token is None or not bears(request.headers.get("authorization"), token):
            raise Problem(401, "this wants `Authorization: Bearer` with AEGIS_WEB_TOKEN", WWW_Authenticate="Bearer")


def admitted(*scopes: Scope) -> Callable[[Request], Awaitable[Key]]:
    """What a route depends on that wants a key of one of `scopes`. Each request is charged as one, and has known parameters alone."""

    async def admit(request: Request) -> Key:
        guard: Guard = request.app.state.desk.guard
        key = guard.admit(request, *scopes)
        await guard.charge(key, 1)
        known_query(request)
        return key

    return admit


async def body(request: Request, most: int = LARGEST_BODY) -> bytes:
    """The request's body, without a byte order mark. Raises `Problem` (408, 413)."""
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > most:
        raise _too_large(most)
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise _too_large(most)
                parts.append(part)
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {BODY_SECONDS:.0f} s", Connection="close") from None
    return b"".join(parts).removeprefix(BOM_UTF8)


def _too_large(most: int) -> Problem:
    return Problem(413, f"a body here holds at most {most:,} bytes", Connection="close")


class Edge:
    """Around every request: limits of headers, security headers, metrics. `plain`: paths of routes that are none of FastAPI's."""

    def __init__(self, app: ASGIApp, plain: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._plain = plain

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = perf_counter(), 500
        more = (*HEADERS, docs.POLICY if scope["path"] == "/docs" else STRICT)

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        size = sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope["query_string"])
        try:
            if size > MOST_HEADERS:
                await Problem(413, f"headers and query hold at most {MOST_HEADERS:,} bytes").response()(scope, receive, sending)
            else:
                await self._app(scope, receive, sending)
        finally:
            self._count(scope, status, perf_counter() - begun)

    def _count(self, scope: Connection, status: int, seconds: float) -> None:
        route = scope["path"] if scope["path"] in self._plain else getattr(scope.get("route"), "path", "none")
        metrics.REQUESTS.labels(route, str(status)).inc()
        metrics.REQUEST_SECONDS.labels(route).observe(seconds)
