"""Is this worker alive, and is it working? And the watch behind the answer, which asks Kafka itself."""

import asyncio
import shutil
from time import monotonic, time
from typing import Any, Final

from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from aegis_app import metrics
from aegis_app.application import app, broadcasts, device_risk, in_force, lists, merchant_risk, rates, settings, shelf, transactions
from aegis_app.core.lists import ListName
from aegis_app.logs import log
from aegis_app.policies import silence
from aegis_app.version import VERSION
from aegis_app.web.pages import Answer, page

LOOK_SECONDS: Final = 2.0
ANNOUNCE_SECONDS: Final = 0.25
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
        self.caught_up: dict[TP, float] = {}
        """When each partition was last seen with nothing waiting, in seconds since 1970: what waits now came later."""
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
            metrics.KAFKA.set(0)
            metrics.LAG.clear()
            metrics.BEHIND.clear()
            return
        metrics.KAFKA.set(1)
        metrics.LAG.clear()
        metrics.BEHIND.clear()
        self.caught_up = {tp: at for tp, at in self.caught_up.items() if tp in lag} | {tp: time() for tp in lag if not lag[tp]}
        for tp, waiting in lag.items():
            labels = tp.topic, str(tp.partition)
            metrics.LAG.labels(*labels).set(waiting)
            behind = self._behind(tp) if waiting else 0.0
            if behind is not None:
                metrics.BEHIND.labels(*labels).set(behind)
        metrics.OWNED.set(len(partitions()))
        metrics.LATCHED.set(app.holdings.latched is not None)
        self.lag = sum(lag.values())
        if not app.rebalancing:
            self.moving_since = monotonic()
        for each in app.holdings:
            waiting = sum(number for tp, number in lag.items() if tp.topic in each.sources)
            resting = waiting == 0 or each.latched is not None or app.in_recovery
            if resting and not (app.rebalancing and monotonic() - self.moving_since > STUCK_SECONDS):
                self.idle_since[each.memory.name] = monotonic()

    def _behind(self, tp: TP) -> float | None:
        owners = app.holdings.reading(tp.topic)
        owner = None if owners is None else owners.holding(tp.partition)
        written = None if owner is None else owner.settled_record.get(tp.topic)
        since = [at for at in (None if written is None else written / 1000, self.caught_up.get(tp)) if at is not None]
        return max(0.0, time() - max(since)) if since else None

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


@app.task  # type: ignore[untyped-decorator]  # Faust's
async def announcing() -> None:
    """Say in the log each time that payments are decided here from now on, and where to look; and that a policy asks for nothing."""
    was_ready, told = False, None
    while not app.should_stop:
        now, is_ready = in_force(), not waits_for()
        sentence = silence(now.policy, f"policy {now.version} of {now.origin}", bundle=shelf.serving is not None)
        if sentence is not None and sentence != told:
            log.warning("%s", sentence)
        if is_ready and not was_ready:
            which = ", ".join(map(str, partitions()))
            does = f"decides payments of partitions {which}" if which else "stands by, other workers have all partitions"
            by = f"policy {now.version} ({now.policy.mode}) of {now.origin}"
            log.info("Ready: %s; %s; views at http://%s:%d", does, by, settings.web_host, settings.web_port)
        was_ready, told = is_ready, sentence
        await asyncio.sleep(ANNOUNCE_SECONDS)


@page("/health", guarded=False)
async def health(request: Any) -> Answer:
    """503 when the consumer is stuck with work to do: restart this worker. Not when Kafka is away: that would not help."""
    stuck = watch.stuck_for()
    if watch.lag is not None and stuck > STUCK_SECONDS:
        return 503, {"status": "stuck", "seconds": round(stuck), "waiting": watch.lag}
    return 200, {"status": "ok" if watch.lag is not None else "waiting for Kafka", "waiting": watch.lag}


@page("/ready", guarded=False)
async def ready(request: Any) -> Answer:
    """200 while payments are decided here, or would be were there a partition to spare; else 503 with what is waited for."""
    waits = waits_for()
    behind = [
        f"{broadcast.name} are those of {broadcast.age:.0f} s ago: Kafka does not answer"
        for broadcast in broadcasts
        if broadcast.age > BEHIND_SECONDS
    ]
    behind += [] if shelf.refused is None else [f"{shelf.refused}; {_serving()} serves on"]
    answer = {"ready": not waits, "waits_for": waits, "partitions": partitions()} | ({"behind": behind} if behind else {})
    return 503 if waits else 200, answer


def waits_for() -> list[str]:
    """Why no payments are decided here, one sentence each; empty while they are."""
    waits = []
    if app.holdings.latched is not None:
        waits.append(app.holdings.latched)
    if app.rebalancing or not app.holdings.are_assigned:
        waits.append("partitions are being assigned")
    if app.in_recovery:
        waits.append(f"memory is read back: {to_recover()} records to go")
    elif not app.tables.actives_ready:
        waits.append("memory is not there yet")
    return waits


def _serving() -> str:
    return "no bundle" if shelf.serving is None else f"bundle {shelf.serving.version}"


def partitions() -> list[int]:
    """Those of payments that this worker was given; none where more workers run than there are partitions."""
    try:
        return sorted(tp.partition for tp in app.consumer.assignment() if tp.topic == transactions)
    except ConsumerNotStarted:  # the views are there before it is
        return []


def to_recover() -> int:
    """Records of changelogs still to be read back."""
    recovery: Any = app.tables.recovery  # type: ignore[attr-defined]  # absent from Faust's interface
    return int(recovery.active_remaining_total()) if app.in_recovery else 0


@page("/metrics")
async def exported(request: Any) -> Answer:
    """Every series, for Prometheus; docs/metrics.md says what they mean."""
    policy = in_force().policy
    metrics.POLICY.clear()
    metrics.POLICY.labels(policy.version, policy.mode).set(1)
    metrics.show_bundle(shelf.serving, is_refused=shelf.refused is not None)
    metrics.WORKER.labels(VERSION, settings.base_currency, rates.version or "").set(1)
    for broadcast in broadcasts:
        metrics.BROADCAST_AGE.labels(broadcast.name).set(broadcast.age)
    for name in ListName:
        metrics.LISTED.labels(name).set(sum(number for (at, _), number in lists.held.lists.counts.items() if at is name))
    for risks in (merchant_risk, device_risk):
        metrics.RISKS.labels(risks.name).set(len(risks.held.packed))
    metrics.PARTITIONS.set(app.partitions)
    metrics.READY.set(not waits_for())
    metrics.IDLE.set(watch.stuck_for())
    metrics.RECOVERY.set(to_recover())
    for each in app.holdings:
        keys, stored = each.memory.data.size()
        metrics.KEYS.labels(each.memory.name).set(keys)
        metrics.BYTES.labels(each.memory.name).set(stored)
    disk = shutil.disk_usage(settings.datadir)
    metrics.DISK.set(disk.total)
    metrics.DISK_FREE.set(disk.free)
    return 200, metrics.exported()
