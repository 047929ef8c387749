"""A value of a table, from whichever worker holds it."""

from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote

import aiohttp
from faust.types import TP
from yarl import URL

from aegis_app.application import app, settings
from aegis_app.stream.memory import Memory
from aegis_app.topics import home
from aegis_app.web.pages import Answer

HOP: Final = "X-Aegis-Hop"
PROXY_SECONDS: Final = 2.0

V = TypeVar("V")


async def remembered(request: Any, memory: Memory[V], key: str, readable: Callable[[str, V], Any], nothing: str) -> Answer:
    """What `memory` holds under `key`, `readable`; 404 for `nothing`, 503 while it is changing hands."""
    partition = home(key.encode(), app.partitions)
    changelog = TP(memory.changelog_topic.get_topic_name(), partition)
    if app.rebalancing or app.in_recovery or not app.tables.actives_ready:
        return 503, {"error": "memory is being taken over; try again"}
    if changelog in app.assignor.assigned_actives() and memory.data.holds(partition):
        value = memory.read(partition, key)
        return (404, {"error": nothing}) if value is None else (200, readable(key, value))
    assignor: Any = app.assignor
    url = assignor._tps_url.get(changelog)
    if url is None or HOP in request.headers:
        return 503, {"error": f"partition {partition} is changing hands; try again"}
    return await _ask(f"{str(url).rstrip('/')}/{memory.name}/{quote(key, safe='')}")


async def _ask(url: str) -> Answer:
    headers = {HOP: "1"} | ({"Authorization": f"Bearer {settings.web_token}"} if settings.web_token else {})
    timeout = aiohttp.ClientTimeout(total=PROXY_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(URL(url, encoded=True), headers=headers) as answer,
        ):
            return answer.status, await answer.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        return 503, {"error": f"the worker that holds it does not answer: {type(error).__name__}"}
