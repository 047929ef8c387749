"""What tests share: one real Kafka for the whole session, and one trained bundle."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import hypothesis
import msgspec
import pytest

from aegis_app import settings
from aegis_app.kafka import Kafka, jars
from models.bundle import Manifest, Thresholds, load, write
from models.training import AlertsPerDay, Plan, Sample, train
from tests.samples import sample

# Small models train faster on one thread, and threads that wait for each other starve the workers beside them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test goes red because of a change, never by chance. `pytest --hypothesis-profile default` looks at new examples each time.
hypothesis.settings.register_profile("aegis", derandomize=True)
hypothesis.settings.load_profile("aegis")


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

    def changed(self, path: Path, files: Mapping[str, bytes] = MappingProxyType({}), **fields: Any) -> Path:
        """Written anew to `path`, with other files and other fields of its manifest."""
        whole = load(self.path)
        manifest = msgspec.structs.replace(whole.manifest, **fields)
        write(path, manifest, {name: whole.read(name) for name in manifest.checksums} | dict(files))
        return path

    def asking(self, path: Path, review: float, block: float | None = None) -> Path:
        """Written anew to `path`, asking for review and block from these scores on."""
        return self.changed(path, thresholds=Thresholds(by="test", review=review, block=block, alerts_per_day=1.0))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small bundle of all three layers; seconds to train, so one for all tests."""
    made, path = sample(), tmp_path_factory.mktemp("bundles") / "first"
    return Trained(path, train(made, Plan(target=AlertsPerDay(12.0), epochs=15), path), made)
