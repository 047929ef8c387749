"""Faults on a real Kafka under load: short here, long in `make chaos`."""

import shutil
from pathlib import Path
from unittest.mock import ANY

import msgspec
import pytest

from aegis_app import admin
from aegis_app.kafka import Kafka, jars
from aegis_app.settings import settings
from aegis_app.topics import changelog
from bench.chaos import Chaos, differences, script, stored

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1500)]


def test_nothing_is_lost_doubled_or_mislearnt_through_five_kills_and_a_lost_disk(tmp_path: Path) -> None:
    with Kafka(tmp_path / "kafka", jars(settings())) as kafka:
        chaos = Chaos(kafka, tmp_path, rate=1200, seed=5)
        try:
            finding = chaos.run(script(5, seed=5, freeze=False))
            assert finding.faultless, msgspec.json.encode(finding).decode()
            assert finding.payments == finding.sent > 50_000
            assert finding.dead_letters > 0
            assert finding.memories == {"cards": ANY, "merchants": 500, "devices": 20}
            assert finding.labels == finding.labels_sent > 500
            assert finding.taken_out > 100
            assert chaos.kills == 5
            assert_a_lost_disk_comes_back(chaos)
        finally:
            for worker in chaos.workers:
                worker.kill()


def assert_a_lost_disk_comes_back(chaos: Chaos) -> None:
    memory = {table: chaos.on_changelog(table) for table in admin.TABLES}
    one = chaos.workers[0]
    for worker in chaos.workers:
        shutil.rmtree(worker.directory / "data")
    one.start("-l", "info")
    one.wait_until_ready(60)
    one.stop()

    for table in admin.TABLES:
        ends = chaos.logs.ends(changelog(table, chaos.settings))
        assert differences(dict(stored(one.directory, table, ends)), memory[table]) == 0
