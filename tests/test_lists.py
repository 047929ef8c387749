"""What is listed about a payment, and what no list takes."""

import io
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_app.core.lists import Change, Entry, Key, ListError, ListName, Lists, Of, encode_entry
from aegis_app.core.payment import Transaction
from aegis_app.lists import Listed, make_entry, parse_until, read_file
from tests.make import NOON, entry, payment, record

VALUES = {of: ["FR", "JP"] if of is Of.COUNTRY else ["a", "b"] for of in Of}


@st.composite
def changes(draw: st.DrawFn) -> Change:
    of = draw(st.sampled_from(Of))
    key = Key(draw(st.sampled_from(ListName)), of, draw(st.sampled_from(VALUES[of])))
    if draw(st.booleans()):
        until = draw(st.sampled_from([None, NOON, NOON + timedelta(hours=1)]))
        return key, entry(*key, until=until, removed=draw(st.booleans()))
    return key, None


PAYMENTS = st.builds(
    payment,
    minute=st.sampled_from([-1, 0, 1, 60, 61]),
    card_id=st.sampled_from("ab"),
    merchant_id=st.sampled_from([None, "a", "b"]),
    device_id=st.sampled_from([None, "a", "b"]),
    payee_id=st.sampled_from([None, "a", "b"]),
    country=st.sampled_from([None, "FR", "JP"]),
)


@given(st.lists(st.lists(changes(), max_size=8), max_size=4), PAYMENTS)
def test_what_is_listed_about_a_payment_equals_a_scan_of_everything(chunks: list[list[Change]], txn: Transaction) -> None:
    lists, latest = Lists(), dict[Key, Entry | None]()
    for number, chunk in enumerate(chunks):
        lists = lists.changed(chunk, str(number))
        latest |= dict(chunk)
    listed = [each for each in latest.values() if each is not None and not each.removed]
    names = {Of.CARD: txn.card_id, Of.MERCHANT: txn.merchant_id, Of.DEVICE: txn.device_id, Of.COUNTRY: txn.country, Of.PAYEE: txn.payee_id}

    about = lists.about(txn)

    scanned = [each for each in listed if names[each.of] == each.value and (each.until is None or txn.timestamp < each.until)]
    assert sorted(about, key=str) == sorted(scanned, key=str)
    assert [each.list for each in about] == sorted((each.list for each in about), key=list(ListName).index)
    assert sum(lists.counts.values()) == len(listed)
    assert lists.counts.keys() == {(each.list, each.of) for each in listed}


def test_a_change_leaves_those_who_hold_the_lists_with_what_they_had() -> None:
    before = Lists().changed([(entry().key, entry())], "1")

    after = before.changed([(entry().key, None)], "2")

    assert [each.value for each in before.about(payment())] == ["card-1"]
    assert after.about(payment()) == ()
    assert (Lists().version, before.version, after.version) == (None, "1", "2")


def test_an_entry_ends_at_the_payments_time_whatever_the_clock_says() -> None:
    lists = Lists().changed([(entry().key, entry(until=NOON))], "1")

    assert [len(lists.about(payment(minute=minute))) for minute in (-1, 0, 1)] == [1, 0, 0]


@pytest.mark.parametrize("of", [of for of in Of if of is not Of.COUNTRY])
def test_a_card_number_is_refused_on_every_list_and_never_repeated(of: Of) -> None:
    with pytest.raises(ListError, match="looks like a card number") as refused:
        made(of=of, value="4111 1111 1111 1111")

    assert "4111" not in str(refused.value)


def test_where_card_ids_are_tokens_of_digits_cards_can_be_listed_and_nothing_else() -> None:
    assert made(value="4111111111111112", token=True).value == "4111111111111112"
    with pytest.raises(ListError):
        made(of="device", value="4111111111111112", token=True)


def test_a_card_number_in_a_reason_is_refused() -> None:
    with pytest.raises(ListError, match="reason holds a card number"):
        made(reason="copy of 4111-1111-1111-1111")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"untill": "2099-01-01"}, "'untill' is no field of an entry; fields are list, of, value"),
        ({"list": "ban"}, "Invalid enum value 'ban'"),
        ({"value": ""}, "length >= 1"),
        ({"value": "x" * 65}, "length <= 64"),
        ({"value": "a\nb"}, "printable"),
        ({"of": "country", "value": "fr"}, "two capital letters"),
        ({"until": "2099-01-01T00:00:00"}, "has no offset from UTC"),
        ({"until": "2026-03-03"}, "until lies before"),
    ],
)
def test_what_no_list_takes(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ListError, match=message):
        made(**fields)


def test_a_date_still_belongs_to_what_ends_then() -> None:
    assert parse_until("2026-12-31") == datetime(2027, 1, 1, tzinfo=UTC)
    assert parse_until("2026-12-31T12:00:00+01:00") == datetime(2026, 12, 31, 11, tzinfo=UTC)


def test_csv_and_json_lines_say_the_same_and_wrong_lines_are_named() -> None:
    as_csv = b'list,of,value,reason,until\r\ndeny,card,a,"lost, or stolen",2099-01-01\r\n\r\nallow,payee,b\r\ndeny,card,c,x,,,\r\n'
    as_json = b'{"list":"deny","of":"card","value":"a","reason":"lost, or stolen","until":"2099-01-01"}\n\n'
    as_json += b'{"list":"allow","of":"payee","value":"b"}\n[]'

    rows, lines = read(as_csv, is_csv=True), read(as_json, is_csv=False)

    assert rows[0] == (2, made(value="a", reason="lost, or stolen", until="2099-01-01"))
    assert lines[0] == (1, rows[0][1])
    assert [(number, str(error)) for number, error in rows[1:]] == [
        (4, "Object missing required field `reason`"),
        (5, "it has more cells than the header"),
    ]
    assert [(number, str(error)) for number, error in lines[1:]] == [
        (3, "Object missing required field `reason`"),
        (4, "it is no JSON object"),
    ]


def test_what_is_printed_as_json_can_be_imported_as_it_is() -> None:
    removed = entry(until=NOON + timedelta(days=1), removed=True)

    assert read(encode_entry(removed), is_csv=False) == [(1, removed)]


def test_a_file_that_is_no_csv_is_said() -> None:
    with pytest.raises(ListError, match="after line 1: no CSV in UTF-8"):
        read(b"list,of,value,reason\ndeny,card,\xff\xfe,x\n", is_csv=True)


def made(*, token: bool = False, **fields: Any) -> Entry:
    given = {"list": "deny", "of": "card", "value": "tok_1", "reason": "stolen"}
    return make_entry(given | fields, by="ana", at=NOON, token=token)


def read(content: bytes, *, is_csv: bool) -> list[tuple[int, Entry | ListError]]:
    return list(read_file(io.BytesIO(content), partial(make_entry, by="ana", at=NOON, token=False), is_csv=is_csv))


GARBAGE: dict[str, tuple[bytes, bytes]] = {
    "no key of ours": (b"tok_1", encode_entry(entry())),
    "a key that is not UTF-8": (b"deny:card:\xff", encode_entry(entry())),
    "an unknown list": (b"ban:card:card-1", encode_entry(entry())),
    "another's key": (b"deny:card:card-2", encode_entry(entry())),
    "no JSON": (b"deny:card:card-1", b"hello"),
    "not UTF-8": (b"deny:card:card-1", b'{"list": "\xff"}'),
    "half an entry": (b"deny:card:card-1", b'{"list": "deny", "of": "card", "value": "card-1"}'),
    "deep nesting": (b"deny:card:card-1", b'{"deep":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "a card number": (b"deny:card:4111111111111111", encode_entry(entry(value="4111111111111111"))),
}


@pytest.mark.parametrize(("key", "value"), GARBAGE.values(), ids=GARBAGE)
def test_a_record_that_cannot_be_read_changes_nothing_and_is_not_repeated_in_the_log(
    key: bytes, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    listed = Listed(token=False)
    listed.apply([record(0, b"deny:card:card-1", encode_entry(entry()))])

    listed.apply([record(1, key, value), record(2, b"watch:payee:p", encode_entry(entry("watch", "payee", "p")))])

    assert [each.value for each in listed.lists.about(payment(payee_id="p"))] == ["card-1", "p"]
    assert listed.lists.version == "3"
    assert "offset 1 is passed over" in caplog.text
    assert "4111" not in caplog.text


def test_a_tombstone_takes_an_entry_out() -> None:
    listed = Listed(token=False)
    listed.apply([record(0, b"deny:card:card-1", encode_entry(entry())), record(1, b"deny:card:card-1", None)])

    assert not listed.lists.counts


@pytest.mark.parametrize(
    "fields", [{"by": "4111111111111111"}, {"reason": "4111 1111 1111 1111"}, {"of": "device", "value": "dev-4111111111111111"}]
)
def test_a_card_number_is_on_no_list_wherever_it_stands(fields: dict[str, Any]) -> None:
    with pytest.raises(ListError, match="holds a card number") as refused:
        entry(**fields).check(token=True)

    assert "4111" not in str(refused.value)
