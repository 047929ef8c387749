"""What tests share: one real Kafka for the whole session, and one trained bundle."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from aegis_app import settings
from aegis_app.kafka import Kafka, jars
from models.bundle import Manifest
from models.training import AlertsPerDay, Plan, Sample, train
from tests.samples import sample

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


class Trained(NamedTuple):
    """A bundle, and what it was trained on."""

    path: Path
    manifest: Manifest
    sample: Sample


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small bundle of all three layers; seconds to train, so one for all tests."""
    made, path = sample(), tmp_path_factory.mktemp("bundles") / "first"
    return Trained(path, train(made, Plan(target=AlertsPerDay(12.0), epochs=15), path), made)
