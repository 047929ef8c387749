"""The process of `aegis alerts run`: decisions in, messages out, what waits on Kafka in between."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from aegis_app.admin import partition_count
from aegis_app.broadcast import Broadcast
from aegis_app.deployment import check_base_currency
from aegis_app.settings import Settings
from aegis_app.sinks.alerts import snoozes
from aegis_app.sinks.alerts.delivery import Delivery
from aegis_app.sinks.alerts.raising import Raising
from aegis_app.sinks.alerts.routes import Routes, RoutesError
from aegis_app.sinks.alerts.sending import senders
from aegis_app.sinks.alerts.snoozes import Of, Snoozes
from aegis_app.sinks.alerts.waiting import Waiting
from aegis_app.sinks.reading import Reader
from aegis_app.sinks.running import serve
from aegis_app.stream.outbox import Outbox
from aegis_app.topics import Name, full_name


async def run(settings: Settings, routes: Routes, port: int) -> None:
    """Tell people of decisions until SIGTERM or SIGINT. Raises `RoutesError`, and what `serve` and Kafka's clients raise."""
    ready = senders(routes)
    await _check(settings)
    await _begin(settings)
    snoozed = Broadcast(settings, Name.ALERTS_SNOOZED, lambda: Snoozes(token=settings.card_id_is_token))
    waiting = Broadcast(settings, Name.ALERTS, lambda: Waiting(lambda: delivery.news.set()))
    outbox = Outbox(settings.connection())
    reader = Reader(settings, Raising(settings, routes, lambda: snoozed.held, outbox), [Name.DECISIONS])
    delivery = Delivery(settings, routes, ready, lambda: waiting.held, outbox, lambda: reader.partitions)
    async with outbox:
        await snoozed.load()
        await waiting.load()
        try:
            await _together(serve(settings, reader, port), snoozed.follow(), waiting.follow(), delivery.run())
        finally:
            await snoozed.stop()
            await waiting.stop()
            await asyncio.gather(*(each.close() for each in ready.values()))


async def _together(serving: Coroutine[Any, Any, None], *others: Coroutine[Any, Any, None]) -> None:
    """Until `serving` returns, or anything raises."""
    tasks = [asyncio.create_task(work) for work in (serving, *others)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _check(settings: Settings) -> None:
    """What is to be told of the cards of a partition stands in the partition of the same number, with the same owner.

    And routes compare amounts in the base currency.
    """
    decisions, alerts = (full_name(name, settings) for name in (Name.DECISIONS, Name.ALERTS))
    if await partition_count(settings, decisions) != await partition_count(settings, alerts):
        raise RoutesError(f"{decisions} and {alerts} have different numbers of partitions: see `aegis topics check`")
    await check_base_currency(settings)


async def _begin(settings: Settings) -> None:
    """Of decisions made before alerts ran for the first time, nobody is told."""
    if any(each.of is Of.ALL for each in await snoozes.read(settings)):
        return
    now = datetime.now(UTC)
    await snoozes.publish(settings, snoozes.make(Of.ALL, "", timedelta(0), reason="alerts begin", by="aegis alerts run", at=now))
