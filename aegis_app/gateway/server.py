"""The gateway's process."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from fastapi import FastAPI

from aegis_app import logs
from aegis_app.access import learn_patience
from aegis_app.admin import partition_count
from aegis_app.deployment import check_base_currency
from aegis_app.gateway import docs, metrics, problems, schema
from aegis_app.gateway.desk import Desk
from aegis_app.gateway.guard import Edge
from aegis_app.gateway.patience import Protocol
from aegis_app.gateway.routes import about, payments, records
from aegis_app.keys import read as read_keys
from aegis_app.settings import Settings
from aegis_app.topics import Name, full_name
from aegis_app.version import VERSION

log = logging.getLogger("aegis")

STOP_SECONDS: Final = 15
"""For requests under way."""
IDLE_SECONDS: Final = 30
"""After which a connection without a request is closed."""


class PortError(RuntimeError):
    """The port is somebody else's; the message says what to do."""


class _Server(uvicorn.Server):
    """Says when it serves; a signal ends it in order, and is not sent again."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.config.host, self.config.port
        log.info("the gateway serves on http://%s:%d, /docs", f"[{host}]" if ":" in host else host, port)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def application(desk: Desk) -> FastAPI:
    """The routes, to which `desk` is at hand while the application runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await desk.start()
        # What is there now stays, and what comes is short-lived: to look through all of it takes 0.1 s, in which nobody is answered.
        gc.freeze()
        gc.set_threshold(100_000, 20, 50)
        try:
            yield
        finally:
            await desk.stop()

    app = FastAPI(
        title="Aegis",
        version=VERSION,
        summary="Payments in, decisions out.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_tags=[{"name": name} for name in ("payments", "ledger", "labels", "about", "compatibility")],
    )
    app.state.desk = desk
    for path, endpoint in payments.PLAIN.items():
        app.add_route(path, endpoint, methods=["POST"], include_in_schema=False)
    for router in (payments.router, records.router, about.router):
        app.include_router(router)
    problems.install(app)
    schema.install(app)
    docs.install(app)
    app.add_middleware(Edge, plain=frozenset(payments.PLAIN))
    return app


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises `PortError`, `SettingsError`, `PolicyError`, `KeysError`, `MissingTopicError`, and what aiokafka raises.
    """
    logs.begin(settings.log)
    learn_patience()
    metrics.begin()
    _check_port(settings.gateway_host, settings.gateway_port)
    if not read_keys(settings.keys):
        log.warning("%s holds no keys, so every request is refused: make one with `aegis keys create`", settings.keys)
    app = application(Desk(settings))
    asyncio.run(_check_deployment(settings))  # a Kafka that is away is one line, here
    config = uvicorn.Config(
        app,
        host=settings.gateway_host,
        port=settings.gateway_port,
        log_config=None,
        log_level="warning",
        access_log=False,  # a path may hold what is none of a log's business
        server_header=False,
        http=Protocol,
        lifespan="on",
        backlog=4096,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = _Server(config)
    server.run()
    if not server.started:
        sys.exit(1)
    log.info("the gateway has stopped")


async def _check_deployment(settings: Settings) -> None:
    await partition_count(settings, full_name(Name.TRANSACTIONS, settings))
    await check_base_currency(settings)


def _check_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise PortError(f"the gateway cannot listen on {host}, port {port} ({why}): set AEGIS_GATEWAY_PORT to a free one") from error
