"""The simulator: the same for the same seed, in order of arrival, holders plausible and frauds in their share."""

import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from math import log
from statistics import median

import pytest

from aegis_app.core.earth import kilometres
from aegis_app.core.payment import (
    CARD_PRESENT,
    GIVES_BACK,
    Channel,
    Kind,
    Outcome,
    Transaction,
    decode_transaction,
    encode_transaction,
    exponent,
)
from aegis_app.core.policy import parse_policy
from aegis_app.core.replay import replay
from aegis_app.core.terms import Terms
from aegis_app.demo.stack import enforcing
from aegis_app.settings import Settings
from aegis_app.simulate import FRAUDS, Labelled, simulate
from aegis_app.simulate.chance import zipf
from aegis_app.simulate.holders import Population

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 30
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def month() -> list[Labelled]:
    return list(simulate(2000, DAYS, 11, START, fraud_rate=0.01))


@pytest.fixture(scope="module")
def year() -> list[Labelled]:
    return list(simulate(300, 400, 3, START, fraud_rate=0.0, rate=1.0))


@pytest.fixture(scope="module")
def crime() -> list[Labelled]:
    """Ten times the frauds of the month."""
    return list(simulate(1000, 60, 12, START, fraud_rate=0.1))


def genuine(payments: Iterable[Labelled]) -> list[Transaction]:
    return [payment.transaction for payment in payments if payment.fraud is None]


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


def test_payments_come_in_order_of_arrival_and_took_place_within_the_asked_days_at_whole_milliseconds(month: list[Labelled]) -> None:
    arrived = [payment.arrived for payment in month]
    times = [payment.transaction.timestamp for payment in month]

    assert arrived == sorted(arrived)
    assert min(times) >= START
    assert max(times) < START + timedelta(days=DAYS)
    assert all(time.tzinfo is UTC and time.microsecond % 1000 == 0 for time in times)


def test_a_few_payments_arrive_late_by_minutes_to_two_days_and_all_others_at_once(month: list[Labelled]) -> None:
    late = [payment.arrived - payment.transaction.at for payment in month if payment.arrived != payment.transaction.at]

    assert 0.005 < len(late) / len(month) < 0.02
    assert 60_000 <= min(late) < 600_000
    assert 24 * 3_600_000 < max(late) <= 48 * 3_600_000
    assert 600_000 < median(late) < 4 * 3_600_000


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
    labels = [payment.fraud for payment in simulate(2500, 30, 5, START, fraud_rate=share)]

    assert sum(fraud is not None for fraud in labels) / len(labels) == pytest.approx(share, rel=0.2)


def test_genuine_payments_do_not_depend_on_the_share_of_fraud() -> None:
    def what(payments: Iterable[Labelled]) -> set[tuple[object, ...]]:
        # A card that was replaced has another id, and an emptied account leaves less to withdraw.
        paid = [txn for txn in genuine(payments) if txn.kind not in (Kind.TRANSFER, Kind.CASH_OUT)]
        return {(txn.customer_id, txn.timestamp, txn.amount_minor, txn.merchant_id) for txn in paid}

    without, among = what(simulate(200, 20, 5, START, fraud_rate=0.0)), what(simulate(200, 20, 5, START, fraud_rate=0.02))

    assert among < without
    assert len(among) > 0.8 * len(without)  # whose card was taken pays nothing for three days


def test_every_kind_of_fraud_appears(month: list[Labelled], crime: list[Labelled]) -> None:
    names = [fraud.__name__ for fraud in FRAUDS]
    some, many = (Counter(payment.fraud for payment in payments) for payments in (month, crime))

    assert set(some) == {None, *names}
    assert all(some[name] >= 20 for name in names)
    assert set(many) == {None, *names}


def test_a_tested_card_sees_many_small_payments_within_minutes_and_then_a_large_one(crime: list[Labelled]) -> None:
    usually = usual(crime)
    tests = attacks(crime, "card_testing")
    rushed = [
        attack
        for attack in tests
        if len(attack) >= 6 and attack[4].timestamp - attack[0].timestamp < timedelta(minutes=10)
        if all(txn.currency == "EUR" for txn in attack)
        if all(txn.amount_minor <= 3_00 for txn in attack[:5]) and max(txn.amount_minor for txn in attack) >= 300_00
    ]

    assert len(rushed) > 0.3 * len(tests)
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
    assert 0.2 * len(stolen) < len(abroad) < 0.7 * len(stolen)
    assert sum(txn.merchant_id not in known.get(txn.card_id, ()) for txn in payments) > 0.8 * len(payments)
    assert sum(txn.currency == "EUR" and txn.amount_minor > 2 * usually.get(txn.card_id, 0) for txn in payments) > 0.3 * len(payments)


def test_whose_card_was_taken_pays_nothing_until_a_new_one_comes_with_another_id(crime: list[Labelled]) -> None:
    taken: dict[str, datetime] = {}
    for payment in crime:
        txn = payment.transaction
        if payment.fraud == "stolen_card" and txn.channel in {Channel.CHIP, Channel.CONTACTLESS}:
            taken.setdefault(txn.card_id, min(txn.timestamp, taken.get(txn.card_id, txn.timestamp)))
    holders = {txn.card_id: txn.customer_id for txn in genuine(crime)}
    cards: dict[str | None, set[str]] = defaultdict(set)
    for card, customer in holders.items():
        cards[customer].add(card)

    assert len(taken) > 50
    assert not [txn for txn in genuine(crime) if txn.kind not in GIVES_BACK and txn.timestamp > taken.get(txn.card_id, txn.timestamp)]
    assert sum(len(cards[holders.get(card)]) > 1 for card in taken) > 0.6 * len(taken)


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


def test_merchants_of_frauds_and_balances_before_them_are_met_in_genuine_payments_too(crime: list[Labelled]) -> None:
    honest = {txn.merchant_id for txn in genuine(crime)}
    frauds = [payment.transaction for payment in crime if payment.fraud is not None and payment.transaction.country == "DE"]

    def told(payments: Iterable[Transaction]) -> float:
        known = [bool(txn.attributes) for txn in payments if txn.kind is Kind.TRANSFER]
        return sum(known) / len(known)

    assert sum(txn.merchant_id in honest for txn in frauds) > 0.8 * len(frauds)
    assert told(payment.transaction for payment in crime if payment.fraud is not None) == pytest.approx(told(genuine(crime)), abs=0.1)


def test_of_no_fraud_is_everything_caught_and_of_the_loud_ones_something(crime: list[Labelled]) -> None:
    terms = Terms(policy=parse_policy(enforcing(Settings())))
    caught: Counter[tuple[str | None, bool]] = Counter()
    for payment, (_, screened) in zip(crime, replay((payment.transaction for payment in crime), terms), strict=True):
        caught[payment.fraud, screened.ruling.outcome is not Outcome.ALLOW] += 1
    recall = {
        fraud.__name__: caught[fraud.__name__, True] / (caught[fraud.__name__, True] + caught[fraud.__name__, False]) for fraud in FRAUDS
    }

    assert max(recall.values()) < 0.95, recall
    assert min(recall[loud] for loud in ("card_testing", "stolen_card", "account_takeover")) > 0.05, recall


def test_a_machine_tries_many_cards_a_few_times_each_at_one_merchant(crime: list[Labelled]) -> None:
    tried: dict[tuple[str | None, str | None], list[str]] = defaultdict(list)
    for payment in crime:
        if payment.fraud == "enumeration":
            tried[payment.transaction.merchant_id, payment.transaction.device_id].append(payment.transaction.card_id)
    largest = max(tried.values(), key=len)

    assert len(set(largest)) >= 8
    assert max(Counter(largest).values()) <= 4


def test_cards_of_a_compromised_terminal_are_used_elsewhere_after_they_were_used_there(crime: list[Labelled]) -> None:
    there: dict[str | None, set[str]] = defaultdict(set)
    for txn in genuine(crime):
        there[txn.merchant_id].add(txn.card_id)
    misused = attacks(crime, "compromised_terminal")
    at_it = [attack for attack in misused if attack[0].card_id in there[attack[0].merchant_id]]

    assert len(misused) > 15
    assert 0.2 * len(misused) < len(at_it) < 0.9 * len(misused)
    assert any(len({txn.merchant_id for txn in attack}) > 1 for attack in at_it)


def test_colluding_shops_charge_ordinary_amounts_by_day_at_home(crime: list[Labelled]) -> None:
    usually = usual(crime)
    charged = [txn for attack in attacks(crime, "merchant_collusion") for txn in attack]
    ratios = [txn.amount_minor / usually[txn.card_id] for txn in charged if txn.card_id in usually]

    assert len(charged) > 100
    assert all(txn.country == txn.home_country and txn.channel is Channel.PHONE for txn in charged)
    assert 0.3 < median(ratios) < 4


def test_a_bleeding_card_loses_small_amounts_for_weeks(crime: list[Labelled]) -> None:
    usually = usual(crime)
    bled = [attack for attack in attacks(crime, "slow_bleed") if len(attack) >= 5]
    days = [(attack[-1].timestamp - attack[0].timestamp).days for attack in bled]
    ratios = [txn.amount_minor / usually[txn.card_id] for attack in bled for txn in attack if txn.card_id in usually]

    assert median(days) >= 7
    assert median(ratios) < 1


def test_accounts_are_emptied_at_times_but_not_always_by_fraudsters(crime: list[Labelled]) -> None:
    emptied: Counter[bool] = Counter()
    for payment in crime:
        balance = payment.transaction.attributes.get("balance_minor")
        if payment.transaction.kind is Kind.TRANSFER and balance is not None and payment.transaction.amount_minor >= 0.85 * balance:
            emptied[payment.fraud is not None] += 1

    assert min(emptied[True], emptied[False]) >= 5


def test_balances_come_with_some_transfers_and_withdrawals_alone(month: list[Labelled]) -> None:
    told = Counter((txn.kind in (Kind.TRANSFER, Kind.CASH_OUT), "balance_minor" in txn.attributes) for txn in genuine(month))

    assert told[False, True] == 0
    assert told[True, True] / (told[True, True] + told[True, False]) == pytest.approx(0.6, abs=0.06)


def test_a_holder_may_have_several_cards_with_shared_devices(month: list[Labelled]) -> None:
    cards: dict[str | None, set[str]] = defaultdict(set)
    shared: dict[tuple[str | None, str], set[str]] = defaultdict(set)
    for txn in genuine(month):
        cards[txn.customer_id].add(txn.card_id)
        if txn.device_id is not None:
            shared[txn.customer_id, txn.device_id].add(txn.card_id)

    assert 0.15 < sum(len(each) > 1 for each in cards.values()) / len(cards) < 0.4
    assert sum(len(each) > 1 for each in shared.values()) > 50


def test_companies_pay_more_on_working_days_at_more_places(month: list[Labelled]) -> None:
    population = Population(11, 2000, 1.5)
    holders = [population.holder(card, month[0].transaction.at) for card in range(2000)]
    companies = {holder.customer_id for holder in holders if holder.users > 1}
    paid = {is_company: [txn for txn in genuine(month) if (txn.customer_id in companies) is is_company] for is_company in (True, False)}
    euros = {who: median(txn.amount_minor for txn in paid[who] if txn.currency == "EUR") for who in paid}
    weekend = {who: sum(txn.timestamp.weekday() >= 5 for txn in paid[who] if txn.kind is Kind.PURCHASE) / len(paid[who]) for who in paid}
    devices = {who: len({txn.device_id for txn in paid[who]}) / len({txn.customer_id for txn in paid[who]}) for who in paid}

    assert 0.02 < len(companies) / len({holder.customer_id for holder in holders}) < 0.06
    assert euros[True] > 2 * euros[False]
    assert weekend[True] < 0.1 < 0.2 < weekend[False]
    assert devices[True] > devices[False]


def test_each_holder_has_hours_and_tastes_of_its_own(year: list[Labelled]) -> None:
    def unlike(part: dict[str, list[int]]) -> float:
        """How much of a card's payments would have to move to be like everybody's, on average."""
        everybody = Counter(each for of_card in part.values() for each in of_card)
        whole = everybody.total()
        return sum(
            sum(abs(Counter(of_card)[each] / len(of_card) - number / whole) for each, number in everybody.items()) / 2
            for of_card in part.values()
        ) / len(part)

    cards = {card: paid for card, paid in by_card(year).items() if len(paid) > 200}
    quarters = {card: [txn.timestamp.hour // 6 for txn in paid] for card, paid in cards.items()}
    categories = {card: [int(txn.merchant_category or 0) for txn in paid] for card, paid in cards.items()}

    assert len(cards) > 50
    assert unlike(quarters) > 0.08  # two hundred payments drawn from everybody's hours differ by 0.03
    assert unlike(categories) > 0.2


def test_refunds_and_reversals_give_back_what_was_paid_before(crime: list[Labelled]) -> None:
    bought: dict[tuple[object, ...], list[Transaction]] = defaultdict(list)
    for txn in sorted(genuine(crime), key=lambda txn: txn.timestamp):
        if txn.kind is Kind.PURCHASE:
            bought[txn.customer_id, txn.merchant_id, txn.currency].append(txn)
    back = [txn for txn in genuine(crime) if txn.kind in GIVES_BACK]
    before = [
        [
            one
            for one in bought[txn.customer_id, txn.merchant_id, txn.currency]
            if one.timestamp < txn.timestamp and one.amount_minor >= txn.amount_minor
        ]
        for txn in back
    ]
    reversals = [
        any(one.amount_minor == txn.amount_minor and txn.timestamp - one.timestamp < timedelta(minutes=15) for one in candidates)
        for txn, candidates in zip(back, before, strict=True)
        if txn.kind is Kind.REVERSAL
    ]

    assert all(before)
    assert all(reversals)
    assert 0.003 < len(reversals) / len(crime) < 0.01
    assert 0.004 < (len(back) - len(reversals)) / len(crime) < 0.02


def test_recurring_payments_are_the_same_each_month_until_the_price_changes(year: list[Labelled]) -> None:
    collected: dict[tuple[object, ...], list[Transaction]] = defaultdict(list)
    for txn in genuine(year):
        if txn.channel is Channel.RECURRING:
            collected[txn.card_id, txn.merchant_id, txn.timestamp.time()].append(txn)
    steps = [step for paid in collected.values() for step in pairwise(paid)]
    changes = [later.amount_minor / earlier.amount_minor for earlier, later in steps if earlier.amount_minor != later.amount_minor]

    assert len(steps) > 500
    assert all(timedelta(days=28) <= later.timestamp - earlier.timestamp <= timedelta(days=31) for earlier, later in steps)
    assert 0.02 < len(changes) / len(steps) < 0.12
    assert all(0.7 < change < 1.15 for change in changes)


def test_amounts_are_in_minor_units_of_the_currency_of_the_place(month: list[Labelled]) -> None:
    amounts: dict[str, list[int]] = defaultdict(list)
    cash: dict[str, list[int]] = defaultdict(list)
    for txn in genuine(month):
        (cash if txn.kind is Kind.CASH_OUT else amounts)[txn.currency].append(txn.amount_minor)
    abroad = {(txn.country, txn.currency) for txn in genuine(month) if txn.channel in CARD_PRESENT}

    assert (exponent("JPY"), exponent("KWD")) == (0, 3)
    assert 1_000 < median(amounts["JPY"]) < 10_000
    assert 2_000 < median(amounts["KWD"]) < 25_000
    assert 10_00 < median(amounts["EUR"]) < 40_00
    assert all(amount % 10_000 == 0 for amount in cash["JPY"])
    assert all(amount % 5_000 == 0 for amount in cash["KWD"])
    assert {("DE", "EUR"), ("JP", "JPY"), ("GB", "GBP"), ("US", "USD")} <= abroad
    assert len({country for country, _ in abroad}) == len(abroad)
    assert 0.05 < sum(txn.currency != "EUR" for txn in genuine(month)) / len(month) < 0.25


def test_people_buy_something_large_now_and_then(month: list[Labelled]) -> None:
    usually = usual(month)
    bought = [txn for txn in genuine(month) if txn.kind is Kind.PURCHASE and txn.currency == "EUR"]

    assert 0.002 < sum(txn.amount_minor > 8 * usually[txn.card_id] for txn in bought) / len(bought) < 0.03


def test_people_move_and_go_to_other_shops_then(year: list[Labelled]) -> None:
    population, end, month_ms = Population(3, 300, 1.0), year[-1].arrived, 30 * 24 * 3_600_000
    shops = {card: [txn for txn in paid if txn.channel in CARD_PRESENT] for card, paid in by_card(year).items()}
    known: dict[str, list[bool]] = defaultdict(list)
    for holder in (population.holder(card, end) for card in range(300)):
        moved = month_ms < end - holder.since < 10 * month_ms
        since = holder.since if moved else end - 5 * month_ms
        elsewhere = population.holder(holder.card, since - 1).home is not holder.home
        before = {txn.merchant_id for txn in shops[holder.card_id] if txn.at < since}
        after = [txn.merchant_id in before for txn in shops[holder.card_id] if txn.at > since]
        known["moved far" if moved and elsewhere else "moved" if moved else "stayed"] += after
    share = {who: sum(each) / len(each) for who, each in known.items()}

    assert share["moved far"] < 0.1
    assert share["moved"] < share["stayed"] - 0.1


def test_devices_are_replaced_now_and_then(year: list[Labelled]) -> None:
    devices = Counter({card: len({txn.device_id for txn in paid} - {None}) for card, paid in by_card(year).items()})

    assert 1.5 < sum(devices.values()) / len(devices) < 5


def test_popularity_falls_as_zipf_has_it() -> None:
    ranks = Counter(zipf(share / 200_000, 240) for share in range(200_000))

    assert set(ranks) == set(range(240))
    assert ranks[0] / ranks[9] == pytest.approx(log(2) / log(11 / 10), rel=0.02)


def test_few_merchants_have_most_of_the_payments(month: list[Labelled]) -> None:
    counts = [number for _, number in Counter(txn.merchant_id for txn in genuine(month) if txn.country == "DE").most_common()]

    assert sum(counts[: len(counts) // 10]) > 0.4 * sum(counts)
    assert -1.4 < log(counts[99] / counts[9]) / log(10) < -0.5


def test_memory_does_not_grow_with_payments() -> None:
    stream = simulate(50, 1000, 5, START, fraud_rate=0.01, rate=10.0)
    sizes = []
    tracemalloc.start()
    for _ in range(4):
        for _ in islice(stream, 12_000):
            pass
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()

    assert sizes[3] - sizes[1] < 1_000_000, sizes  # 24,000 payments kept would take twenty times that


def test_no_genuine_holder_travels_faster_than_an_airliner(month: list[Labelled]) -> None:
    placed: dict[str | None, list[tuple[datetime, float, float]]] = defaultdict(list)
    for txn in genuine(month):
        if txn.latitude is not None and txn.longitude is not None:
            placed[txn.customer_id].append((txn.timestamp, txn.latitude, txn.longitude))
    speeds, trips = [], 0
    for steps in placed.values():
        for (left, *here), (arrived, *there) in pairwise(sorted(steps)):
            distance = kilometres(*here, *there)
            trips += distance > 100
            if distance > 0:
                speeds.append(distance / ((arrived - left) / HOUR))

    assert max(speeds) < 900
    assert trips > 100  # or else nobody travelled and this shows nothing


def test_terminals_say_where_they_stand_in_four_of_five_cases_and_nothing_else_does(month: list[Labelled]) -> None:
    paid = [payment.transaction for payment in month if payment.transaction.kind not in GIVES_BACK]
    placed = Counter((txn.channel in CARD_PRESENT, txn.latitude is not None) for txn in paid)

    assert placed[True, False] / (placed[True, True] + placed[True, False]) == pytest.approx(0.2, abs=0.01)
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
    assert repeated > 0.5 * len(in_person) / 2


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
