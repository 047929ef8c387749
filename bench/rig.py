"""A broker, a prefilled topic, and workers that read it from the start: what the measurements share."""

import asyncio
import os
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from aegis_app import admin
from aegis_app.core.card import BLANK, Settled, encode_card, learn
from aegis_app.core.case import case
from aegis_app.core.merchant import fold
from aegis_app.core.merchant_events import Events, Paid
from aegis_app.core.payment import DAY_MS, Outcome, Transaction, encode_transaction
from aegis_app.core.rates import EUROS
from aegis_app.core.risk import risk
from aegis_app.kafka import Kafka
from aegis_app.kafka.ports import free_port
from aegis_app.process import Ledger, Process, Worker
from aegis_app.settings import Settings
from aegis_app.simulate import simulate
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, changelog, full_name, home
from bench.logs import Logs

PARTITIONS = 4


def payments(number: int, cards: int) -> Iterator[Transaction]:
    """Simulated payments in order of event time, ending a while ago; the same every time."""
    days = max(1.0, number / (cards * 1.5) * 1.1)
    start = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=days)
    return islice((each.transaction for each in simulate(cards, days, 1, start)), number)


def risks() -> Iterator[bytes]:
    """Of 2,000 merchants with 60 days behind them, whose payments fall off with their rank: from 1,200 to 10, as 20,000 over it."""
    draw = random.Random(1)
    start = 1_767_225_600_000
    for rank in range(1, 2001):
        memory = None
        for offset, at in enumerate(sorted(draw.randrange(60 * DAY_MS) for _ in range(min(20_000 // rank, 1200) + 1))):
            event = Paid(
                offset, start + at, 1, draw.randrange(10_000), False, draw.randrange(2**32), draw.random() < 0.3, draw.randrange(1000), 0
            )
            memory = fold(memory, Events(0, 0, [event]))
        if memory is not None:
            yield risk(memory)


class Rig:
    """One broker; every run reads its own topics with a group of its own."""

    def __init__(self, kafka: Kafka, directory: Path) -> None:
        self._kafka = kafka
        self._directory = directory
        self._runs = 0

    def settings(self, prefix: str) -> Settings:
        self._runs += 1
        settings = Settings(broker=self._kafka.address, partitions=PARTITIONS, topic_prefix=f"{prefix}-", app_id=f"{prefix}-{self._runs}")
        asyncio.run(admin.create(settings))
        return settings

    def prefill(self, settings: Settings, stream: Iterable[Transaction]) -> int:
        """Put payments on `transactions`, each into its card's partition; returns how many."""
        records: list[list[Outgoing]] = [[] for _ in range(PARTITIONS)]
        for txn in stream:
            key = txn.card_id.encode()
            records[home(key, PARTITIONS)].append(Outgoing(key, encode_transaction(txn)))
        asyncio.run(_publish(settings, records, full_name(Name.TRANSACTIONS, settings)))
        return sum(map(len, records))

    def prefill_changelog(self, settings: Settings, cards: int) -> None:
        """Put as many cards on the changelog, each with the same four payments to remember."""
        card = BLANK
        for offset, txn in enumerate(payments(4, 4)):
            card = learn(card, case(txn, txn.at, EUROS), Settled(Outcome.ALLOW, Outcome.ALLOW, 0.0, 0), 0, offset)
        assert card.habit.payments == 4, "a card that learnt nothing is not read back"
        value = encode_card(card)
        records: list[list[Outgoing]] = [[] for _ in range(PARTITIONS)]
        for number in range(cards):
            key = b"card-%07d" % number
            records[home(key, PARTITIONS)].append(Outgoing(key, value))
        asyncio.run(_publish(settings, records, changelog("cards", settings)))

    def prefill_risk(self, settings: Settings, merchants: int) -> None:
        """Put the risk of as many merchants on its topic: a few with very many payments, most with hardly any."""
        topic, sizes = full_name(Name.MERCHANT_RISK, settings), list(risks())
        draw = random.Random(1)
        for start in range(0, merchants, 100_000):
            records: list[list[Outgoing]] = [[] for _ in range(PARTITIONS)]
            for number in range(start, min(start + 100_000, merchants)):
                records[number % PARTITIONS].append(Outgoing(b"merchant-%07d" % number, draw.choice(sizes)))
            asyncio.run(_publish(settings, records, topic))

    def worker(self, settings: Settings, application: str = "aegis_app", **environment: str) -> Worker:
        """Not started yet."""
        self._runs += 1
        return Worker(self._directory / f"run{self._runs}", free_port(), self.environment(settings) | environment, application=application)

    def ledger(self, settings: Settings, url: str) -> Ledger:
        """Not started yet."""
        self._runs += 1
        return Ledger(self._directory / f"run{self._runs}", free_port(), self.environment(settings) | {"AEGIS_LEDGER": url})

    def environment(self, settings: Settings) -> dict[str, str]:
        """What a process of ours needs to know."""
        given = {
            f"AEGIS_{name.upper()}": str(value)
            for name, value in msgspec.structs.asdict(settings).items()
            if name in {"broker", "partitions", "topic_prefix", "app_id"}
        }
        return given | {"PYTHONPATH": str(Path(__file__).parent.parent)}

    @contextmanager
    def running(self, *workers: Worker) -> Iterator[None]:
        try:
            for worker in workers:
                worker.start("-l", "info")
            yield
        finally:
            for worker in workers:
                worker.kill()

    def drain(self, settings: Settings, number: int, workers: list[Worker], seconds: float = 120) -> dict[str, Any]:
        """Wait for `number` decisions; returns payments per second from the first tenth on, by Kafka's clock, and CPU per payment.

        Looks seldom: on two cores, whoever looks takes from those it looks at.
        """
        logs = Logs(settings)
        decisions = full_name(Name.DECISIONS, settings)
        deadline = time.monotonic() + seconds
        looks: list[tuple[int, float]] = []
        while not looks or looks[-1][0] < number:
            time.sleep(1.5)
            if time.monotonic() > deadline or any(worker.pid is None for worker in workers):
                raise RuntimeError(f"{looks[-1][0]} of {number} decided within {seconds:.0f} s: {workers[0].last_words()}")
            done = sum(logs.ends(decisions).values())
            if done:
                looks.append((done, sum(map(cpu_seconds, workers))))
        written = sorted(record.timestamp for record in logs.read(decisions))
        tenth = number // 10
        rate = (number - tenth) / (written[number - 1] - written[tenth]) * 1000
        counted, cpu = looks[-1][0] - looks[0][0], looks[-1][1] - looks[0][1]
        return {"payments_per_second": round(rate), "cpu_microseconds": round(cpu / counted * 1e6, 1) if counted else None}


def cpu_model() -> str:
    """What the machine calls its processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


def cpu_seconds(process: Process) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _publish(settings: Settings, records: list[list[Outgoing]], topic: str) -> None:
    async with Outbox(settings.connection()) as outbox:
        await asyncio.gather(*(outbox.publish(topic, partition, batch) for partition, batch in enumerate(records)))
