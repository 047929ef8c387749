"""A worker on a real Kafka, what is sent to it, and what it says: for tests that go the whole way."""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import msgspec
from aiokafka.structs import ConsumerRecord
from click.testing import CliRunner, Result

from aegis_app import admin
from aegis_app.access import connect
from aegis_app.cli import main
from aegis_app.core.payment import Transaction, encode_transaction
from aegis_app.kafka.ports import free_port
from aegis_app.process import Worker
from aegis_app.settings import read, settings
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name, home
from bench.logs import Logs

PARTITIONS = 2


class Deployment:
    """Topics of its own on a shared broker, and workers that read them."""

    def __init__(self, broker: str, directory: Path, prefix: str, **environment: str) -> None:
        self.environment = {
            "AEGIS_BROKER": broker,
            "AEGIS_TOPIC_PREFIX": f"{prefix}-",
            "AEGIS_APP_ID": prefix,
            "AEGIS_PARTITIONS": str(PARTITIONS),
            "AEGIS_SESSION_TIMEOUT_SECONDS": "8",
        } | environment
        self.settings = read(self.environment)
        self.logs = Logs(self.settings)
        self.workers: list[Worker] = []
        self._directory = directory
        self._started = 0

    def __enter__(self) -> Self:
        asyncio.run(admin.create(self.settings))
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()

    def worker(self, port: int | None = None, /, **environment: str) -> Worker:
        """One more worker, started; not ready yet. `port`: of its views; a free one if none is given."""
        self._started += 1
        worker = Worker(self._directory / f"worker{self._started}", port or free_port(), self.environment)
        self.workers.append(worker)
        return worker.start("-l", "info", **environment)

    def aegis(self, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] = MappingProxyType({})) -> Result:
        """Run a command as the deployment's people do; `environment` is added to its own."""
        settings.cache_clear()
        try:
            return CliRunner().invoke(main, arguments, input=stdin, env=self.environment | dict(environment))
        finally:
            settings.cache_clear()

    def topic(self, name: Name) -> str:
        return full_name(name, self.settings)

    def pay(self, *payments: Transaction) -> list[tuple[int, int]]:
        """Send payments as they should be; returns where each landed: partition and offset."""
        return [self.send(encode_transaction(txn), txn.card_id.encode()) for txn in payments]

    def send(
        self, value: bytes | None, key: bytes | None, *, partition: int | None = None, name: Name = Name.TRANSACTIONS
    ) -> tuple[int, int]:
        """Send whatever it is, into the key's own partition if none is named; returns partition and offset."""
        partition = home(key or b"", self.settings.partitions) if partition is None else partition
        return partition, self.put(name, partition, [Outgoing(key, value)])[0][0]

    def send_many(self, values: list[tuple[bytes, bytes]], name: Name = Name.TRANSACTIONS) -> None:
        """Send (key, value) pairs, each into its key's partition."""
        for partition in range(self.settings.partitions):
            batch = [Outgoing(key, value) for key, value in values if home(key, self.settings.partitions) == partition]
            self.put(name, partition, batch)

    def put(self, name: Name | str, partition: int, records: list[Outgoing]) -> list[tuple[int, int]]:
        """Publish records as they are, to one of our topics or to one of this full name; the first offset and number of each batch."""

        async def publish() -> list[tuple[int, int]]:
            outbox = Outbox(self.settings.connection())
            await outbox.start()
            try:
                return await outbox.publish(self.topic(name) if isinstance(name, Name) else name, partition, records)
            finally:
                await outbox.stop()

        return asyncio.run(publish())

    def records(self, name: Name) -> list[ConsumerRecord]:
        """All that a topic holds, a partition's records in their order, one partition after another."""
        return self.logs.read(self.topic(name))

    def by_partition(self, name: Name) -> list[list[ConsumerRecord]]:
        records = self.records(name)
        return [[record for record in records if record.partition == partition] for partition in range(self.settings.partitions)]

    def decisions(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(record.value) for record in self.records(Name.DECISIONS)]

    def decided(self) -> int:
        """How many decisions there are."""
        return sum(self.logs.ends(self.topic(Name.DECISIONS)).values())

    def await_settled(self, seconds: float = 60, name: Name = Name.TRANSACTIONS) -> None:
        """Return once everything sent to a topic is committed."""
        topic = self.topic(name)
        wait_until(lambda: {p: at for p, at in self.logs.committed(topic).items() if at} == self._ends(topic), seconds, self)

    def await_heard(self, *names: Name) -> None:
        """Return once everything sent is committed, and every worker holds what it told of merchants and devices."""
        for name in (*names, Name.TRANSACTIONS, Name.MERCHANT_EVENTS, Name.DEVICE_EVENTS):
            self.await_settled(name=name)
        told = time.monotonic()
        wait_until(lambda: all(age < time.monotonic() - told for worker in self.workers for age in ages(worker)), 30, self)

    def _ends(self, topic: str) -> dict[int, int]:
        return {partition: end for partition, end in self.logs.ends(topic).items() if end}


def ages(worker: Worker) -> list[float]:
    """For how many seconds a worker has not been sure to hold all that is told of merchants, and of devices."""
    lines = str(worker.get("/metrics")[1]).splitlines()
    return [float(line.split()[1]) for line in lines if line.startswith("aegis_broadcast_age_seconds{") and "-risk" in line]


async def recreate(made: Deployment, name: Name) -> None:
    """Delete a topic, and make it anew."""
    async with connect(made.settings) as client:
        await client.delete_topics([made.topic(name)])
    for _ in range(50):
        if await admin.create(made.settings):
            return
        await asyncio.sleep(0.1)


NOISE = 4
"""Whatever takes some time on a quiet machine may take so many times as long before a test gives up."""


def wait_until(is_so: Callable[[], bool], seconds: float, deployment: Deployment | None = None, *, pause: float = 0.2) -> None:
    """Return once it is so, which takes `seconds` at most on a quiet machine. Raises `TimeoutError`."""
    deadline = time.monotonic() + NOISE * seconds
    while not is_so():
        if time.monotonic() > deadline:
            words = "" if deployment is None else "\n".join(worker.last_words() for worker in deployment.workers)
            raise TimeoutError(f"not so within {NOISE * seconds:.0f} s: {words}")
        time.sleep(pause)
