"""The simulator: the same for the same seed, in order of time, holders plausible and frauds in their share."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest

from aegis_app.core.earth import kilometres
from aegis_app.core.payment import CARD_PRESENT, Channel, Kind, Transaction, decode_transaction, encode_transaction
from aegis_app.simulate import FRAUDS, Labelled, simulate

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 30
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def month() -> list[Labelled]:
    return list(simulate(2000, DAYS, 11, START, fraud_rate=0.01))


def by_card(payments: Iterable[Labelled]) -> dict[str, list[Transaction]]:
    cards: dict[str, list[Transaction]] = defaultdict(list)
    for payment in payments:
        cards[payment.transaction.card_id].append(payment.transaction)
    return cards


def attacks(month: list[Labelled], fraud: str) -> list[list[Transaction]]:
    return list(by_card(payment for payment in month if payment.fraud == fraud).values())


def usual(month: list[Labelled]) -> dict[str, float]:
    """Of each card, what half of its genuine payments do not exceed."""
    genuine = by_card(payment for payment in month if payment.fraud is None)
    return {card: sorted(txn.amount_minor for txn in paid)[len(paid) // 2] for card, paid in genuine.items()}


def test_the_same_arguments_give_the_same_payments_and_another_seed_gives_others() -> None:
    first, again, other = (list(simulate(50, 5, seed, START, fraud_rate=0.05)) for seed in (3, 3, 4))

    assert first == again
    assert {one.transaction.card_id for one in first}.isdisjoint(one.transaction.card_id for one in other)


def test_runs_side_by_side_do_not_disturb_each_other() -> None:
    alone = list(simulate(50, 3, 3, START))
    one, other = simulate(50, 3, 3, START), simulate(50, 3, 8, START)
    beside = [ours for ours, _ in zip(one, other, strict=False)]

    assert beside == alone[: len(beside)]
    assert len(beside) > 100


def test_payments_come_in_order_of_time_within_the_asked_days_at_whole_milliseconds(month: list[Labelled]) -> None:
    times = [payment.transaction.timestamp for payment in month]

    assert times == sorted(times)
    assert times[0] >= START
    assert times[-1] < START + timedelta(days=DAYS)
    assert all(time.tzinfo is UTC and time.microsecond % 1000 == 0 for time in times)


def test_every_payment_is_valid_on_the_wire_and_comes_back_the_same(month: list[Labelled]) -> None:
    assert [decode_transaction(encode_transaction(payment.transaction)) for payment in month] == [payment.transaction for payment in month]


def test_ids_are_unique_and_so_are_those_of_a_run_that_follows(month: list[Labelled]) -> None:
    following = simulate(2000, 5, 11, START + timedelta(days=DAYS), fraud_rate=0.01)
    ids = [payment.transaction.transaction_id for payment in (*month, *following)]

    assert len(set(ids)) == len(ids)


def test_cards_pay_about_as_often_as_asked() -> None:
    payments = sum(1 for _ in simulate(1000, 20, 5, START, fraud_rate=0.0, rate=2.5))

    assert payments == pytest.approx(1000 * 20 * 2.5, rel=0.08)


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05])
def test_frauds_are_about_the_asked_share(share: float) -> None:
    labels = [payment.fraud for payment in simulate(2000, 20, 5, START, fraud_rate=share)]

    assert sum(fraud is not None for fraud in labels) / len(labels) == pytest.approx(share, rel=0.2)


def test_genuine_payments_do_not_depend_on_the_share_of_fraud() -> None:
    def what(payments: Iterable[Labelled]) -> set[tuple[object, ...]]:
        paid = [payment.transaction for payment in payments if payment.fraud is None]
        return {(txn.card_id, txn.timestamp, txn.amount_minor, txn.merchant_id) for txn in paid}

    without, among = what(simulate(200, 20, 5, START, fraud_rate=0.0)), what(simulate(200, 20, 5, START, fraud_rate=0.02))

    assert among < without
    assert len(among) > 0.8 * len(without)  # whose card was taken pays nothing for three days


def test_every_kind_of_fraud_appears(month: list[Labelled]) -> None:
    names = [fraud.__name__ for fraud in FRAUDS]
    found = Counter(payment.fraud for payment in month)

    assert names == ["card_testing", "stolen_card", "account_takeover"]
    assert set(found) == {None, *names}
    assert all(found[name] >= 50 for name in names)


def test_a_tested_card_sees_many_small_payments_within_minutes_and_then_a_large_one(month: list[Labelled]) -> None:
    usually = usual(month)
    tests = attacks(month, "card_testing")
    rushed = [
        attack
        for attack in tests
        if len(attack) >= 7 and attack[6].timestamp - attack[0].timestamp < timedelta(minutes=10)
        if all(txn.amount_minor <= 3_00 for txn in attack[:6]) and max(txn.amount_minor for txn in attack) >= 300_00
    ]

    assert len(rushed) > 0.5 * len(tests)
    assert len(rushed) < len(tests)  # some take their time, so that no rule catches all
    assert any(txn.kind is Kind.VERIFICATION for attack in tests for txn in attack)
    assert all(max(txn.amount_minor for txn in attack) > 3 * usually.get(attack[0].card_id, 0) for attack in rushed)


def test_a_stolen_card_is_used_in_person_abroad_or_in_new_shops_for_high_amounts(month: list[Labelled]) -> None:
    stolen = attacks(month, "stolen_card")
    usually = usual(month)
    known = {card: {txn.merchant_id for txn in paid} for card, paid in by_card(p for p in month if p.fraud is None).items()}
    abroad = [attack for attack in stolen if any(txn.country != txn.home_country for txn in attack)]
    payments = [txn for attack in stolen for txn in attack]

    assert all(txn.channel in CARD_PRESENT for txn in payments)
    assert 0.2 * len(stolen) < len(abroad) < 0.8 * len(stolen)
    assert sum(txn.merchant_id not in known.get(txn.card_id, ()) for txn in payments) > 0.8 * len(payments)
    assert sum(txn.amount_minor > 2 * usually.get(txn.card_id, 0) for txn in payments) > 0.6 * len(payments)


def test_nobody_pays_with_a_card_that_was_taken_from_them() -> None:
    month = list(simulate(300, 30, 2, START, fraud_rate=0.05))
    taken = {
        payment.transaction.card_id: payment.transaction.timestamp
        for payment in month
        if payment.fraud == "stolen_card" and payment.transaction.channel in {Channel.CHIP, Channel.CONTACTLESS}
    }

    assert len(taken) > 10
    assert not [
        payment
        for payment in month
        if payment.fraud is None and (at := taken.get(payment.transaction.card_id)) is not None
        if at < payment.transaction.timestamp < at + timedelta(days=3)
    ]


def test_an_account_is_taken_over_from_a_device_of_which_the_holder_knows_nothing(month: list[Labelled]) -> None:
    devices, payees = defaultdict(set), defaultdict(set)
    for payment in month:
        if payment.fraud is None:
            devices[payment.transaction.card_id].add(payment.transaction.device_id)
            payees[payment.transaction.card_id].add(payment.transaction.payee_id)
    taken_over = [txn for attack in attacks(month, "account_takeover") for txn in attack]
    transfers = [txn for txn in taken_over if txn.kind is Kind.TRANSFER]

    assert all(txn.channel is Channel.ONLINE and txn.device_id is not None for txn in taken_over)
    assert all(txn.device_id not in devices[txn.card_id] for txn in taken_over)
    assert len(transfers) > 10
    assert all(txn.payee_id not in payees[txn.card_id] for txn in transfers)


def test_nothing_but_behaviour_tells_frauds_from_genuine_payments(month: list[Labelled]) -> None:
    def kinds(genuine: bool) -> set[tuple[object, ...]]:
        chosen = [payment.transaction for payment in month if (payment.fraud is None) is genuine]
        return {
            (txn.channel, txn.kind, *((name or " ")[0] + str(len(name or "")) for name in (txn.merchant_id, txn.payee_id, txn.device_id)))
            for txn in chosen
        }

    assert kinds(False) <= kinds(True)


def test_no_genuine_holder_travels_faster_than_an_airliner(month: list[Labelled]) -> None:
    speeds, trips = [], 0
    for paid in by_card(payment for payment in month if payment.fraud is None).values():
        placed = [(txn.timestamp, txn.latitude, txn.longitude) for txn in paid]
        steps = pairwise([(at, north, east) for at, north, east in placed if north is not None and east is not None])
        for (left, *here), (arrived, *there) in steps:
            distance = kilometres(*here, *there)
            trips += distance > 100
            if distance > 0:
                speeds.append(distance / ((arrived - left) / HOUR))

    assert max(speeds) < 900
    assert trips > 100  # or else nobody travelled and this shows nothing


def test_terminals_say_where_they_stand_in_nine_of_ten_cases_and_nothing_else_does(month: list[Labelled]) -> None:
    placed = Counter((payment.transaction.channel in CARD_PRESENT, payment.transaction.latitude is not None) for payment in month)

    assert placed[True, False] / (placed[True, True] + placed[True, False]) == pytest.approx(0.1, abs=0.01)
    assert placed[False, True] == 0


def test_holders_are_mostly_at_home_mostly_by_day_and_mostly_where_they_have_been(month: list[Labelled]) -> None:
    genuine = [payment.transaction for payment in month if payment.fraud is None]
    in_person = [txn for txn in genuine if txn.channel in CARD_PRESENT]
    seen: dict[str, set[str | None]] = defaultdict(set)
    repeated = 0
    for txn in in_person[: len(in_person) // 2]:
        seen[txn.card_id].add(txn.merchant_id)
    for txn in in_person[len(in_person) // 2 :]:
        repeated += txn.merchant_id in seen[txn.card_id]

    assert 0.002 < sum(txn.country != txn.home_country for txn in in_person) / len(in_person) < 0.1
    assert sum(2 <= txn.timestamp.hour < 4 for txn in genuine) < 0.03 * len(genuine)
    assert repeated > 0.6 * len(in_person) / 2


def test_a_large_population_costs_nothing_until_it_pays() -> None:
    first = list(islice(simulate(100_000, 1, 5, START), 100))

    assert len({payment.transaction.card_id for payment in first}) > 90


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cards": 0}, "above 0"),
        ({"days": 0.0}, "above 0"),
        ({"rate": -1.0}, "above 0"),
        ({"fraud_rate": 1.0}, "share"),
        ({"fraud_rate": float("nan")}, "share"),
        ({"start": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001  # naive is what is wrong with it
    ],
)
def test_bad_arguments_are_refused_at_once(wrong: dict[str, float], message: str) -> None:
    arguments = {"cards": 10, "days": 1.0, "seed": 1, "start": START} | wrong
    with pytest.raises(ValueError, match=message):
        simulate(**arguments)  # type: ignore[arg-type]  # one of them is wrong on purpose
