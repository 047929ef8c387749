"""Merchants and devices on a real Kafka: what cards' owners tell theirs, exactly once, and what every worker is told of them."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from aegis_app.core.intake import Past, encode_history
from aegis_app.core.merchant import Merchant, encode_merchant, fold
from aegis_app.core.merchant_events import Events, Paid, decode_events, encode_events
from aegis_app.core.payment import Kind, Transaction, encode_transaction
from aegis_app.core.risk import risk, shared_risk
from aegis_app.stream.memory import PRIVATE
from aegis_app.topics import Name, changelog, home
from tests.deployment import PARTITIONS, Deployment, wait_until
from tests.make import payment

pytestmark = pytest.mark.kafka

NAMES = ("m-1", "a/b?c=%2F&d#e+f ", "../é;", "\N{SNOWMAN}")
"""Of merchants and devices: whatever fits into a payment."""


@pytest.fixture(scope="module")
def pair(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(kafka, tmp_path_factory.mktemp("merchants"), "merchants") as made:
        for worker in (made.worker(), made.worker()):
            worker.wait_until_ready()
        wait_until(lambda: all(made.workers[n].get("/metrics")[1].count("aegis_lag_payments{") == 5 for n in (0, 1)), 30, made)
        yield made


def some(number: int, name: str = "t", **fields: Any) -> list[Transaction]:
    """Payments of ten cards at the merchants and devices of `NAMES`, a minute apart."""
    return [
        payment(
            card_id=f"{name}-card-{n % 10}",
            transaction_id=f"{name}-{n}",
            minute=n,
            **{"merchant_id": NAMES[n % len(NAMES)], "device_id": NAMES[n // 3 % len(NAMES)]} | fields,
        )
        for n in range(number)
    ]


def pay(made: Deployment, payments: Iterable[Transaction]) -> None:
    made.send_many([(txn.card_id.encode(), encode_transaction(txn)) for txn in payments])


def await_learnt(made: Deployment) -> None:
    """Return once everything sent is committed, and what it led to."""
    made.await_settled()
    for name in (Name.MERCHANT_EVENTS, Name.DEVICE_EVENTS):
        wait_until(partial(is_settled, made, made.topic(name)), 60, made)


def is_settled(made: Deployment, topic: str) -> bool:
    return made.logs.committed(topic).items() >= {partition: end for partition, end in made.logs.ends(topic).items() if end}.items()


def told(made: Deployment, name: Name) -> dict[str, list[Events]]:
    """The events of each merchant or device, as they lie on the topic."""
    found: dict[str, list[Events]] = {}
    for record in made.records(name):
        found.setdefault(record.key.decode(), []).append(decode_events(record.value))
    return found


def recounted(events: Iterable[Events]) -> Merchant:
    memory = None
    for each in events:
        memory = fold(memory, each)
    assert memory is not None
    return memory


def latest(made: Deployment, topic: str) -> dict[str, bytes]:
    """The last value of each key of a compacted topic; those that were deleted are gone."""
    records = {record.key.decode(): record.value for record in made.logs.read(topic) if not record.key.startswith(PRIVATE)}
    return {key: value for key, value in records.items() if value is not None}


def held(made: Deployment, number: int, kind: str) -> set[str]:
    """What a worker holds of the risk of merchants, or of devices."""
    return {each["id"] for each in made.workers[number].get(f"/{kind}?order=risk&top=1000")[1][kind]}


def is_held(made: Deployment, kind: str, names: set[str]) -> bool:
    return all(held(made, number, kind) == names for number in range(len(made.workers)))


def test_merchants_and_devices_learn_each_payment_once_and_both_workers_know_their_risk(pair: Deployment) -> None:
    refund = payment(card_id="t-card-0", transaction_id="refund", minute=200, kind=Kind.REFUND, merchant_id=NAMES[0])
    nowhere = payment(card_id="t-card-0", transaction_id="nowhere", minute=201, merchant_id=None)
    payments = some(60)
    pay(pair, [*payments, payments[-1], refund, nowhere])
    await_learnt(pair)

    assert {home(name.encode(), PARTITIONS) for name in NAMES} == {0, 1}
    for topic, table, field, summary in (
        (Name.MERCHANT_EVENTS, "merchants", "merchant_id", risk),
        (Name.DEVICE_EVENTS, "devices", "device_id", shared_risk),
    ):
        events = told(pair, topic)
        for name in NAMES:
            offsets = [(each.partition, event.offset) for each in events[name] for event in each.events]
            assert len(offsets) == len(set(offsets)) == sum(getattr(txn, field) == name for txn in payments)
        memories = {name: recounted(each) for name, each in events.items()}
        assert latest(pair, changelog(table, pair.settings)) == {name: encode_merchant(each) for name, each in memories.items()}
        risks = Name.MERCHANT_RISK if table == "merchants" else Name.DEVICE_RISK
        assert latest(pair, pair.topic(risks)) == {name: summary(each) for name, each in memories.items()}
        assert set(memories) == set(NAMES)
        wait_until(partial(is_held, pair, table, set(NAMES)), 5, pair)


def test_a_payment_is_judged_by_risk_of_a_known_version(pair: Deployment) -> None:
    pay(pair, some(1, "versioned"))
    await_learnt(pair)

    version = next(each["risk"] for each in pair.decisions() if each["transaction_id"] == "versioned-0")
    merchants, devices = map(int, version.split("."))

    assert 0 < merchants <= sum(pair.logs.ends(pair.topic(Name.MERCHANT_RISK)).values())
    assert 0 < devices <= sum(pair.logs.ends(pair.topic(Name.DEVICE_RISK)).values())


def test_both_workers_answer_for_each_merchant_and_device(pair: Deployment) -> None:
    for kind in ("merchants", "devices"):
        for name in NAMES:
            one, other = (worker.get(f"/{kind}/{quote(name, safe='')}") for worker in pair.workers)
            assert one == other
            assert (one[0], one[1]["id"]) == (200, name)
        assert pair.workers[0].get(f"/{kind}/never")[0] == 404


def test_a_memory_is_readable_day_by_day(pair: Deployment) -> None:
    events = [event for each in told(pair, Name.MERCHANT_EVENTS)[NAMES[0]] for event in each.events if isinstance(event, Paid)]
    days = pair.workers[0].get(f"/merchants/{quote(NAMES[0], safe='')}")[1]["days"].values()

    assert sum(day["payments"] for day in days) == len(events)
    assert sum(day["amount_minor"] for day in days) == sum(event.amount or 0 for event in events)


def test_the_riskiest_come_first_and_a_wrong_question_is_answered(pair: Deployment) -> None:
    worker = pair.workers[0]

    status, answer = worker.get("/merchants?order=risk&top=2")

    assert (status, len(answer["merchants"])) == (200, 2)
    assert worker.get("/merchants?order=fame")[0] == 400
    assert worker.get("/merchants?ordr=risk") == (400, {"error": "no parameter is called 'ordr'; there are `order` and `top`"})
    assert worker.get("/merchants?top=many")[0] == 400
    assert worker.get("/merchants?top=0")[0] == 400


def test_history_teaches_merchants_too(pair: Deployment) -> None:
    past = [Past(payment(card_id="warm", transaction_id=f"warm-{n}", minute=-60 * n, merchant_id="old friend")) for n in range(6)]
    pair.send_many([(b"warm", encode_history(each)) for each in past], Name.HISTORY)
    wait_until(lambda: pair.workers[0].get("/merchants/old%20friend")[0] == 200, 20, pair)
    wait_until(lambda: sum(len(each.events) for each in told(pair, Name.MERCHANT_EVENTS)["old friend"]) == 6, 20, pair)

    assert {each.source for each in told(pair, Name.MERCHANT_EVENTS)["old friend"]} == {2}


EVENT = Paid(10**9, 1_700_000_000_000, 1, 100, False, 7, True, None, 0)
GOOD = encode_events(Events(0, 0, [EVENT]))
BAD: dict[str, tuple[bytes | None, bytes | None, str]] = {
    "not ours": (b"m-1", b"hello", "malformed"),
    "half of it": (b"m-1", GOOD[:-3], "malformed"),
    "JSON": (b"m-1", b"[0,0,[]]", "malformed"),
    "nothing": (b"m-1", None, "empty"),
    "no key": (None, GOOD, "key"),
    "a key that is no text": (b"\xff\xfe", GOOD, "key"),
    "a key of the partition's own": (b"\0learnt", GOOD, "key"),
    "a source that is none": (b"m-1", encode_events(Events(7, 0, [EVENT])), "malformed"),
    "a partition that is none": (b"m-1", encode_events(Events(0, PARTITIONS, [EVENT])), "invalid"),
}


def test_what_is_no_event_becomes_a_dead_letter_and_neither_stops_nor_latches(pair: Deployment) -> None:
    before = latest(pair, changelog("merchants", pair.settings))
    sent = {name: pair.send(value, key, name=Name.MERCHANT_EVENTS) for name, (key, value, _) in BAD.items()}
    sent["elsewhere"] = pair.send(GOOD, b"stray", partition=1 - home(b"stray", PARTITIONS), name=Name.MERCHANT_EVENTS)
    await_learnt(pair)

    letters = {}
    for record in pair.records(Name.DEAD_LETTERS):
        headers = {name: value.decode() for name, value in record.headers}
        if headers["topic"] == pair.topic(Name.MERCHANT_EVENTS):
            letters[int(headers["partition"]), int(headers["offset"])] = headers["reason"]

    assert letters == {sent[name]: reason for name, (_, _, reason) in BAD.items()} | {sent["elsewhere"]: "partition"}
    assert latest(pair, changelog("merchants", pair.settings)) == before
    assert [worker.get("/ready")[0] for worker in pair.workers] == [200, 200]
    said = pair.aegis("dead-letters", "redrive", "--all")
    assert said.exit_code == 0, said.output


def test_a_worker_that_starts_later_holds_all_risk_before_it_is_ready(pair: Deployment) -> None:
    late = pair.worker(AEGIS_APP_ID="another-group").wait_until_ready()

    assert held(pair, len(pair.workers) - 1, "merchants") == held(pair, 0, "merchants")
    late.stop()
    pair.workers.remove(late)


def test_kills_and_handovers_lose_and_double_nothing_of_what_merchants_learn(kafka: str, tmp_path: Path) -> None:
    payments = some(12_000, "k")
    with Deployment(kafka, tmp_path, "merchant-kills") as made:
        one = made.worker().wait_until_ready()
        pay(made, payments[:6000])
        wait_until(lambda: made.decided() > 1500, 30, made)
        one.kill()
        other = made.worker()
        one.start("-l", "info")
        pay(made, payments[6000:])
        wait_until(lambda: made.decided() > 7500, 60, made)
        other.kill()
        one.wait_until_ready()
        await_learnt(made)

        for topic, table in ((Name.MERCHANT_EVENTS, "merchants"), (Name.DEVICE_EVENTS, "devices")):
            events = told(made, topic)
            offsets = {(each.partition, event.offset) for told_of in events.values() for each in told_of for event in each.events}
            memories = {name: encode_merchant(recounted(each)) for name, each in events.items()}
            assert len(offsets) == len(payments)
            assert latest(made, changelog(table, made.settings)) == memories


def test_merchants_that_idled_too_long_are_forgotten_by_every_worker(kafka: str, tmp_path: Path) -> None:
    new = {next(name for name in map("new-{}".format, count()) if home(name.encode(), PARTITIONS) == place) for place in range(PARTITIONS)}
    later = count(121 * 24 * 60)
    with Deployment(kafka, tmp_path, "merchant-idle", AEGIS_CARD_TTL_DAYS="31") as made:
        made.worker().wait_until_ready()
        pay(made, some(20, "old"))
        await_learnt(made)

        def pay_until_gone() -> bool:
            minute = next(later)
            pay(made, [payment(card_id=name, transaction_id=f"{name}-{minute}", minute=minute, merchant_id=name) for name in new])
            return held(made, 0, "merchants") == new

        wait_until(pay_until_gone, 60, made)
        await_learnt(made)

        assert set(latest(made, changelog("merchants", made.settings))) == new
        assert made.workers[0].get(f"/merchants/{NAMES[0]}")[0] == 404
