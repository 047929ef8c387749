"""Decided offline as in a worker: each payment by what came before it, in order, repeats as before."""

from codecs import BOM_UTF8
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from aegis_app.core.card import BLANK, Card, learn, recall
from aegis_app.core.decision import Receipt, decide
from aegis_app.core.features import Features
from aegis_app.core.intake import Reason, Refused
from aegis_app.core.label import encode_label
from aegis_app.core.payment import Outcome, Transaction, decode_transaction, encode_transaction
from aegis_app.core.policy import parse_policy
from aegis_app.core.replay import read_label_lines, read_lines, replay
from aegis_app.core.rules import RULES
from aegis_app.core.terms import Terms
from aegis_app.simulate import simulate
from tests.make import cased, label, payment

TERMS = Terms(policy=parse_policy('mode = "enforce"\n[rules.velocity_1m]\nstate = "on"\nasks = "block"\nmost = 2\n'))


@pytest.fixture(scope="module")
def week() -> list[Transaction]:
    return [each.transaction for each in simulate(50, 7, 4, datetime(2026, 3, 1, tzinfo=UTC), fraud_rate=0.05)]


def test_every_payment_is_decided_by_the_fold_of_those_before_it(week: list[Transaction]) -> None:
    cards: dict[str, Card] = defaultdict(lambda: BLANK)
    expected = []
    for offset, txn in enumerate(week):
        card = recall(cards[txn.card_id], txn.at, txn.at, TERMS.ttl)
        ruling = decide(cased(txn), Features(card, cased(txn)), TERMS, Receipt(txn.at, txn.timestamp))
        cards[txn.card_id] = learn(card, cased(txn), ruling.settled(), 0, offset)
        expected.append((txn, ruling))

    assert [(txn, screened.ruling) for txn, screened in replay(week, TERMS, elsewhere=False)] == expected
    assert {ruling.outcome for _, ruling in expected} == {Outcome.ALLOW, Outcome.BLOCK}  # or else this shows little


def test_payments_are_decided_as_they_come_without_waiting_for_the_next() -> None:
    def one_only() -> Iterator[Transaction]:
        yield payment()
        raise AssertionError("asked for more before the first was decided")

    txn, _ = next(iter(replay(one_only(), TERMS)))

    assert txn == payment()


def test_a_repeated_payment_is_answered_as_before_and_not_learnt_again() -> None:
    first, second = payment(transaction_id="one"), payment(seconds=1, transaction_id="two")

    rulings = [screened.ruling for _, screened in replay([first, first, first, second], TERMS)]

    assert [ruling.duplicate for ruling in rulings] == [False, True, True, False]
    assert rulings[-1].outcome is Outcome.ALLOW  # blocked, had the repeats counted


def test_cards_do_not_disturb_each_other() -> None:
    burst = [payment(seconds=second, card_id="busy") for second in range(4)]

    rulings = {txn.card_id: screened.ruling for txn, screened in replay([*burst, payment(seconds=5, card_id="quiet")], TERMS)}

    assert (rulings["busy"].outcome, rulings["quiet"].outcome) == (Outcome.BLOCK, Outcome.ALLOW)


def test_lines_without_a_payment_are_refused_by_number_and_the_rest_go_on() -> None:
    good = encode_transaction(payment()) + b"\n"
    refused: dict[int, Refused] = {}
    lines = [
        good,
        b"\n",
        b"no json\n",
        b'{"card_id": 5}\n',
        b'{"deep": ' + b"[" * 100_000,
        good.replace(b'"card-1"', b'"4111 1111 1111 1111"'),
        good,
    ]

    payments = list(read_lines(lines, refused.__setitem__, token=False))

    assert payments == [payment(), payment()]
    assert {number: error.reason for number, error in refused.items()} == {
        3: Reason.MALFORMED,
        4: Reason.INVALID,
        5: Reason.MALFORMED,
        6: Reason.CARD_NUMBER,
    }
    assert not [error for error in refused.values() if "4111" in str(error)]


def test_a_byte_order_mark_at_the_head_of_lines_is_none_of_theirs() -> None:
    """Anywhere else it is an error."""
    line = encode_transaction(payment()) + b"\n"
    said = encode_label(label(payment())) + b"\n"
    refused: dict[int, Refused] = {}

    payments = list(read_lines([BOM_UTF8 + line, BOM_UTF8 + line], refused.__setitem__, token=False))

    assert (payments, list(refused)) == ([payment()], [2])
    assert list(read_label_lines([BOM_UTF8 + said], refused.__setitem__, token=False)) == [label(payment())]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n[\n{}\n]", "jq -c '.[]' FILE"),
        ('[{"card_id": "a"}]', "jq -c '.[]' FILE"),
        ('{\n  "card_id": "a"\n}\n{\n}', "jq -c . FILE"),
    ],
)
def test_an_array_and_an_indented_object_are_told_once_how_to_become_lines(text: str, said: str) -> None:
    refused: dict[int, Refused] = {}

    assert list(read_lines(text.encode().splitlines(keepends=True), refused.__setitem__, token=False)) == []

    first, *others = map(str, refused.values())
    assert said in first
    assert not [other for other in others if "jq" in other]


def test_tokens_may_look_like_card_numbers_where_it_is_said_that_they_are_none() -> None:
    line = encode_transaction(payment(card_id="4111111111111111"))

    (txn,) = read_lines([line], lambda number, refused: pytest.fail(str(refused)), token=True)

    assert txn.card_id == "4111111111111111"


def test_a_label_is_learnt_when_it_became_known_and_before_that_changes_nothing() -> None:
    thief = payment(minute=0, merchant_id="jeweller", amount_minor=900_00)
    later = [payment(minute=60 * hour, amount_minor=25_00) for hour in (1, 6, 7)]
    said = [label(thief, after=timedelta(hours=6)), label(payment(card_id="nobody"), after=timedelta(hours=1))]

    found = [screened.seen for _, screened in replay([thief, *later], TERMS, reversed(said))]

    assert [each.amounts.habit for each in found if each is not None] == [0, 1, 1, 2]
    assert [each.comparisons.amount_to_largest for each in found if each is not None] == pytest.approx([None, 25 / 900, 1, 1])


def test_lines_without_a_label_are_refused_by_number_and_the_rest_go_on() -> None:
    good = encode_label(label(payment())) + b"\n"
    refused: dict[int, Refused] = {}

    labels = list(read_label_lines([good, b"\n", encode_transaction(payment()), good], refused.__setitem__, token=False))

    assert labels == [label(payment()), label(payment())]
    assert {number: error.reason for number, error in refused.items()} == {3: Reason.INVALID}


def test_a_label_that_has_all_that_a_payment_needs_is_refused_where_payments_are_read() -> None:
    said = encode_label(label(payment(), amount_minor=4250, currency="EUR"))
    named = encode_transaction(payment(merchant_id="labelled_at"))
    refused: dict[int, Refused] = {}
    assert decode_transaction(said).amount_minor == 4250

    payments = list(read_lines([said, named], refused.__setitem__, token=False))

    assert payments == [payment(merchant_id="labelled_at")]
    assert [(number, error.reason) for number, error in refused.items()] == [(1, Reason.INVALID)]
    assert "use `aegis send labels`" in str(refused[1])


def test_a_payment_is_described_before_its_merchant_hears_of_it_where_no_rule_asked() -> None:
    policy = parse_policy("".join(f'[rules.{rule.name}]\nstate = "off"\n' for rule in RULES))
    payments = [payment(minute=minute) for minute in range(4)]

    found = [
        None if screened.seen is None else screened.seen.merchant_days.merchant_payments_30d
        for _, screened in replay(payments, Terms(policy))
    ]

    assert found == [None, 1, 2, 3]


def test_a_label_as_old_as_its_payment_says_nothing_about_it() -> None:
    txn, later = payment(), payment(minute=1)
    said = label(txn, is_fraud=True, after=timedelta())

    (_, first), (_, second) = [(each, screened.seen.named()) for each, screened in replay([txn, later], TERMS, [said]) if screened.seen]

    assert (first["card_frauds"], second["card_frauds"]) == (0, 1)
    assert (first["merchant_frauds_known_1d"], second["merchant_frauds_known_1d"]) == (None, 1)


def test_what_happened_within_a_second_is_known_from_the_next_on() -> None:
    payments = [payment(seconds=second, card_id=str(second)) for second in (0, 0.5, 1)]

    seen = [screened.seen.merchant.merchant_payments_10m for _, screened in replay(payments, TERMS) if screened.seen]

    assert seen == [None, None, 2]
