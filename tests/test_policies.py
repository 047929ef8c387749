"""Policies as they follow one another on their topic, and how a file's mode is changed."""

import re
from pathlib import Path

import msgspec
import pytest
from aiokafka.structs import ConsumerRecord

from aegis_app.core.policy import Mode, PolicyError, State, parse_policy
from aegis_app.policies import Policies, Published, difference, local_policy, signed, surprises, with_mode
from aegis_app.settings import Settings
from tests.make import NOON, record

PACKAGED = local_policy(Settings()).text


def limit(most: int, comment: str = "") -> str:
    return f"[rules.velocity_1m]\nmost = {most}  # {comment}\n"


def published(offset: int, text: str, key: str | None = None) -> ConsumerRecord:
    value = Published(text=text, author="ana", note="because", at=NOON)
    return record(offset, (parse_policy(text).version if key is None else key).encode(), msgspec.json.encode(value), "policies")


def version(most: int) -> str:
    return parse_policy(limit(most)).version


def read(*records: ConsumerRecord) -> Policies:
    policies = Policies()
    policies.apply(list(records))
    return policies


def in_force(policies: Policies) -> str | None:
    return None if policies.latest is None else policies.latest.policy.version


def test_the_latest_is_in_force_and_nothing_while_there_is_none() -> None:
    policies = read()
    assert in_force(policies) is None

    for offset, most in enumerate((3, 5, 3)):
        policies.apply([published(offset, limit(most))])

        assert in_force(policies) == version(most)


def test_the_one_before_is_another_policy_than_the_one_in_force_and_leads_back() -> None:
    policies = read(published(0, limit(3)), published(1, limit(5)), published(2, limit(5, "with a comment")))
    assert policies.earlier() == policies.past[0]

    policies.apply([published(3, limit(3))])

    assert policies.earlier() == policies.past[2]
    assert read(published(0, limit(3))).earlier() is None
    assert read().earlier() is None


def test_the_one_before_is_no_copy_in_another_mode() -> None:
    good, bad = 'mode = "enforce"\n' + limit(3), limit(1)
    policies = read(published(0, good), published(1, f'mode = "enforce"\n{bad}'), published(2, f'mode = "observe"\n{bad}'))

    assert policies.earlier() == policies.past[0]


def test_compaction_changes_neither_what_is_in_force_nor_the_one_before() -> None:
    whole = read(published(0, limit(3)), published(1, limit(5)), published(2, limit(3)))
    compacted = read(published(1, limit(5)), published(2, limit(3)))

    assert whole.latest == compacted.latest
    assert whole.earlier() == compacted.earlier()


def test_a_tombstone_takes_a_policy_away_by_the_key_it_was_published_under() -> None:
    policies = read(published(0, limit(3)), published(1, limit(5), key="an older name"), record(2, b"an older name", None))

    assert in_force(policies) == version(3)


def test_a_policy_is_found_by_its_version_here_or_where_it_was_published() -> None:
    policies = read(published(0, limit(3), key="an older name"), published(1, limit(5)))

    assert policies.earlier("an older name") == policies.earlier(version(3)) == policies.past[0]
    assert policies.earlier("nonsense") is None


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"hello", "it is no policy"),
        (b'{"text": "\xff"}', "it is no policy"),
        (b'{"text": "mode = 1"}', "it is no policy"),
        (msgspec.json.encode(Published(text="mode = ", author="a", note="n", at=NOON)), "Invalid value"),
        (msgspec.json.encode(Published(text="[rules.next_years]", author="a", note="n", at=NOON)), "line 1: there is no rule 'next_years'"),
    ],
)
def test_a_record_that_cannot_be_read_leaves_the_policy_before_in_force_and_says_so(
    value: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    policies = read(published(0, limit(3)), record(1, b"later", value, "policies"))

    assert in_force(policies) == version(3)
    assert "policies, offset 1 is passed over, what was in force stays: " in caplog.text
    assert why in caplog.text


@pytest.mark.parametrize(("author", "note"), [("", "because"), ("ana", ""), ("ana", "x" * 501), ("a" * 101, "because")])
def test_what_workers_could_not_read_is_not_published(author: str, note: str) -> None:
    with pytest.raises(PolicyError, match="author and note are some words"):
        signed(limit(3), author=author, note=note, at=NOON)


@pytest.mark.parametrize(("author", "note"), [("ana", "blocks 4111 1111 1111 1111 too often"), ("4111111111111111", "because")])
def test_a_card_number_is_published_neither_as_author_nor_in_a_note(author: str, note: str) -> None:
    with pytest.raises(PolicyError, match="holds a card number") as refused:
        signed(limit(3), author=author, note=note, at=NOON)

    assert "4111" not in str(refused.value)


HEADS = ('mode = "observe"', "mode='observe'", ' "mode"   =  "observe"   # since Tuesday', "# mode = 'observe'", 'on_failure = "block"')


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("rest", ["", limit(3, "mode = 'observe'")])
@pytest.mark.parametrize("head", HEADS)
def test_another_mode_changes_that_line_alone(head: str, rest: str, mode: Mode) -> None:
    text = f"# Ours.\n{head}\n{rest}"

    changed = with_mode(text, mode)

    was, now = text.splitlines(), changed.splitlines()
    assert parse_policy(changed).mode is mode
    assert len(set(was) - set(now)) <= 1
    assert [line.partition("#")[2] for line in now][-len(was) :] == [line.partition("#")[2] for line in was]


def test_the_packaged_policy_keeps_its_comments_when_it_enforces() -> None:
    assert with_mode(PACKAGED, Mode.ENFORCE) == PACKAGED.replace('mode = "observe"', 'mode = "enforce"')


def test_a_mode_that_cannot_be_changed_in_place_is_refused() -> None:
    with pytest.raises(PolicyError, match='say mode = "enforce" on a line of its own'):
        with_mode('mode = """observe"""\n', Mode.ENFORCE)


def test_a_difference_names_each_entry_that_differs() -> None:
    old = parse_policy('mode = "observe"\n' + limit(3))
    new = parse_policy('mode = "enforce"\n[rules.velocity_1m]\nstate = "on"\nmost = 5\n')

    assert difference(old, new) == [
        ("mode", "observe", "enforce"),
        ("rules.velocity_1m.state", "shadow", "on"),
        ("rules.velocity_1m.most", 3, 5),
    ]
    assert difference(old, old) == []


ON = '[rules.velocity_1m]\nstate = "on"\n[rules.velocity_10m]\nstate = "on"\n'


@pytest.mark.parametrize(
    ("text", "surprising"),
    [
        (f'mode = "enforce"\n{ON}', []),
        ('mode = "enforce"\n[rules]\nvelocity_1m = {state = "shadow"}\nvelocity_10m = {state = "off"}\n', []),
        (ON, ["nothing would be enforced"]),
        (f'mode = "enforce"\n{limit(3)}', ["would be in shadow, because it gives them no state: velocity_1m, velocity_10m"]),
        ("", ["nothing would be enforced", "no state: velocity_1m, velocity_10m"]),
    ],
)
def test_what_a_file_would_end_without_a_word_about_it_is_found(text: str, surprising: list[str]) -> None:
    found = surprises(parse_policy(f'mode = "enforce"\n{ON}'), text)

    assert len(found) == len(surprising)
    assert all(part in sentence for part, sentence in zip(surprising, found, strict=True))


def test_where_nothing_is_on_or_enforced_nothing_can_end() -> None:
    assert surprises(parse_policy(limit(3)), "") == []


@pytest.mark.parametrize(
    ("now", "text", "surprising"),
    [
        ("", 'mode = "enforce"\n', ["only observed now would be enforced"]),
        ('[models]\nstate = "off"\n', "", ["models, now off, would be on"]),
        ('[models]\nstate = "shadow"\n', '[models]\nmost = "review"\n', ["models, now in shadow, would be on"]),
        ('[models]\nstate = "off"\n', '[models]\nstate = "on"\n', []),
        ("", '[models]\nstate = "off"\n', []),
    ],
)
def test_what_a_file_would_begin_is_found(now: str, text: str, surprising: list[str]) -> None:
    found = surprises(parse_policy(now), text)

    assert len(found) == len(surprising)
    assert all(part in sentence for part, sentence in zip(surprising, found, strict=True))


def test_the_table_of_the_packaged_policy_names_states_and_outcomes_that_its_rules_have() -> None:
    page = (Path(__file__).parent.parent / "docs/policy.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \((\w+)\):", page, re.MULTILINE))
    clauses = {clause.rule.name: clause for clause in local_policy(Settings()).policy.clauses}

    assert len(told) > 20
    assert told == {name: clauses[name].asks if clauses[name].state is State.ON else clauses[name].state for name in told}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('mode = "enforced"', "line 1: mode: Invalid enum value 'enforced', it is one of observe, enforce"),
        (
            '\n[rules.velocity_1m]\nstate = "shade"',
            "line 3: rules.velocity_1m.state: Invalid enum value 'shade', it is one of on, shadow, off",
        ),
        ('[rules.velocity_1m]\nasks = "stop"', "line 2: rules.velocity_1m.asks: Invalid enum value 'stop', it is one of review, block"),
    ],
)
def test_a_word_that_cannot_be_is_told_with_those_that_can(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as wrong:
        parse_policy(text, "p.toml")

    assert str(wrong.value) == f"p.toml, {said}"
