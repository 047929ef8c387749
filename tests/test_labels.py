"""Labels on a real Kafka: before and after their payments, repeated, corrected, malformed, and through the death of a worker."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegis_app.core.card import encode_card
from aegis_app.core.label import Label, Source, encode_label
from aegis_app.core.payment import encode_transaction
from aegis_app.core.screen import learn_label
from aegis_app.topics import Name, changelog
from tests.deployment import Deployment, wait_until
from tests.make import label, payment, remember

pytestmark = pytest.mark.kafka
KEY = b"card-1"


@pytest.fixture(scope="module")
def made(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(kafka, tmp_path_factory.mktemp("labels"), "labels", AEGIS_DEAD_LETTER_WINDOW="10") as made:
        made.worker().wait_until_ready()
        yield made


def say(made: Deployment, *labels: Label) -> None:
    made.send_many([(each.card_id.encode(), encode_label(each)) for each in labels], Name.LABELS)
    made.await_settled(name=Name.LABELS)


def card(made: Deployment, card_id: str) -> Any:
    status, remembered = made.workers[-1].get(f"/cards/{card_id}")
    assert status == 200, remembered
    return remembered


def counted(made: Deployment, series: str) -> float:
    lines = str(made.workers[-1].get("/metrics")[1]).splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series))


def test_a_fraud_leaves_habit_whether_its_label_comes_after_or_before_it_and_a_correction_brings_it_back(made: Deployment) -> None:
    for name in ("after", "before"):
        past = [payment(card_id=name, transaction_id=f"{name}-{n}", minute=n, amount_minor=25_00 + 900_00 * (n == 2)) for n in range(3)]
        fraud, correction = label(past[2]), label(past[2], is_fraud=False, source=Source.CHARGEBACK, after=timedelta(days=3))
        if name == "before":
            say(made, fraud, fraud)
        made.pay(*past)
        made.await_settled()
        if name == "after":
            say(made, fraud, fraud)

        taken_out = card(made, name)
        say(made, correction)
        put_back = card(made, name)

        assert (taken_out["habit"]["payments"], taken_out["habit"]["largest_amount_minor"]) == (2, 25_00)
        assert [each["is_fraud"] for each in taken_out["verdicts"]] == [True]
        assert taken_out["verdicts"][0]["taken_out_of_habit"]
        assert len(taken_out["attempts"]) == 3
        assert (put_back["habit"]["payments"], put_back["habit"]["largest_amount_minor"]) == (3, 925_00)
        assert [each["source"] for each in put_back["verdicts"]] == ["chargeback"]


def test_a_label_for_a_card_never_seen_is_kept_and_counted(made: Deployment) -> None:
    ignored = counted(made, 'aegis_labels_ignored_total{reason="repeat"}')
    unseen = label(payment(card_id="unseen", merchant_id=None))

    say(made, unseen, unseen, unseen)

    assert len(card(made, "unseen")["verdicts"]) == 1
    assert counted(made, 'aegis_labels_ignored_total{reason="repeat"}') == ignored + 2
    assert counted(made, 'aegis_labels_ignored_total{reason="no_merchant"}') >= 1
    assert counted(made, 'aegis_labels_total{is_fraud="true",source="analyst"}') >= 3


def test_many_labels_for_one_card_stay_bounded(made: Deployment) -> None:
    said = [label(payment(card_id="loud", transaction_id=f"t{number}", seconds=number)) for number in range(20_000)]

    say(made, *said)

    assert len(card(made, "loud")["verdicts"]) == 32
    values = [record.value for record in made.logs.read(changelog("cards", made.settings)) if record.key == b"loud"]
    assert max(map(len, values)) < 1280


def test_labels_that_cannot_be_taken_become_dead_letters_and_never_latch_the_worker(made: Deployment) -> None:
    said = msgspec.json.decode(encode_label(label(payment())))
    bad = {
        "not JSON": (b"hello", KEY, "malformed"),
        "nothing": (None, KEY, "empty"),
        "a payment": (encode_transaction(payment()), KEY, "invalid"),
        "before its payment": (msgspec.json.encode(said | {"labelled_at": "2026-03-04T11:00:00Z"}), KEY, "invalid"),
        "from the future": (msgspec.json.encode(said | {"labelled_at": "2090-03-04T11:00:00Z"}), KEY, "future"),
        "another's key": (encode_label(label(payment())), b"card-2", "key"),
        "a card number": (encode_label(label(payment(card_id="4111111111111111"))), b"4111111111111111", "card_number"),
    }
    sent = {name: made.send(value, key, name=Name.LABELS) for name, (value, key, _) in bad.items()}
    made.send_many([(KEY, b"from a bad deploy")] * 300, Name.LABELS)
    made.await_settled(name=Name.LABELS)

    letters = {}
    for record in made.records(Name.DEAD_LETTERS):
        headers = dict(record.headers)
        letters[int(headers["partition"]), int(headers["offset"])] = headers["reason"].decode(), record
    for name, (_, _, reason) in bad.items():
        assert letters[sent[name]][0] == reason, name
    assert len(letters) == 300 + len(bad)
    assert b"4111" not in b"".join((record.value or b"") + (record.key or b"") for _, record in letters.values())
    assert made.workers[-1].get("/ready")[0] == 200

    made.pay(payment(card_id="goes on", transaction_id="goes on"))
    made.await_settled()


def test_an_erased_card_loses_its_verdicts_and_does_not_get_them_back(made: Deployment) -> None:
    say(made, label(payment(card_id="erased")))
    assert card(made, "erased")["verdicts"]

    said = made.aegis("cards", "erase", "erased")
    assert said.exit_code == 0, said.output
    wait_until(lambda: made.workers[-1].get("/cards/erased")[0] == 404, 20, made)

    made.workers[-1].stop()
    made.workers[-1].start("-l", "info").wait_until_ready()
    made.pay(payment(card_id="awake", transaction_id="awake"))
    made.await_settled()
    assert made.workers[-1].get("/cards/erased")[0] == 404


def test_each_payment_and_label_is_learnt_once_though_the_worker_is_killed(kafka: str, tmp_path: Path) -> None:
    payments = [payment(card_id=f"c{n % 40}", transaction_id=f"t{n}", minute=n, merchant_id=f"m{n % 7}") for n in range(1200)]
    labels = [label(txn, is_fraud=n % 3 > 0) for n, txn in enumerate(payments) if n % 5 == 0]
    with Deployment(kafka, tmp_path, "labels-killed") as made:
        worker = made.worker().wait_until_ready()
        for begin in range(0, len(payments), 100):
            made.send_many([(txn.card_id.encode(), encode_transaction(txn)) for txn in payments[begin : begin + 100]])
            made.send_many([(each.card_id.encode(), encode_label(each)) for each in labels[begin // 5 : begin // 5 + 20]], Name.LABELS)
            if begin % 400 == 200:
                wait_until(lambda begin=begin: made.decided() > begin, 30, made)  # type: ignore[misc]  # bound at once
                worker.kill()
                worker.start("-l", "info")
        made.await_settled()
        made.await_settled(name=Name.LABELS)
        stored = {record.key: record.value for record in made.logs.read(changelog("cards", made.settings))}
        offsets = {
            name: {msgspec.json.decode(record.value)["transaction_id"]: record.offset for record in made.records(name)}
            for name in (Name.TRANSACTIONS, Name.LABELS)
        }

    for number in range(40):
        name = f"c{number}"
        expected = remember(*(txn for txn in payments if txn.card_id == name))
        seen = [-1, -1, -1]
        for each in (each for each in labels if each.card_id == name):
            expected = learn_label(expected, each, offsets[Name.LABELS][each.transaction_id]).card
            seen[1] = max(seen[1], offsets[Name.LABELS][each.transaction_id])
        seen[0] = max(offsets[Name.TRANSACTIONS][txn.transaction_id] for txn in payments if txn.card_id == name)
        assert stored[name.encode()] == encode_card(msgspec.structs.replace(expected, seen=tuple(seen)))
