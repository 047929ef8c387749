"""`aegis ledger run` on a real Kafka: what stands in SQL is what stands in the log, once, whatever dies meanwhile."""

import signal
import sqlite3
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, select

from aegis_app.core.label import decode_label, encode_label
from aegis_app.kafka.ports import free_port
from aegis_app.ledger.database import connect
from aegis_app.ledger.tables import decisions, hits, labels, sources, verdicts
from aegis_app.process import Ledger
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outgoing
from aegis_app.topics import Name, home
from bench.postgres import Postgres
from tests.deployment import PARTITIONS, Deployment, wait_until
from tests.make import allowed, decision, decode_decision, label, payment
from tests.tools import postgres_programs

pytestmark = pytest.mark.kafka

CARD_NUMBER = "4111111111111111"


@contextmanager
def keeping(made: Deployment, ledger: str, directory: Path, **more: str) -> Iterator[Ledger]:
    """`aegis ledger run` in a directory of its own."""
    environment = made.environment | {"AEGIS_LEDGER": ledger, "AEGIS_SESSION_TIMEOUT_SECONDS": "6"} | more
    keeper = Ledger(directory, free_port(), environment).start()
    try:
        yield keeper
    finally:
        keeper.kill()


def series(keeper: Ledger) -> str:
    """What it exports; empty while it does not answer."""
    status, text = keeper.get("/metrics")
    return str(text) if status == 200 else ""


def answers(keeper: Ledger) -> bool:
    return keeper.get("/health")[0] == 200


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres(postgres_programs()) as server:
        yield server


def migrated(made: Deployment, ledger: str) -> Engine:
    done = made.aegis("ledger", "migrate", environment={"AEGIS_LEDGER": ledger})
    assert done.exit_code == 0, done.output
    return connect(Settings(ledger=ledger))


def publish(made: Deployment, first: int, end: int) -> None:
    """Payments decided, some twice and not alike, and labels about them that are repeated and corrected."""
    for start in range(first, end, 50):
        made_decisions, said = [], []
        for place in range(start, start + 50):
            txn = payment(transaction_id=f"t{place}", card_id=f"card-{place % 37}", seconds=place)
            made_decisions.append(decision(txn, score=0.7) if place % 3 else allowed(txn, shadow_rules=["card_testing"]))
            if place % 5 == 0:
                made_decisions.append(decision(txn, score=0.1, duplicate=True, rules=["amount_spike"]))
            if place % 4 == 0:
                said += [label(txn), label(txn, source="chargeback", is_fraud=place % 8 == 0, after=timedelta(days=3)), label(txn)]
        made.send_many([(each.card_id.encode(), msgspec.json.encode(each)) for each in made_decisions], Name.DECISIONS)
        made.send_many([(each.card_id.encode(), encode_label(each)) for each in said], Name.LABELS)


def is_at_the_end(made: Deployment, engine: Engine) -> bool:
    ends = {(made.topic(name), at): end for name in (Name.DECISIONS, Name.LABELS) for at, end in made.logs.ends(made.topic(name)).items()}
    with engine.connect() as connection:
        return {(row.topic, row.partition): row.next_offset for row in connection.execute(select(sources))} == ends


def check(made: Deployment, engine: Engine, number: int) -> None:
    """Whether what stands in SQL is what the logs amount to."""
    first: dict[str, Any] = {}
    for record in made.records(Name.DECISIONS):
        found = decode_decision(record.value)
        first.setdefault(found.transaction_id, found)
    said = {encode_label(decode_label(record.value)) for record in made.records(Name.LABELS)}
    with engine.connect() as connection:
        kept = [(row.transaction_id, row.score, row.duplicate) for row in connection.execute(select(decisions))]
        struck = [(row.transaction_id, row.rule) for row in connection.execute(select(hits))]
        spoken = connection.execute(select(labels)).all()
        known = {row.transaction_id: (row.source, row.is_fraud) for row in connection.execute(select(verdicts))}
    assert len(first) == number
    assert sorted(kept) == sorted((each.transaction_id, each.score, False) for each in first.values())
    assert sorted(struck) == sorted((each.transaction_id, rule) for each in first.values() for rule in (*each.rules, *each.shadow_rules))
    assert len(spoken) == len(said) == number // 4 * 2
    assert known == {f"t{place}": ("chargeback", place % 8 == 0) for place in range(0, number, 4)}


def test_nothing_is_missing_or_double_after_kills_and_a_database_that_went_away(kafka: str, tmp_path: Path, postgres: Postgres) -> None:
    number, url = 2000, postgres.database("kept")
    with Deployment(kafka, tmp_path, "kept") as made:
        engine = migrated(made, url)
        publish(made, 0, 200)
        sending = threading.Thread(target=publish, args=(made, 200, number))
        with keeping(made, url, tmp_path / "one") as one, keeping(made, url, tmp_path / "two") as two:
            wait_until(lambda: kept(engine) == 200 and answers(two), 60)
            postgres.stop(signal.SIGQUIT)
            sending.start()
            wait_until(lambda: 'aegis_sink_away{sink="ledger"} 1.0' in series(one) + series(two), 60)
            assert "does not answer" in str(one.get("/health")) + str(two.get("/health"))
            two.kill()
            postgres.start()
            wait_until(lambda: kept(engine) > 900, 60)
            one.kill()
            with keeping(made, url, tmp_path / "three") as three:
                sending.join()
                wait_until(lambda: is_at_the_end(made, engine), 90)
                wait_until(lambda: f'aegis_sink_lag_records{{partition="0",sink="ledger",topic="{Name.LABELS}"}} 0.0' in series(three), 30)
                assert three.get("/health")[1]["status"] == "ok"
                assert "_created" not in series(three)
                check(made, engine, number)
                assert three.stop() == 0
        engine.dispose()


def kept(engine: Engine) -> int:
    with engine.connect() as connection:
        return len(connection.execute(select(decisions.c.transaction_id)).all())


def test_a_new_ledger_has_all_that_kafka_has_but_what_is_no_decision_or_label_and_no_card_number(kafka: str, tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    with Deployment(kafka, tmp_path, "odd") as made:
        engine = migrated(made, f"sqlite:///{file}")
        txn = payment(merchant_id="a\0b")
        good = Outgoing(txn.card_id.encode(), msgspec.json.encode(decision(txn)))
        partition = home(txn.card_id.encode(), PARTITIONS)
        made.put(Name.DECISIONS, partition, [Outgoing(None, None), Outgoing(b"x", b"{}"), Outgoing(b"x", b"\xff"), good])
        numbered = payment(card_id=CARD_NUMBER)
        bad = [Outgoing(CARD_NUMBER.encode(), encode_label(label(numbered))), Outgoing(b"other", encode_label(label(txn)))]
        made.put(Name.LABELS, partition, [*bad, Outgoing(txn.card_id.encode(), encode_label(label(txn)))])
        with keeping(made, f"sqlite:///{file}", tmp_path / "odd") as keeper:
            wait_until(lambda: kept(engine) == 1, 60)
            wait_until(lambda: 'unreadable_total{sink="ledger",topic="labels"} 2.0' in series(keeper), 60)
            assert 'unreadable_total{sink="ledger",topic="decisions"} 3.0' in series(keeper)
            assert keeper.stop() == 0
            assert CARD_NUMBER not in keeper.log.read_text()
        engine.dispose()
        other = migrated(made, f"sqlite:///{tmp_path}/other.sqlite")
        with keeping(made, f"sqlite:///{tmp_path}/other.sqlite", tmp_path / "other"):
            wait_until(lambda: kept(other) == 1, 60)
        other.dispose()
        with closing(sqlite3.connect(file)) as database:
            assert CARD_NUMBER not in "".join(database.iterdump())
            assert database.execute("SELECT merchant_id FROM decisions").fetchall() == [("a\ufffdb",)]
            assert database.execute("SELECT transaction_id, is_fraud FROM verdicts").fetchall() == [(txn.transaction_id, 1)]


def test_what_cannot_be_kept_is_said_in_one_line_and_metrics_want_the_token(kafka: str, tmp_path: Path) -> None:
    ledger = f"sqlite:///{tmp_path}/ledger.sqlite"
    with Deployment(kafka, tmp_path, "refused") as made:
        with keeping(made, ledger, tmp_path / "empty") as keeper:
            wait_until(lambda: keeper.returncode is not None, 240)
            assert (keeper.returncode, keeper.log.read_text()) == (
                1,
                f"aegis: the ledger at {ledger} is empty: run `aegis ledger migrate`\n",
            )
        migrated(made, ledger).dispose()
        token = "a token of the sink's own"
        with keeping(made, ledger, tmp_path / "one", AEGIS_WEB_TOKEN=token) as one:
            wait_until(lambda: answers(one), 60)
            assert one.get("/metrics")[0] == 401
            asked = urllib.request.Request(f"{one.url}/metrics", headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(asked, timeout=30) as answer:
                assert "aegis_sink_away" in answer.read().decode()
            late = Ledger(tmp_path / "late", one.port, made.environment | {"AEGIS_LEDGER": ledger}).start()
            wait_until(lambda: late.returncode is not None, 240)
            assert (late.returncode, late.last_words(1).split(" (")[0]) == (1, f"aegis: port {one.port} on 127.0.0.1 cannot be used")
            with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as database, database:
                database.execute("UPDATE alembic_version SET version_num = '9999'")
            made.send_many([(b"card-1", msgspec.json.encode(decision(payment())))], Name.DECISIONS)
            wait_until(lambda: one.returncode is not None, 60)
            said = f"aegis: the ledger at {ledger} has schema 9999, of a newer version of Aegis: use that one"
            assert (one.returncode, one.last_words(1)) == (1, said)
