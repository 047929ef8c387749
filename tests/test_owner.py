"""The owner's own judgement of what comes: chunks follow one another, letters are sound, latches trip."""

from types import SimpleNamespace
from typing import Any

import pytest

from aegis_app.core.decision import decide, encode_decision, standing
from aegis_app.core.intake import Past, Reason, Refused
from aegis_app.core.policy import parse_policy
from aegis_app.core.screen import HISTORY, adopt, learn_past
from aegis_app.core.terms import Terms
from aegis_app.core.tidings import NONE
from aegis_app.stream.letters import Latch, dead_letter
from aegis_app.stream.owner import Owner
from tests.make import cased, features, payment, receipt, remember


def owner(**expected: int) -> Owner[Any]:
    made: Owner[Any] = Owner.__new__(Owner)
    made._expected, made._jumps = dict(expected), {}
    return made


def chunk(first: int, number: int = 10) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in range(first, first + number)]


def test_a_chunk_beyond_the_expected_offset_is_sent_back_once_and_taken_the_second_time() -> None:
    partition = owner(a=100)

    assert partition.follows("a", chunk(120)) == 100
    assert partition.follows("a", chunk(120)) is None
    assert partition.follows("a", chunk(130)) is None


def test_records_fetched_before_a_rebalance_do_not_pass_for_what_comes_next() -> None:
    partition = owner(a=100)

    assert partition.follows("a", chunk(120)) == 100
    assert partition.follows("a", chunk(130)) == 100
    assert partition.follows("a", chunk(100)) is None
    assert partition.follows("a", chunk(110)) is None


def test_a_true_gap_in_one_topic_passes_while_another_flows() -> None:
    partition = owner(a=100, b=0)

    assert partition.follows("a", chunk(120)) == 100
    assert partition.follows("b", chunk(0)) is None
    assert partition.follows("a", chunk(120)) is None


@pytest.mark.parametrize("attempts", [None, b"many", b"9" * 5000])
def test_a_letter_survives_strange_headers(attempts: bytes | None) -> None:
    record: Any = SimpleNamespace(
        key=b"k", value=b"v", topic="transactions", partition=0, offset=7, headers=[("attempts", attempts), ("other", None)]
    )

    assert ("attempts", b"1") in dead_letter(record, Refused(Reason.MALFORMED, "no")).headers


def test_the_latch_trips_on_a_share_of_the_last_payments_alone() -> None:
    latch = Latch(0.2, 1000)

    assert not latch.trips(500, 500)
    assert latch.trips(500, 0)
    assert not latch.trips(2000, 400)
    assert latch.trips(500, 300)


def test_a_decision_about_another_payment_at_the_same_offset_is_not_adopted() -> None:
    txn, other = payment(), payment(transaction_id="of a topic made anew")
    policy = parse_policy("")
    records = [encode_decision(each, decide(cased(each), features(), Terms(policy), receipt(each))) for each in (other, txn)]

    assert standing([b"a stranger's", b"{}", records[0]], txn) is None
    assert standing(records, txn) is not None
    assert adopt(None, txn, Terms(policy=policy), standing(records, txn), txn.at, 0).card.habit.payments == 1  # type: ignore[arg-type]  # not None


def test_history_that_is_known_already_teaches_nothing() -> None:
    txn = payment()
    card = remember(txn)

    again, news = learn_past(card, Past(txn), Terms(policy=parse_policy("")), txn.at, 9)

    assert again.habit == card.habit
    assert again.attempts == card.attempts
    assert again.seen[HISTORY] == 9
    assert news == NONE
