"""Is this worker alive, and is it working? And the watch behind the answer, which asks Kafka itself."""

import asyncio
from time import monotonic
from typing import Any, Final

from aiokafka.errors import KafkaError
from prometheus_client import generate_latest

from aegis_app import metrics
from aegis_app.application import app, broadcasts, in_force
from aegis_app.web.pages import Answer, page
from tables.cards import owners

LOOK_SECONDS: Final = 2.0
STUCK_SECONDS: Final = 45.0
"""Work waiting and none settled for this long is a stuck consumer."""
BEHIND_SECONDS: Final = 10.0
"""Age from which `/ready` says what is held may be old. No reason to be taken out: no other worker knows better."""


class Watch:
    """What the last look at Kafka showed."""

    def __init__(self) -> None:
        self.lag: int | None = None
        """Records waiting for this worker; `None` while Kafka does not answer."""
        self.idle_since: dict[str, float] = {}
        """When each table's owners last had nothing to do, as far as known."""
        self.begun = monotonic()
        self.moving_since = monotonic()
        """When partitions last stopped changing hands."""

    async def look(self) -> None:
        """Measure the lag, for the metrics and for `stuck_for`."""
        try:
            async with asyncio.timeout(10):
                lag = await app.lag()
        except (KafkaError, OSError, TimeoutError):
            self.lag, self.begun, self.idle_since = None, monotonic(), {}
            return
        metrics.LAG.clear()
        for tp, waiting in lag.items():
            metrics.LAG.labels(tp.topic, str(tp.partition)).set(waiting)
        metrics.OWNED.set(len(list(owners)))
        metrics.LATCHED.set(app.holdings.latched is not None)
        self.lag = sum(lag.values())
        if not app.rebalancing:
            self.moving_since = monotonic()
        for each in app.holdings:
            waiting = sum(number for tp, number in lag.items() if tp.topic in each.sources)
            resting = waiting == 0 or each.latched is not None or app.in_recovery
            if resting and not (app.rebalancing and monotonic() - self.moving_since > STUCK_SECONDS):
                self.idle_since[each.memory.name] = monotonic()

    def stuck_for(self) -> float:
        """Seconds in which the owners of some table had work to do, and settled none."""
        since = (max(self.idle_since.get(each.memory.name, self.begun), each.last_settled) for each in app.holdings)
        return monotonic() - min(since)


watch = Watch()


@app.task  # type: ignore[untyped-decorator]  # Faust's
async def watching() -> None:
    while not app.should_stop:
        await watch.look()
        await asyncio.sleep(LOOK_SECONDS)


@page("/health", guarded=False)
async def health(request: Any) -> Answer:
    """503 when the consumer is stuck with work to do: restart this worker. Not when Kafka is away: that would not help."""
    stuck = watch.stuck_for()
    if stuck > STUCK_SECONDS:
        return 503, {"status": "stuck", "seconds": round(stuck), "waiting": watch.lag}
    return 200, {"status": "ok" if watch.lag is not None else "waiting for Kafka", "waiting": watch.lag}


@page("/ready", guarded=False)
async def ready(request: Any) -> Answer:
    """200 while payments are decided here; else 503 with what is waited for."""
    waits = []
    recovery: Any = app.tables.recovery  # type: ignore[attr-defined]  # absent from Faust's interface
    if app.holdings.latched is not None:
        waits.append(app.holdings.latched)
    if app.rebalancing or not app.consumer.assignment():
        waits.append("partitions are being assigned")
    if app.in_recovery:
        waits.append(f"memory is read back: {recovery.active_remaining_total()} records to go")
    elif not app.tables.actives_ready:
        waits.append("memory is not there yet")
    behind = [
        f"{broadcast.name} are those of {broadcast.age:.0f} s ago: Kafka does not answer"
        for broadcast in broadcasts
        if broadcast.age > BEHIND_SECONDS
    ]
    answer = {"ready": not waits, "waits_for": waits} | ({"behind": behind} if behind else {})
    return 503 if waits else 200, answer


@page("/metrics")
async def exported(request: Any) -> Answer:
    policy = in_force().policy
    metrics.POLICY.clear()
    metrics.POLICY.labels(policy.version, policy.mode).set(1)
    for broadcast in broadcasts:
        metrics.BROADCAST_AGE.labels(broadcast.name).set(broadcast.age)
    return 200, generate_latest()
