"""A card is forgotten when somebody asks for it, and what is read again does not bring it back."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from aegis_app.core.card import encode_card
from aegis_app.stream.memory import LEARNT, encode_learnt
from aegis_app.stream.outbox import Outgoing
from aegis_app.topics import Name, changelog, home
from tests.deployment import PARTITIONS, Deployment, wait_until
from tests.make import payment, remember

pytestmark = pytest.mark.kafka


def test_an_erased_card_is_gone_and_stays_gone_when_its_payments_are_read_again(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "erasure") as made:
        worker = made.worker().wait_until_ready()
        for card_id in ("card-1", "card-2"):
            made.pay(*(payment(card_id=card_id, transaction_id=f"{card_id}-{n}", minute=n) for n in range(3)))
        made.await_settled()

        assert made.aegis("lists", "add", "watch", "card", "card-1", "--reason", "odd").exit_code == 0
        said = made.aegis("cards", "erase", "card-1")
        wait_until(lambda: worker.get("/cards/card-1")[0] == 404, 20, made)

        assert said.exit_code == 0, said.output
        assert "erasure-transactions: until 7 days" in said.stdout
        assert "erasure-cards-changelog: until it is compacted" in said.stdout
        assert (
            said.stdout.splitlines()[-2] == "Entries of lists that name it stay as well: aegis lists show deny card, and watch, and allow"
        )
        assert '"card-1"' in made.aegis("lists", "show", "watch", "card", "--json").stdout
        assert worker.get("/cards/card-2")[0] == 200
        keys = [record.key for record in made.logs.read(changelog("cards", made.settings)) if record.value is None or record.key == LEARNT]
        assert keys[keys.index(b"card-1") - 1] == LEARNT

        worker.stop()
        asyncio.run(read_payments_again(made))
        worker.start("-l", "info").wait_until_ready()
        made.pay(*(payment(card_id=f"card-{n}", transaction_id=f"later-{n}", minute=60) for n in (2, 3, 4, 5)))
        made.await_settled()

        assert worker.get("/cards/card-1")[0] == 404
        assert len(made.decisions()) == 10

        made.pay(payment(transaction_id="back", minute=90))
        made.await_settled()
        assert len(worker.get("/cards/card-1")[1]["attempts"]) == 1


def test_a_late_value_of_a_revived_writer_does_not_bring_an_erased_card_back(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "revived") as made:
        log = changelog("cards", made.settings)
        worker = made.worker().wait_until_ready()
        first, second = payment(transaction_id="t0"), payment(transaction_id="t1", minute=1)
        partition, offset = made.pay(first, second)[1]
        made.await_settled()
        assert made.aegis("cards", "erase", "card-1").exit_code == 0
        wait_until(lambda: worker.get("/cards/card-1")[0] == 404, 20, made)
        late = remember(first, second)
        assert late.seen == (offset, -1, -1)

        behind = encode_learnt({made.topic(Name.TRANSACTIONS): 0})
        made.put(log, partition, [Outgoing(b"card-1", encode_card(late)), Outgoing(LEARNT, behind)])
        other = next(f"card-{n}" for n in range(2, 99) if home(f"card-{n}".encode(), PARTITIONS) == partition)
        made.pay(payment(card_id=other, transaction_id="other"))
        wait_until(lambda: worker.pid is None, 30, made)
        assert "another worker writes" in worker.last_words()
        worker.start("-l", "info").wait_until_ready()
        made.pay(payment(card_id=other, transaction_id="another", minute=1))
        made.await_settled()

        assert worker.get("/cards/card-1")[0] == 404
        assert [record for record in made.logs.read(log) if record.key == b"card-1"][-1].value is None
        assert len(made.decisions()) == 4


async def read_payments_again(made: Deployment) -> None:
    """Let the workers' group begin at the beginning of `transactions`; `history`, with the wish to erase, is not read again."""
    consumer = AIOKafkaConsumer(**made.settings.connection(), group_id=made.settings.app_id, enable_auto_commit=False)
    await consumer.start()
    places = [TopicPartition(made.topic(Name.TRANSACTIONS), number) for number in range(PARTITIONS)]
    consumer.assign(places)
    await consumer.commit(dict.fromkeys(places, 0))
    await consumer.stop()


def test_what_is_no_card_id_is_refused_before_it_is_sent(kafka: str, tmp_path: Path) -> None:
    with Deployment(kafka, tmp_path, "erasure-no") as made:
        said = made.aegis("cards", "erase", "4111 1111 1111 1111")

        assert said.exit_code == 1
        assert "looks like a card number" in said.output
        assert "4111" not in said.output
        assert made.records(Name.HISTORY) == []
