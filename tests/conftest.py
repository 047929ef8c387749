"""What tests share: one real Kafka for the whole session."""

import os
from collections.abc import Iterator

import pytest

from aegis_app import settings
from aegis_app.kafka import Kafka, jars

# Small models train faster on one thread, and threads that wait for each other starve the workers beside them.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a running broker: that of AEGIS_BROKER, else one of our own."""
    given = settings.read(os.environ)
    if "AEGIS_BROKER" in os.environ:
        yield given.broker
        return
    with Kafka(tmp_path_factory.mktemp("kafka"), jars(given)) as broker:
        yield broker.address
