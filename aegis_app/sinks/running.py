"""A sink's process: its reader, what Prometheus and a supervisor ask of it, and an orderly end."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import disable_created_metrics

from aegis_app import metrics
from aegis_app.access import learn_patience
from aegis_app.keys import bears
from aegis_app.settings import Settings
from aegis_app.sinks.reading import Reader

log = logging.getLogger("aegis")

STUCK_SECONDS: Final = 60.0
"""Records waiting, a sink that answers, and none taken for this long: the reader is stuck."""


class PortError(RuntimeError):
    """The port is somebody else's; the message says what to do."""


async def serve(settings: Settings, reader: Reader, port: int) -> None:
    """Run `reader` until SIGTERM or SIGINT, with its views on `port`. Raises `PortError`, and what the reader raises."""
    learn_patience()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client's
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, reader.stop)
    async with _views(settings, reader, port):
        log.info(
            "%s reads %s from %s; http://%s:%d/health and /metrics",
            reader.name,
            ", ".join(reader.topics),
            settings.broker,
            settings.web_host,
            port,
        )
        await reader.run()
    log.info("%s has stopped", reader.name)


@asynccontextmanager
async def _views(settings: Settings, reader: Reader, port: int) -> AsyncIterator[None]:
    async def health(request: web.Request) -> web.Response:
        stuck = 0.0 if reader.away is not None else monotonic() - reader.moved_at
        status = "stuck" if stuck > STUCK_SECONDS else reader.away or ("ok" if reader.lag is not None else "waiting for Kafka")
        body = msgspec.json.encode({"status": status, "waiting": reader.lag})
        return web.Response(body=body, content_type="application/json", status=503 if status == "stuck" else 200)

    async def exported(request: web.Request) -> web.Response:
        if settings.web_token is not None and not bears(request.headers.get("Authorization"), settings.web_token):
            return web.json_response({"error": "this view wants `Authorization: Bearer` with AEGIS_WEB_TOKEN"}, status=401)
        return web.Response(body=metrics.exported(beside=True), content_type="text/plain")

    views = web.Application()
    views.router.add_get("/health", health)
    views.router.add_get("/metrics", exported)
    runner = web.AppRunner(views, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.web_host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise PortError(f"port {port} on {settings.web_host} cannot be used ({error.strerror}): choose another with --port") from error
    try:
        yield
    finally:
        await runner.cleanup()
