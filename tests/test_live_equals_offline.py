"""One path: a day sent through the running application is decided as the same day offline."""

import asyncio
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain, groupby, pairwise
from operator import itemgetter
from pathlib import Path

import msgspec
import pytest

from aegis_app.admin import create
from aegis_app.backtest.run import Job, backtest
from aegis_app.core.decision import Ruling, decode_ruling
from aegis_app.core.features import OF_OTHERS
from aegis_app.core.label import Source, encode_label
from aegis_app.core.lists import Lists
from aegis_app.core.payment import HOUR_MS, Outcome, encode_transaction
from aegis_app.core.policy import parse_policy
from aegis_app.core.rates import parse_rates
from aegis_app.core.replay import replay
from aegis_app.core.rules import RULES
from aegis_app.core.terms import Terms
from aegis_app.lists import publish
from aegis_app.policies import local_policy
from aegis_app.settings import Settings
from aegis_app.simulate import RATES_FILE, simulate
from aegis_app.topics import Name
from models.datasets.matrix import write_matrix
from models.serving import serve
from models.training import AlertsPerDay, Plan, read_sample, train
from tests.deployment import Deployment
from tests.make import entry, label

PERIOD_MS = 6 * HOUR_MS
"""Payments of a period are sent together; what they tell is known when the next begins."""
NEVER = datetime(2000, 1, 1, tzinfo=UTC)
PACKAGED = local_policy(Settings()).text
POLICY = PACKAGED.replace('mode = "observe"', 'mode = "enforce"').replace("control_share = 0.0\n", "control_share = 0.05\n")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on other cardholders' weeks, and given every feature there is."""
    directory = tmp_path_factory.mktemp("trained")
    course = sorted(simulate(150, 24, 2, datetime(2026, 1, 1, tzinfo=UTC), fraud_rate=0.05), key=lambda each: each.transaction.at)
    terms = Terms(parse_policy(POLICY), rates=parse_rates(RATES_FILE, "rates", "EUR"))
    truths = (label(each.transaction, is_fraud=each.fraud is not None, after=timedelta(days=1), source=Source.CUSTOMER) for each in course)
    rows = (
        (txn, screened.ruling.verdict, screened.seen)
        for txn, screened in replay((each.transaction for each in course), terms, truths)
        if screened.seen is not None
    )
    write_matrix(directory / "matrix.parquet", rows)
    truth = directory / "truth.jsonl"
    truth.write_bytes(b"\n".join(encode_label(label(each.transaction, is_fraud=each.fraud is not None)) for each in course))
    plan = Plan(target=AlertsPerDay(40), epochs=3, trees=30, label_delay=1)
    train(read_sample(directory / "matrix.parquet", truth, 1, 1), plan, directory / "bundle")
    return directory / "bundle"


@pytest.mark.kafka
def test_a_day_through_the_application_and_through_the_back_test_is_decided_equally(kafka: str, tmp_path: Path, bundle: Path) -> None:
    course = list(simulate(400, 3, 9, datetime(2026, 3, 1, tzinfo=UTC), fraud_rate=0.05))
    day, frauds = [each.transaction for each in course], {each.transaction.transaction_id for each in course if each.fraud is not None}
    ends = list(accumulate((-(-txn.at // PERIOD_MS) * PERIOD_MS for txn in day), max))
    parts = [[txn for _, txn in part] for _, part in groupby(zip(ends, day, strict=True), itemgetter(0))]
    labels = [
        [
            label(txn, is_fraud=True, labelled_at=datetime.fromtimestamp(end / 1000 - 0.001, UTC))
            for txn in part
            if txn.transaction_id in frauds
        ]
        for end, part in zip(dict.fromkeys(ends), parts, strict=True)
    ]
    denied = entry("deny", "merchant", str(day[50].merchant_id))
    watched = entry("watch", "country", "US")
    policy, rates, payments = tmp_path / "policy.toml", tmp_path / "rates.toml", tmp_path / "day.jsonl"
    policy.write_text(POLICY)
    rates.write_text(RATES_FILE)
    payments.write_bytes(b"\n".join(map(encode_transaction, day)))
    environment = {"AEGIS_POLICY": str(policy), "AEGIS_RATES": str(rates), "AEGIS_FEATURE_SHARE": "1", "AEGIS_BUNDLE": str(bundle)}

    with Deployment(kafka, tmp_path, "equal", **environment) as made:
        asyncio.run(create(made.settings))
        asyncio.run(publish(made.settings, [denied, watched]))
        made.worker().wait_until_ready()
        for part, said in zip(parts, labels, strict=True):
            made.send_many([(txn.card_id.encode(), encode_transaction(txn)) for txn in part])
            made.await_heard()
            made.send_many([(each.card_id.encode(), encode_label(each)) for each in said], Name.LABELS)
            made.await_heard(Name.LABELS)
        records = [record.value for record in made.records(Name.DECISIONS)]
    live = {msgspec.json.decode(value)["transaction_id"]: essence(decode_ruling(value)) for value in records}

    lists = Lists().changed([(each.key, each) for each in (denied, watched)], "2")
    terms = Terms(parse_policy(POLICY), lists, parse_rates(RATES_FILE, "rates", "EUR"), feature_share=1, bundle=serve(bundle))
    replayed = replay(day, terms, chain.from_iterable(labels), period=PERIOD_MS)
    offline = {txn.transaction_id: essence(as_on_the_wire(screened.ruling)) for txn, screened in replayed}

    assert len(live) == len(day) > 1000
    assert {name for name in live if live[name] != offline[name]} == set()
    assert {each.outcome for each in live.values()} == set(Outcome)
    assert {"deny_list", "watch_list", "control", "models"} <= {reason.code for each in live.values() for reason in each.reasons}
    assert len({each.score for each in live.values()}) > 900, "scores are equal to the last bit, and are not all alike"
    assert terms.asks_of_others
    for name in ("merchant_payments_10m", "merchant_unusual_7d", "device_cards_1h", "merchant_frauds_known_7d", "recent_credits_30d"):
        assert any(each.features is not None and each.features[name] for each in live.values()), name

    # The back-test has no periods of six hours.
    judged = backtest(Job(source=payments, terms=(terms,), truths={}, unlabelled=None, token=False), 2, lambda number: None)
    verdicts: Counter[Outcome] = Counter()
    for cell, found in judged.cells.items():
        verdicts[cell.findings[0].verdict] += found.payments
    assert verdicts == Counter(screened.ruling.verdict for _, screened in replay(day, terms))


@pytest.mark.kafka
def test_payments_after_labels_are_described_and_decided_equally(kafka: str, tmp_path: Path) -> None:
    """Frauds become known between the parts of some days."""
    course = list(simulate(150, 4, 5, datetime(2026, 3, 1, tzinfo=UTC), fraud_rate=0.2))
    days = sorted((each.transaction for each in course), key=lambda txn: txn.at)
    frauds = {each.transaction.transaction_id for each in course if each.fraud is not None}
    size = len(days) // 4
    parts = [days[begin : begin + size] for begin in range(0, size * 4, size)]
    labels = [
        [
            label(txn, is_fraud=txn.transaction_id in frauds, labelled_at=after[0].timestamp - timedelta(milliseconds=1))
            for txn in before[::2]
        ]
        for before, after in pairwise(parts)
    ]
    policy = tmp_path / "policy.toml"
    of_others = "|".join(rule.name for rule in RULES if rule.of_others)
    alone = re.sub(rf'(rules\.(?:{of_others})\]\nstate = )"\w+"', r'\1"off"', POLICY)
    assert not parse_policy(alone).asks_of_others
    policy.write_text(alone)

    with Deployment(kafka, tmp_path, "equal-labels", AEGIS_POLICY=str(policy), AEGIS_FEATURE_SHARE="1") as made:
        made.worker().wait_until_ready()
        for payments, said in zip(parts, [*labels, []], strict=True):
            made.send_many([(txn.card_id.encode(), encode_transaction(txn)) for txn in payments])
            made.await_settled()
            made.send_many([(each.card_id.encode(), encode_label(each)) for each in said], Name.LABELS)
            made.await_settled(name=Name.LABELS)
        records = [record.value for record in made.records(Name.DECISIONS)]
    live = {msgspec.json.decode(value)["transaction_id"]: of_the_card(decode_ruling(value)) for value in records}

    terms = Terms(parse_policy(alone), feature_share=1)
    paid = list(chain.from_iterable(parts))
    offline, unlabelled = (
        {txn.transaction_id: of_the_card(as_on_the_wire(screened.ruling)) for txn, screened in replay(paid, terms, said)}
        for said in (list(chain.from_iterable(labels)), [])
    )

    assert live == offline
    assert sum(live[name].features != unlabelled[name].features for name in live) > 50


def as_on_the_wire(ruling: Ruling) -> Ruling:
    return decode_ruling(msgspec.json.encode(ruling))


def of_the_card(ruling: Ruling) -> Ruling:
    """Its essence, without what payments of other cards told, which is known when it has come round."""
    assert ruling.features is not None
    features = {name: value for name, value in ruling.features.items() if name not in OF_OTHERS}
    return msgspec.structs.replace(essence(ruling), features=features)


def essence(ruling: Ruling) -> Ruling:
    """A ruling without what the clock adds, and without how far its worker had read."""
    return msgspec.structs.replace(ruling, decided_at=NEVER, stale=False, risk=None)
