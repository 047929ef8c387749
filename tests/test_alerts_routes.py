"""Which decisions raise an alert, for whom, and what is said about them."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegis_app.core.decision import Reason, Ruling, encode_decision
from aegis_app.core.payment import Outcome
from aegis_app.sinks.alerts import snoozes
from aegis_app.sinks.alerts.message import Decided, Raised, body, decode_decided, encode_message, encode_raised, message, title
from aegis_app.sinks.alerts.raising import why_not
from aegis_app.sinks.alerts.routes import Routes, RoutesError, parse_routes
from aegis_app.sinks.alerts.snoozes import Of, SnoozeError, Snoozes
from aegis_app.sinks.alerts.waiting import Group, Waiting
from tests.make import NOON, payment, record

KEY = "0123456789abcdef"
SOME = """
[destinations.cases]
kind = "webhook"
url = "http://127.0.0.1:9/hook"
key_env = "CASES_KEY"
[destinations.desk]
kind = "apprise"
url_env = "DESK_URL"
[routes.all]
to = ["cases"]
[routes.large]
to = ["desk", "cases"]
verdicts = ["block"]
reasons = ["card_testing", "deny_list"]
least_score = 0.5
least_minor = 100_00
"""


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASES_KEY", KEY)
    monkeypatch.setenv("DESK_URL", "mailto://127.0.0.1:9?from=a@example.com&to=b@example.com")


def decision(*, minute: float = 0, verdict: Outcome = Outcome.BLOCK, decided: datetime | None = None, **fields: Any) -> bytes:
    """As on `decisions`, a second after the payment."""
    paid = {name: fields.pop(name) for name in ("amount_minor", "currency", "card_id", "transaction_id", "timestamp") if name in fields}
    txn = payment(minute=minute, **{"amount_minor": 250_00} | paid)
    usual: dict[str, Any] = {
        "outcome": Outcome.ALLOW,
        "verdict": verdict,
        "score": 0.9,
        "reasons": [Reason("card_testing", "3 small amounts in 10 minutes")],
        "policy": "p",
        "decided_at": txn.timestamp + timedelta(seconds=1) if decided is None else decided,
        "features": {"amount": txn.amount_minor},
    }
    return encode_decision(txn, Ruling(**usual | fields))


def decided(**fields: Any) -> Decided:
    return decode_decided(decision(**fields))


def raised(destination: str = "cases", **fields: Any) -> Raised:
    found = decided(**fields)
    return Raised(destination=destination, routes=["all"], since=found.decided_at, decision=found.told())


def routes(text: str = SOME) -> Routes:
    return parse_routes(text, "alerts.toml", "EUR")


@pytest.mark.parametrize(
    ("fields", "desk"),
    [
        ({}, True),
        ({"verdict": Outcome.REVIEW}, False),
        ({"reasons": [Reason("velocity_1m", "6 payments")]}, False),
        ({"reasons": [Reason("velocity_1m", "6 payments"), Reason("deny_list", "stolen")]}, True),
        ({"reasons": []}, False),
        ({"score": 0.5}, True),
        ({"score": 0.49}, False),
        ({"score": 0.0}, False),
        ({"score": None}, True),
        ({"features": {"amount": 100_00}}, True),
        ({"features": {"amount": 99_99}}, False),
        ({"features": {"amount": 0}}, False),
        ({"features": {"amount": None}, "currency": "JPY"}, True),
        ({"features": None, "amount_minor": 99_99}, False),
        ({"features": None, "amount_minor": 1, "currency": "JPY"}, True),
    ],
)
def test_a_decision_goes_where_all_that_a_route_says_is_so_and_what_cannot_be_told_counts_as_so(fields: dict[str, Any], desk: bool) -> None:
    found = routes().about(decided(**fields))

    assert found == ({"cases": ["all", "large"], "desk": ["large"]} if desk else {"cases": ["all"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("url_env", "url_evn"), "line 8: destinations.desk.url_evn: Object contains unknown field"),
        (lambda text: text.replace('kind = "apprise"', 'kind = "pigeon"'), "line 7: destinations.desk.kind: Invalid value 'pigeon'"),
        (lambda text: text.replace('["desk", "cases"]', '["dest"]'), "line 12: routes.large.to: there is no destination 'dest'"),
        (lambda text: text.replace("card_testing", "card_tasting"), "line 14: routes.large.reasons: there is no reason 'card_tasting'"),
        (lambda text: text.replace("0.5", "1.5"), "line 15: routes.large.least_score: Expected `float` <= 1"),
        (lambda text: text.replace('["block"]', '["allow"]'), "line 13: routes.large.verdicts: nobody is told of what is allowed"),
        (lambda text: text.replace('["block"]', "[]"), "line 13: routes.large.verdicts: Expected `array` of length >= 1"),
        (lambda text: text.replace('to = ["cases"]', "to = 3"), "line 10: routes.all.to: Expected `array`"),
        (lambda text: text.replace('"desk", ', ""), "line 6: no route leads to desk"),
        (lambda text: text.replace('url_env = "DESK_URL"', ""), "line 6: destinations.desk: give either url, or url_env"),
        (lambda text: text.replace("DESK_URL", "AEGIS_URL"), "line 8: destinations.desk.url_env: AEGIS_URL is taken for a setting"),
        (lambda text: text.replace("DESK_URL", "NO_SUCH"), "line 8: destinations.desk.url_env: the environment has no NO_SUCH"),
        (lambda text: text.replace("http:", "ftp:"), "line 4: destinations.cases.url: a webhook's address begins with https://"),
        (lambda text: text.replace("127.0.0.1:9/", "me:secret@host/"), "line 4: destinations.cases.url: the address holds a password"),
        (
            lambda text: text.replace("[destinations.desk]", '[destinations."the desk"]'),
            "line 6: destinations.the desk: a destination's name",
        ),
        (lambda text: text + "[alarms]\n", "line 17: alarms: Object contains unknown field"),
        (lambda text: text.replace("[routes", "[ways"), "line 9: ways: Object contains unknown field"),
        (lambda text: text.replace("= 0.5", ""), "alerts.toml: Expected '=' after a key"),
    ],
)
def test_what_is_wrong_with_a_routes_file_is_said_with_its_line_and_entry(change: Callable[[str], str], message: str) -> None:
    with pytest.raises(RoutesError, match=re.escape(message)) as refused:
        routes(change(SOME))

    assert "secret" not in str(refused.value)


def test_a_short_key_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASES_KEY", "hunter2")

    with pytest.raises(RoutesError, match=r"line 5: destinations.cases.key_env: CASES_KEY is shorter than 16") as refused:
        routes()

    assert "hunter2" not in str(refused.value)


def test_the_page_sets_all_that_the_packaged_example_wants() -> None:
    page = (Path(__file__).parent.parent / "docs/alerts.md").read_text()
    example = files("aegis_app.sinks.alerts").joinpath("alerts.example.toml").read_text("utf-8")
    wanted = re.findall(r'^\w+_env = "(\w+)"', example, re.MULTILINE)

    assert len(wanted) > 1
    assert [name for name in wanted if not re.search(rf"^export .*\b{name}=", page, re.MULTILINE)] == []


def test_the_packaged_example_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERTS_CASES_KEY", KEY)
    monkeypatch.setenv("ALERTS_FRAUD_DESK_URL", "json://127.0.0.1")

    found = routes(files("aegis_app.sinks.alerts").joinpath("alerts.example.toml").read_text("utf-8"))

    assert found.routes.keys() == {"everything", "large-blocks", "testing"}
    assert found.about(decided(verdict=Outcome.REVIEW, reasons=[])) == {"cases": ["everything"]}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, None),
        ({"duplicate": True}, "duplicate"),
        ({"redriven": True}, "redriven"),
        ({"stale": True}, "stale"),
        ({"decided": NOON + timedelta(minutes=5)}, None),
        ({"decided": NOON + timedelta(minutes=5, milliseconds=1)}, "replayed"),
        ({"decided": NOON - timedelta(minutes=20)}, None),
        ({"card_id": "asleep"}, "snoozed"),
        ({"card_id": "asleep", "minute": 60}, None),
        ({"reasons": [Reason("velocity_1m", "6 payments")]}, "snoozed"),
        ({"reasons": [Reason("velocity_1m", "6 payments")], "minute": 30}, None),
        ({"reasons": [Reason("velocity_1m", "6 payments"), Reason("deny_list", "stolen")]}, None),
        ({"reasons": [Reason("velocity_1m", "6 payments"), Reason("model_amount", "3 times the usual")]}, "snoozed"),
        ({"reasons": [Reason("control", "by chance")]}, None),
        ({"reasons": []}, None),
        ({"minute": -60, "decided": NOON - timedelta(minutes=59)}, "snoozed"),
    ],
)
def test_nobody_is_told_of_what_nobody_waits_for_or_wants_to_hear(fields: dict[str, Any], why: str | None) -> None:
    sleeping = snoozed(snooze(Of.CARD, "asleep", hours=1), snooze(Of.RULE, "velocity_1m", hours=0.5), snooze(Of.ALL, "", hours=-0.5))

    assert why_not(decided(**fields), sleeping) == why


def test_a_later_word_about_a_snooze_replaces_the_one_before() -> None:
    sleeping = snoozed(snooze(Of.CARD, "card-1", hours=1), snooze(Of.CARD, "card-1", hours=0))

    assert why_not(decided(), sleeping) is None


@pytest.mark.parametrize(
    ("of", "value", "said"),
    [
        (Of.RULE, "nonsense", "'nonsense' is nothing that asks for a review or block"),
        (Of.RULE, "model_amount", "'model_amount' is nothing that asks for a review or block"),
        (Of.CARD, "", "a card or a rule has a name"),
        (Of.ALL, "card-1", "everything has none"),
        (Of.CARD, "4111 1111 1111 1111", "looks like a card number"),
    ],
)
def test_what_cannot_be_snoozed(of: Of, value: str, said: str) -> None:
    with pytest.raises(SnoozeError, match=said) as refused:
        snooze(of, value, hours=1).check(token=False)

    assert "4111" not in str(refused.value)


def test_garbage_on_the_topic_of_snoozes_wakes_nobody() -> None:
    sleeping = snoozed(snooze(Of.CARD, "card-1", hours=1))
    sleeping.apply([record(1, b"card:card-1", None), record(2, b"card:card-1", b"{}"), record(3, None, b"\xff")])

    assert why_not(decided(), sleeping) == "snoozed"


@pytest.mark.parametrize(("text", "length"), [("30m", timedelta(minutes=30)), ("8h", timedelta(hours=8)), ("7d", timedelta(days=7))])
def test_lengths_of_snoozes(text: str, length: timedelta) -> None:
    assert snoozes.parse_length(text) == length


@pytest.mark.parametrize("text", ["", "8", "0h", "-1h", "8 h", "1w", "999999d"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(SnoozeError, match="is no length of time"):
        snoozes.parse_length(text)


def test_decisions_about_a_card_are_one_message_by_an_id_that_does_not_depend_on_their_order() -> None:
    burst = [raised(minute=minute, amount_minor=10_00 + minute, score=None if minute == 3 else minute / 100) for minute in range(30)]

    alert = message(burst)

    assert alert == message(burst[::-1])
    assert (alert.count, alert.score, alert.verdict, alert.card_id) == (30, 0.29, Outcome.BLOCK, "card-1")
    assert alert.amounts_minor == {"EUR": sum(10_00 + minute for minute in range(30))}
    assert (alert.first_at, alert.last_at) == (NOON, NOON + timedelta(minutes=29))
    assert [told.decided_at for told in alert.decisions] == [NOON + timedelta(minutes=minute, seconds=1) for minute in range(20)]
    assert alert.id != message(burst[:-1]).id
    assert alert.id != message([msgspec.structs.replace(each, destination="desk") for each in burst]).id


def test_a_message_says_nothing_that_it_does_not_need() -> None:
    sent = msgspec.json.decode(encode_message(message([raised()])))

    assert sent == {
        "id": sent["id"],
        "destination": "cases",
        "routes": ["all"],
        "card_id": "card-1",
        "count": 1,
        "verdict": "block",
        "score": 0.9,
        "amounts_minor": {"EUR": 250_00},
        "first_at": "2026-03-04T12:00:00Z",
        "last_at": "2026-03-04T12:00:00Z",
        "decisions": [
            {
                "transaction_id": "t-2026-03-04T12:00:00+00:00",
                "card_id": "card-1",
                "timestamp": "2026-03-04T12:00:00Z",
                "amount_minor": 250_00,
                "currency": "EUR",
                "channel": "chip",
                "merchant_id": "baker",
                "country": "FR",
                "outcome": "allow",
                "verdict": "block",
                "score": 0.9,
                "reasons": [{"code": "card_testing", "text": "3 small amounts in 10 minutes"}],
                "decided_at": "2026-03-04T12:00:01Z",
            }
        ],
    }


def test_what_people_read_is_short() -> None:
    alert = message([raised(minute=minute, transaction_id=f"t{minute}") for minute in range(30)])

    assert title(alert) == "Aegis: block, 30 payments of card card-1"
    assert body(alert).splitlines() == [
        *(
            f"2026-03-04 12:0{minute}:00Z 250.00 EUR at baker, block, allow in effect: 3 small amounts in 10 minutes (t{minute})"
            for minute in range(5)
        ),
        "and 25 more until 2026-03-04 12:29:00Z; 7,500.00 EUR in all",
        f"Alert {alert.id}, by all",
    ]


def test_what_waits_is_what_was_put_there_and_not_taken_off() -> None:
    waiting = Waiting()
    waiting.apply([record(0, b"a", encode_raised(raised())), record(1, b"b", encode_raised(raised(minute=1)))])
    (first, second) = waiting.groups[Group("cases", "card-1")].values()

    waiting.apply([record(2, b"b", encode_raised(raised(card_id="card-2"))), record(3, b"c", b"{}"), record(4, None, b"")])

    assert (waiting.holds(first), waiting.holds(second)) == (True, False), "of the same key, the latest waits"
    assert {group.card_id: [*waits] for group, waits in waiting.groups.items()} == {"card-1": [b"a"], "card-2": [b"b"]}

    waiting.apply([record(5, b"a", None), record(6, b"b", None), record(7, b"never", None)])

    assert not waiting.groups
    assert not waiting.holds(first)


def snooze(of: Of, value: str, *, hours: float) -> snoozes.Snooze:
    return snoozes.Snooze(of=of, value=value, until=NOON + timedelta(hours=hours), reason="because", by="ana", at=NOON)


def snoozed(*each: snoozes.Snooze) -> Snoozes:
    found = Snoozes(token=False)
    found.apply([record(number, one.key.encode(), msgspec.json.encode(one)) for number, one in enumerate(each)])
    return found
