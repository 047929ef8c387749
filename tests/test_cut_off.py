"""A worker that Kafka cannot hear any more, and that does not stand still."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event

import pytest

from aegis_app.core.payment import encode_transaction
from aegis_app.kafka import Kafka, jars
from aegis_app.kafka.ports import HOST, free_port
from aegis_app.settings import settings
from aegis_app.stream.owner import SOURCE
from aegis_app.topics import Name
from tests.deployment import Deployment, wait_until
from tests.link import Link
from tests.make import payment

SESSION = 15
"""Seconds. Long, as a machine that is busy with other tests can let a worker stand still for half as long, and that ends it."""

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(450)]


@contextmanager
def kafka_and_link(directory: Path) -> Iterator[tuple[Kafka, Link]]:
    """A broker with a second listener, to which the link alone leads."""
    clients, behind, controller = free_port(), free_port(), free_port()
    with Link(behind) as link:
        listeners = {"CLIENTS": clients, "BEHIND": behind, "CONTROLLER": controller}
        properties = {
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in listeners.items()),
            "advertised.listeners": f"CLIENTS://{HOST}:{clients},BEHIND://{HOST}:{link.port}",
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
        }
        with Kafka(directory / "kafka", jars(settings()), port=clients, properties=properties) as kafka:
            yield kafka, link


def test_a_worker_that_was_cut_off_beyond_its_session_decides_nothing_that_others_decided(tmp_path: Path) -> None:
    with (
        kafka_and_link(tmp_path) as (kafka, link),
        Deployment(kafka.address, tmp_path, "cut", AEGIS_SESSION_TIMEOUT_SECONDS=str(SESSION)) as made,
    ):
        cut_off, other = made.worker(AEGIS_BROKER=f"{HOST}:{link.port}").wait_until_ready(), made.worker().wait_until_ready()
        numbers, is_over = count(), Event()

        def pay() -> None:
            while not is_over.is_set():
                some = [
                    payment(card_id=f"card-{number % 20}", transaction_id=f"t{number}") for number in (next(numbers) for _ in range(40))
                ]
                made.send_many([(txn.card_id.encode(), encode_transaction(txn)) for txn in some])
                time.sleep(0.1)

        with ThreadPoolExecutor() as threads:
            paying = threads.submit(pay)
            try:
                time.sleep(3)
                link.cut()
                time.sleep(SESSION * 1.75)
                assert cut_off.pid is not None
                link.heal()
                wait_until(lambda: cut_off.pid is None, 45, made)
            finally:
                is_over.set()
            paying.result()
        made.await_settled()

        assert cut_off.returncode == 70
        assert "the group went on without this worker" in cut_off.last_words()
        assert other.get("/ready")[0] == 200
        decided = Counter(dict(record.headers)[SOURCE] for record in made.records(Name.DECISIONS))
        assert len(decided) == next(numbers)
        assert set(decided.values()) == {1}
