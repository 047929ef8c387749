"""What `bench/parties.py` recounts from the logs, on logs that are written here."""

from types import SimpleNamespace

from aegis_app.core.merchant_events import Credited, Events, encode_events
from aegis_app.core.screen import LABELS
from bench.parties import OnLog

AT = 1_780_000_000_000


def told(merchant: str, offset: int) -> SimpleNamespace:
    return SimpleNamespace(key=merchant.encode(), value=encode_events(Events(LABELS, 0, [Credited(offset, AT, 1, card=7)])))


def test_a_credit_that_comes_late_is_no_fault_of_a_label_told_again_and_a_fault_otherwise() -> None:
    first = [told("one", 5), told("other", 9)]
    again = OnLog([*first, told("one", 5), told("other", 5)])
    once = OnLog([*first, told("other", 5)])

    assert (again.repeated, again.late, again.wrong) == (1, {(LABELS, 0, 5): 1}, 0)
    assert (once.repeated, once.late, once.wrong) == (0, {}, 1)


def test_late_credits_are_learnt_by_nobody() -> None:
    log = OnLog([told("other", 9), told("other", 5)])

    assert log.memories()["other"] == OnLog([told("other", 9)]).memories()["other"]
