"""A message to each destination, to see whether it arrives."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

from aegis_app.core.decision import Reason
from aegis_app.core.payment import Outcome
from aegis_app.sinks.alerts.message import Message, Raised, Told, message
from aegis_app.sinks.alerts.routes import Routes
from aegis_app.sinks.alerts.sending import RefusedError, Sender, UnreachedError, senders


async def trial(routes: Routes, names: Iterable[str]) -> dict[str, str | None]:
    """What is wrong with each of these destinations; `None` where it took the message. Raises `RoutesError`."""
    ready = senders(routes)
    try:
        names = list(names)
        found = await asyncio.gather(*(_try(ready[name], _example(name, routes)) for name in names))
        return dict(zip(names, found, strict=True))
    finally:
        await asyncio.gather(*(each.close() for each in ready.values()))


async def _try(sender: Sender, alert: Message) -> str | None:
    try:
        await sender.send(alert)
    except (UnreachedError, RefusedError) as error:
        return str(error)
    return None


def _example(destination: str, routes: Routes) -> Message:
    now = datetime.now(UTC)
    told = Told(
        transaction_id="test",
        card_id="test",
        timestamp=now,
        amount_minor=0,
        currency=routes.base,
        outcome=Outcome.ALLOW,
        verdict=Outcome.REVIEW,
        score=0.5,
        reasons=[Reason("test", "somebody tries whether alerts arrive")],
        decided_at=now,
    )
    names = [name for name, route in routes.routes.items() if destination in route.to]
    return message([Raised(destination=destination, routes=names, since=now, decision=told)], test=True)
