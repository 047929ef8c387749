"""What happens when a partition's past is not what its owner believes: recreated topics, second writers, standstills."""

import asyncio
import signal
import time
from itertools import count
from pathlib import Path

import pytest

from aegis_app.core.card import encode_card
from aegis_app.core.payment import Transaction
from aegis_app.stream.outbox import Outgoing
from aegis_app.topics import Name, changelog
from tests.deployment import PARTITIONS, Deployment, recreate, wait_until
from tests.make import payment, remember

pytestmark = pytest.mark.kafka


def some(first: int, number: int, card_id: str = "card-1") -> list[Transaction]:
    return [payment(card_id=card_id, transaction_id=f"t{n}", minute=n) for n in range(first, first + number)]


def test_a_recreated_topic_stops_the_worker_instead_of_losing_its_payments(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "anew") as made:
        worker = made.worker().wait_until_ready()
        made.pay(*some(0, 5))
        made.await_settled()
        worker.stop()
        asyncio.run(recreate(made, Name.TRANSACTIONS))
        made.pay(*some(5, 1))

        worker.start("-l", "info")
        wait_until(lambda: worker.pid is None, 30, made)

        assert worker.returncode == 70
        assert "the topic was made anew" in worker.last_words()


def test_a_second_writer_is_noticed_and_its_older_value_does_not_win(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "second") as made:
        worker = made.worker().wait_until_ready()
        partition = made.pay(*some(0, 5))[0][0]
        made.await_settled()
        stale = encode_card(remember(*some(0, 2)))
        made.put(changelog("cards", made.settings), partition, [Outgoing(b"card-1", stale)])
        made.pay(*some(5, 1))
        wait_until(lambda: worker.pid is None, 30, made)
        assert worker.returncode == 70
        assert "another worker writes" in worker.last_words()

        worker.start("-l", "info").wait_until_ready()
        made.pay(*some(6, 1))
        made.await_settled()

        assert len(worker.get("/cards/card-1")[1]["attempts"]) == 7
        last = [record for record in made.logs.read(changelog("cards", made.settings)) if record.key == b"card-1"][-1]
        assert last.value != stale
        assert [decision["transaction_id"] for decision in made.decisions()] == [f"t{n}" for n in range(7)]


def test_a_process_that_stood_still_beyond_its_session_ends_before_it_writes(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "still") as made:
        frozen, other = made.worker().wait_until_ready(), made.worker().wait_until_ready()
        made.pay(*some(0, 5), *some(100, 5, "card-2"), *some(200, 5, "card-3"))
        made.await_settled()
        frozen.signal(signal.SIGSTOP)
        made.pay(*some(5, 5), *some(105, 5, "card-2"), *some(205, 5, "card-3"))
        time.sleep(1)
        made.await_settled(40)
        frozen.signal(signal.SIGCONT)
        wait_until(lambda: frozen.pid is None, 20, made)

        assert frozen.returncode == 70
        assert "stood still for" in frozen.last_words()
        assert other.get("/ready")[0] == 200
        ids = [decision["transaction_id"] for decision in made.decisions()]
        assert len(ids) == len(set(ids)) == 30


def test_cards_that_idled_too_long_are_forgotten(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "idle", AEGIS_CARD_TTL_DAYS="31") as made:
        worker = made.worker().wait_until_ready()
        made.pay(*(payment(card_id=f"old-{n}", transaction_id=f"old-{n}") for n in range(20)))
        made.await_settled()
        later = count(32 * 24 * 60)

        def gone() -> int:
            return sum(worker.get(f"/cards/old-{n}")[0] == 404 for n in range(20))

        def pay_until_gone() -> bool:
            minute = next(later)
            made.pay(*(payment(card_id=f"new-{p}-{minute}", transaction_id=f"new-{p}-{minute}", minute=minute) for p in range(PARTITIONS)))
            return gone() >= 15

        wait_until(pay_until_gone, 60, made)
        made.await_settled()

        tombstones = [record.key for record in made.logs.read(changelog("cards", made.settings)) if record.value is None]

        assert {key.decode() for key in tombstones} <= {f"old-{n}" for n in range(20)}
        assert len(tombstones) == gone()
        assert worker.get(f"/cards/new-0-{next(later) - 1}")[0] == 200
