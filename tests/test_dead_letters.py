"""Dead letters on a real Kafka: listed, shown, and sent back once, each to where its key belongs."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from aegis_app.core.intake import Erase, Past, Reason, Refused, card_of, encode_history
from aegis_app.core.label import encode_label
from aegis_app.core.payment import encode_transaction
from aegis_app.dead_letters import Filed, Id, Origin, open_
from aegis_app.stream.letters import dead_letter
from aegis_app.stream.outbox import Outgoing
from aegis_app.topics import LARGEST_RECORD, REDRIVEN, Name, home
from tests.deployment import PARTITIONS, Deployment
from tests.make import label, payment

LETTERS = 1
"""The partition of the letters here."""


@pytest.fixture
def made(kafka: str, tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(kafka, tmp_path, f"letters-{uuid.uuid4().hex[:8]}") as made:
        yield made


def record(
    made: Deployment, *, offset: int, key: bytes | None = b"card-1", value: bytes | None = b"no json", **changed: Any
) -> ConsumerRecord:
    usual = {"topic": made.topic(Name.TRANSACTIONS), "partition": LETTERS, "timestamp": 0, "headers": []}
    fields = dict.fromkeys(ConsumerRecord.__dataclass_fields__) | usual | {"key": key, "value": value, "offset": offset} | changed
    return ConsumerRecord(**fields)


def readable(made: Deployment, *, offset: int, card: str = "card-1") -> ConsumerRecord:
    return record(made, offset=offset, key=card.encode(), value=encode_transaction(payment(card_id=card)))


def file(made: Deployment, *refusals: tuple[ConsumerRecord, Reason]) -> None:
    """Put letters on the topic as a worker does."""
    letters = [dead_letter(record, Refused(reason, f"because of {reason}")) for record, reason in refusals]
    made.put(Name.DEAD_LETTERS, LETTERS, [Outgoing(letter.key, letter.value, letter.headers) for letter in letters])


def listed(made: Deployment, *arguments: str) -> list[dict[str, Any]]:
    result = made.aegis("dead-letters", "list", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.kafka
def test_letters_are_listed_with_where_they_came_from_and_why(made: Deployment) -> None:
    topic = made.topic(Name.TRANSACTIONS)
    assert made.aegis("dead-letters", "list").stdout == "no dead letters\n"

    file(made, (record(made, offset=7), Reason.MALFORMED), (record(made, offset=9), Reason.KEY))

    first, second = listed(made)
    assert first | {"at": ""} == {
        "id": "1:0",
        "at": "",
        "origin": f"{topic}:1:7",
        "reason": "malformed",
        "attempts": 1,
        "error": "because of malformed",
        "redacted": False,
        "cut": False,
        "redriven": False,
    }
    assert listed(made, "--reason", "key") == [second]
    assert f"{topic}:1:9  key  attempt 1  because of key" in made.aegis("dead-letters", "list").stdout


@pytest.mark.kafka
def test_a_letter_is_shown_with_its_record_and_byte_for_byte(made: Deployment) -> None:
    file(made, (record(made, offset=7, value=b"caf\xe9\n"), Reason.MALFORMED))

    shown = json.loads(made.aegis("dead-letters", "show", "1:0", "--json").stdout)

    assert (shown["key"], shown["value"]) == ("card-1", "caf\\xe9\n")
    assert made.aegis("dead-letters", "show", "1:0", "--raw").stdout_bytes == b"caf\xe9\n"


@pytest.mark.kafka
@pytest.mark.parametrize("letter", ["1:5", "0:0", "99:0"])
def test_a_letter_that_does_not_exist_is_said_to_be_missing(made: Deployment, letter: str) -> None:
    file(made, (record(made, offset=7), Reason.MALFORMED))

    for command in ("show", "redrive"):
        result = made.aegis("dead-letters", command, letter)
        assert (result.exit_code, result.stderr) == (1, f"aegis: there is no letter {letter}; see `aegis dead-letters list --all`\n")


@pytest.mark.kafka
def test_redriven_records_go_home_as_they_were_and_only_once(made: Deployment) -> None:
    cards = [f"card-{number}" for number in range(20)]
    lost = [
        record(made, offset=offset, key=card.encode(), value=encode_transaction(payment(card_id=card))) for offset, card in enumerate(cards)
    ]
    file(made, *((each, Reason.PARTITION) for each in lost), (record(made, offset=99), Reason.MALFORMED))

    done = made.aegis("dead-letters", "redrive", "--all", "--reason", "partition", "--json")
    again = made.aegis("dead-letters", "redrive", "--all", "--reason", "partition", "--json")

    assert json.loads(done.stdout) == {"redriven": 20, "kept": {}}, done.output
    assert json.loads(again.stdout) == {"redriven": 0, "kept": {}}, again.output
    arrived = made.records(Name.TRANSACTIONS)
    assert {each.key: each.value for each in arrived} == {each.key: each.value for each in lost}
    assert len(arrived) == 20
    assert all(home(each.key, PARTITIONS) == each.partition for each in arrived)
    assert {each.headers for each in arrived} == {((REDRIVEN, f"1:{offset}".encode()), ("attempts", b"1")) for offset in range(20)}
    assert [letter["redriven"] for letter in listed(made, "--all")] == [True] * 20 + [False]
    assert [letter["id"] for letter in listed(made)] == ["1:20"]
    assert made.aegis("dead-letters", "list", "--reason", "partition").stdout == "no dead letters are open; 20 were sent back (--all)\n"


@pytest.mark.kafka
def test_a_letter_that_is_named_goes_again_and_its_attempts_are_counted(made: Deployment) -> None:
    lost = readable(made, offset=7)
    file(made, (lost, Reason.MALFORMED))

    for _ in range(2):
        assert made.aegis("dead-letters", "redrive", "1:0").stdout == "redrove 1 letter\n"

    back = made.records(Name.TRANSACTIONS)
    assert [each.value for each in back] == [lost.value] * 2
    file(made, (back[0], Reason.MALFORMED))
    assert [letter["attempts"] for letter in listed(made, "--all")] == [1, 2]
    assert [letter["attempts"] for letter in listed(made)] == [2]


@pytest.mark.kafka
def test_a_letter_with_a_wrong_key_stays_unless_it_gets_the_right_one(made: Deployment) -> None:
    txn = payment(card_id="card-7")
    wrong = record(made, offset=3, key=b"card-8", value=encode_transaction(txn))
    none = record(made, offset=4, key=None, value=encode_transaction(txn))
    file(made, (wrong, Reason.KEY), (none, Reason.KEY), (readable(made, offset=5, card="k"), Reason.MALFORMED))
    why = "has another key than its card_id, and would come back: redrive it with --rekey"

    named, everything = made.aegis("dead-letters", "redrive", "1:0"), made.aegis("dead-letters", "redrive", "--all")
    rekeyed = made.aegis("dead-letters", "redrive", "--all", "--rekey", "--json")

    assert (named.exit_code, named.stderr) == (1, f"aegis: 1:0 {why}\n")
    assert everything.stdout == f"redrove 1 letter; 2 cannot be\n  1:0 {why}\n  1:1 {why}\n"
    assert json.loads(rekeyed.stdout) == {"redriven": 2, "kept": {}}
    arrived = made.records(Name.TRANSACTIONS)
    assert sorted((each.key, each.value, each.partition) for each in arrived) == [
        *((b"card-7", encode_transaction(txn), home(b"card-7", PARTITIONS)) for _ in range(2)),
        (b"k", encode_transaction(payment(card_id="k")), home(b"k", PARTITIONS)),
    ]
    assert listed(made) == []


@pytest.mark.kafka
def test_what_still_cannot_be_read_stays_and_is_told_with_what_to_do(made: Deployment) -> None:
    """A worker would refuse it again; what an older one could not read, and this one can, goes."""
    txn = payment(card_id="c")
    values = {
        Name.TRANSACTIONS: encode_transaction(txn),
        Name.LABELS: encode_label(label(txn)),
        Name.HISTORY: encode_history(Past(txn)),
    }
    topics = [(made.topic(name), value) for name, value in values.items()]
    good = [record(made, offset=offset, topic=topic, key=b"c", value=value) for offset, (topic, value) in enumerate(topics)]
    bad = [record(made, offset=9, topic=topic, key=b"c", value=value[:-1]) for topic, value in topics]
    later = payment(card_id="c", timestamp=datetime.now(UTC) + timedelta(days=365))
    ahead = record(made, offset=10, key=b"c", value=encode_transaction(later))
    file(made, *((each, Reason.MALFORMED) for each in (*good, *bad)), (ahead, Reason.FUTURE))
    advice = "have its producer send it again as it should be, or upgrade Aegis"

    named, everything = made.aegis("dead-letters", "redrive", "1:0", "1:3"), made.aegis("dead-letters", "redrive", "--all")

    why = "still cannot be read, and would come back (malformed: Input data was truncated)"
    assert (named.exit_code, named.stderr) == (1, f"aegis: 1:3 {why}: {advice}\n")
    first, *rest = everything.stdout.splitlines()
    assert first == "redrove 3 letters; 4 cannot be"
    assert rest[:3] == [f"  1:{number} {why}: {advice}" for number in (3, 4, 5)]
    assert rest[3].startswith("  1:6 still cannot be read, and would come back (future: timestamp lies ")
    assert {name: [each.value for each in made.records(name)] for name in values} == {name: [value] for name, value in values.items()}
    assert [letter["id"] for letter in listed(made)] == ["1:3", "1:4", "1:5", "1:6"]


@pytest.mark.kafka
def test_what_can_be_read_by_now_and_has_a_wrong_key_gets_the_right_one(made: Deployment) -> None:
    file(made, (record(made, offset=3, key=None, value=encode_transaction(payment(card_id="c"))), Reason.INVALID))

    kept, rekeyed = (made.aegis("dead-letters", "redrive", "--all", *also) for also in ((), ("--rekey",)))

    assert kept.stdout.startswith("redrove 0 letters; 1 cannot be\n  1:0 has another key")
    assert rekeyed.stdout == "redrove 1 letter\n"
    assert [each.key for each in made.records(Name.TRANSACTIONS)] == [b"c"]


@pytest.mark.parametrize(
    ("value", "of_history"),
    [
        (encode_transaction(payment(card_id="c")), False),
        (encode_transaction(payment(card_id="c")).replace(b"{", b'{"transaction":"a field that no payment has",', 1), False),
        (encode_label(label(payment(card_id="c"))), False),
        (encode_history(Past(payment(card_id="c"))), True),
        (encode_history(Erase("c")), True),
    ],
    ids=["payment", "payment with more", "label", "past", "erase"],
)
def test_the_card_of_a_record_is_found_whatever_it_is(value: bytes, of_history: bool) -> None:
    assert card_of(value, of_history=of_history) == "c"


@pytest.mark.kafka
def test_redacted_and_cut_letters_are_refused_by_name_and_passed_over_otherwise(made: Deployment) -> None:
    with_number = record(made, offset=1, value=encode_transaction(payment(card_id="4111111111111111")))
    too_large = record(made, offset=2, value=b"x" * LARGEST_RECORD)
    file(made, (with_number, Reason.CARD_NUMBER), (too_large, Reason.MALFORMED), (readable(made, offset=3), Reason.MALFORMED))

    redacted, cut = (made.aegis("dead-letters", "redrive", "1:2", letter) for letter in ("1:0", "1:1"))

    assert (redacted.exit_code, cut.exit_code) == (1, 1)
    assert redacted.stderr == "aegis: 1:0 held a card number and was redacted: have its producer send the payment again, with a token\n"
    assert cut.stderr.startswith(f"aegis: 1:1 was too large and was cut ({LARGEST_RECORD} bytes, sha256 ")
    assert len(made.records(Name.TRANSACTIONS)) == 0  # all or nothing
    everything = made.aegis("dead-letters", "redrive", "--all")
    assert everything.stdout == f"redrove 1 letter; 2 cannot be\n{redacted.stderr}{cut.stderr}".replace("aegis:", " ")


@pytest.mark.kafka
def test_letters_of_another_deployment_are_not_sent_anywhere(made: Deployment) -> None:
    file(made, (record(made, offset=7, topic="elsewhere"), Reason.MALFORMED))

    result = made.aegis("dead-letters", "redrive", "--all")

    assert (result.exit_code, result.stderr) == (1, "aegis: elsewhere is no topic of this deployment: check AEGIS_TOPIC_PREFIX\n")


def filed(offset: int, origin: int, **known: Any) -> Filed:
    usual: dict[str, Any] = {"at": 0, "reason": "key", "error": "", "attempts": 1, "redacted": False, "cut": None}
    return Filed(id=Id(0, offset), origin=Origin("transactions", 0, origin), **usual | known)


def test_a_record_that_was_filed_twice_is_open_once() -> None:
    twice, other = (filed(0, 5), filed(1, 5)), filed(2, 6)

    assert open_([*twice, other]) == [twice[0], other]
    assert open_([filed(0, 5), filed(1, 5, redriven=True)]) == []
