"""What strangers send: refused with a reason, and never with a card number."""

from datetime import datetime

import msgspec
import pytest
from msgspec.structs import replace

from aegis_app.core.fields import hinted, unknown_fields
from aegis_app.core.intake import HIDDEN, Past, Reason, Refused, encode_history, hide, hide_card_id, read_history, read_label, read_payment
from aegis_app.core.label import encode_label
from aegis_app.core.payment import encode_transaction, looks_like_card_number
from tests.make import NOON, label, payment

NUMBER = "4111111111111111"


@pytest.mark.parametrize(
    "text",
    [
        NUMBER,
        f"{NUMBER} 123",
        f"12 {NUMBER}",
        f"2026-01-05 {NUMBER}",
        f"{NUMBER}-12",
        f"{NUMBER}.",
        f"merchant.{NUMBER}",
        "4111.1111.1111.1111",
        "4111-1111-1111-1111",
        "4111  1111  1111  1111",
        '{"oops": "card 4111111111111111"',
    ],
)
def test_a_card_number_is_hidden_however_it_stands(text: str) -> None:
    hidden = hide(text.encode())

    assert HIDDEN in hidden
    assert b"1111" not in hidden


@pytest.mark.parametrize("text", ["48.8571234567890125", "4111111111111112", "1772625600123", '{"amount_minor":123456,"at":2026}'])
def test_other_numbers_stay(text: str) -> None:
    assert hide(text.encode()) == text.encode()


@pytest.mark.parametrize(
    "card_id",
    [
        NUMBER,
        "4111 1111 1111 1111",
        "4111  1111  1111  1111",
        " 4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111/1111/1111/1111",
        NUMBER.translate({ord(digit): chr(0xFF10 + int(digit)) for digit in NUMBER}),
        f"{NUMBER}-1227",
        f"{NUMBER}=2712101000000000",
        f"{NUMBER}D2712101",
        f";{NUMBER}=2712?",
        f"%B{NUMBER}^DOE/J^2712?",
        "123456789012",
    ],
)
def test_a_card_id_of_12_to_19_digits_is_a_card_number(card_id: str) -> None:
    assert looks_like_card_number(card_id)


@pytest.mark.parametrize("card_id", ["tok_4111111111111111", "12345678901", "12345678901234567890", "123456789012abc", "a", "-", "%B"])
def test_a_token_is_none(card_id: str) -> None:
    assert not looks_like_card_number(card_id)


CHANNELS = "chip, contactless, magstripe, online, phone, recurring, atm"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("channel", "web", f"Invalid enum value 'web', it is one of {CHANNELS} - at `$.channel`"),
        ("channel", NUMBER, f"Invalid enum value '{HIDDEN.decode()}', it is one of {CHANNELS} - at `$.channel`"),
        ("timestamp", "04.03.2026", "Invalid RFC3339 encoded datetime, as 2026-03-04T12:00:00Z - at `$.timestamp`"),
        (
            "timestamp",
            "2026-03-04T12:00:00",
            "Expected `datetime` with a timezone component, as 2026-03-04T12:00:00Z - at `$.timestamp`",
        ),
        ("amount_minor", "1", "Expected `int`, got `str` - at `$.amount_minor`"),
    ],
)
def test_what_is_wrong_with_a_field_says_what_would_be_right(field: str, value: str, said: str) -> None:
    record = msgspec.json.encode(msgspec.to_builtins(payment()) | {field: value})

    with pytest.raises(Refused) as refused:
        read_payment(record, b"card-1", 0, token=False)

    assert str(refused.value) == said


def test_a_payment_among_labels_is_called_one() -> None:
    with pytest.raises(Refused, match="this is a payment, no label"):
        read_label(encode_transaction(payment()), b"card-1", 0, token=False)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (encode_transaction(payment(attributes={"V1": 1.0})), []),
        (b'{"chanel": "online", "card_id": 3, "merchnt_id": null}', ["chanel", "merchnt_id"]),
        (b'{"Card_id": "c"}', ["Card_id"]),
        (b"[]", []),
        (b"{", []),
        (b'{"x": "\xff"}', ["x"]),
        (b'{"\xff": "x"}', []),
        (b'{"x": ' + b"[" * 100_000, []),
        (b"", []),
    ],
)
def test_fields_that_a_payment_does_not_have_are_found(value: bytes, names: list[str]) -> None:
    assert unknown_fields(value) == names


def test_an_unknown_name_is_told_with_the_one_it_resembles_and_without_card_numbers() -> None:
    assert [hinted(name) for name in ("merchnt_id", "shoe", NUMBER, "a\nb")] == [
        "merchnt_id (is it merchant_id?)",
        "shoe",
        HIDDEN.decode(),
        "'a\\nb'",
    ]
    assert len(hinted("x" * 1000)) == 64


def test_a_card_number_in_history_is_hidden_too() -> None:
    spaced = "4111  1111  1111  1111"
    value = encode_history(Past(payment(card_id=spaced)))

    with pytest.raises(Refused) as refused:
        read_history(value, spaced.encode(), payment().at, token=False)

    assert refused.value.reason is Reason.CARD_NUMBER
    assert b"1111" not in hide_card_id(value)


def test_digits_are_welcome_where_they_are_tokens() -> None:
    txn = payment(card_id=NUMBER)

    assert read_payment(encode_transaction(txn), NUMBER.encode(), txn.at, token=True) == txn


@pytest.mark.parametrize(("field", "value"), [("country", "DE\n"), ("currency", "EUR\n"), ("timestamp", "2100-01-01T00:00:00Z")])
def test_what_almost_fits_is_refused(field: str, value: str) -> None:
    record = msgspec.json.decode(encode_transaction(payment())) | {field: value}

    with pytest.raises(Refused):
        read_payment(msgspec.json.encode(record), b"card-1", payment().at, token=False)


SAID = msgspec.json.decode(encode_label(label(payment(), amount_minor=25_00, currency="EUR", labelled_by="ana", note="called")))


@pytest.mark.parametrize(
    ("fields", "reason", "says"),
    [
        ({"is_fraud": None}, Reason.INVALID, "is_fraud"),
        ({"source": "rumour"}, Reason.INVALID, "source"),
        ({"source": None}, Reason.INVALID, "source"),
        ({"labelled_at": "2026-03-05T12:00:00"}, Reason.INVALID, "labelled_at"),
        ({"labelled_at": "2026-03-04T11:59:59Z"}, Reason.INVALID, "labelled_at lies before the payment's timestamp"),
        ({"timestamp": "1999-12-31T00:00:00Z"}, Reason.INVALID, "before the year 2000"),
        ({"labelled_at": "2100-01-01T00:00:00Z"}, Reason.INVALID, "after 2099"),
        ({"labelled_at": "2026-03-05T18:00:00.001Z"}, Reason.FUTURE, "labelled_at lies 24.0 h ahead of the record's"),
        ({"labelled_at": "2026-03-06T18:00:00.001Z"}, Reason.FUTURE, "labelled_at lies 2 days ahead of the record's"),
        ({"currency": None}, Reason.INVALID, "amount_minor and currency come together"),
        ({"transaction_id": "a\nb"}, Reason.INVALID, "printable"),
        ({"card_id": "card-2"}, Reason.KEY, "not the card_id"),
        ({"card_id": NUMBER}, Reason.CARD_NUMBER, "looks like a card number"),
    ],
)
def test_a_label_that_cannot_be_taken_is_refused_with_a_reason(fields: dict[str, object], reason: Reason, says: str) -> None:
    written = label(payment()).known_at

    assert read_label(msgspec.json.encode(SAID), b"card-1", written, token=False).source == "analyst"
    with pytest.raises(Refused, match=says) as refused:
        read_label(msgspec.json.encode(SAID | fields), b"card-1", written, token=False)

    assert refused.value.reason is reason


def test_a_label_may_come_at_the_moment_of_its_payment_and_a_day_ahead_of_its_record() -> None:
    said = label(payment(), labelled_at=NOON)

    assert read_label(encode_label(said), b"card-1", said.known_at - 24 * 3_600_000, token=False) == said


def test_a_time_is_refused_a_day_ahead_of_its_record_and_not_before() -> None:
    txn, day = payment(), 24 * 3_600_000

    assert read_payment(encode_transaction(txn), b"card-1", txn.at - day, token=False) == txn
    for read, value in ((read_payment, encode_transaction(txn)), (read_history, encode_history(Past(txn)))):
        with pytest.raises(Refused, match="ahead of the record's"):
            read(value, b"card-1", txn.at - day - 1, token=False)


def test_a_time_without_a_zone_is_said_to_be_one() -> None:
    naive = datetime(2026, 3, 4, 12)  # noqa: DTZ001  # that is the mistake

    for fields in ({"timestamp": naive}, {"labelled_at": naive}):
        with pytest.raises(ValueError, match="has no time zone"):
            replace(label(payment()), **fields)
    with pytest.raises(ValueError, match="timestamp has no time zone"):
        replace(payment(), timestamp=naive)
