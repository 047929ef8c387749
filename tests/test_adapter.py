"""Flat objects of other systems, as payments."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_app.core.adapter import Unfit, adapt, read_flat
from aegis_app.core.intake import Refused
from aegis_app.core.payment import Transaction, encode_transaction, exponent
from tests.make import NOON

USUAL = {"transaction_id": "t1", "user_id": "u1", "merchant_id": "m1", "amount": Decimal("1500.00"), "timestamp": "2026-03-04T12:00:00Z"}


def adapted(**fields: Any) -> Transaction:
    """The usual body with `fields`; `...` leaves one out."""
    flat = {name: value for name, value in (USUAL | fields).items() if value is not ...}
    return adapt(flat, currency="EUR", new_id=lambda: "made", now=NOON)


def test_a_flat_body_is_a_payment() -> None:
    """As those send it who know users and whole units."""
    txn = adapted(hour=14, is_foreign=True, V1=-1.25, comment="left out", nothing=None)

    assert txn == Transaction(
        transaction_id="t1",
        card_id="u1",
        amount_minor=1500_00,
        currency="EUR",
        timestamp=NOON,
        merchant_id="m1",
        attributes={"hour": 14.0, "is_foreign": 1.0, "V1": -1.25},
    )


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        (1500, "EUR", 150000),
        (19.99, "EUR", 1999),
        ("19.99", "EUR", 1999),
        (" +1.5e3 ", "EUR", 150000),
        ("1.0000000000000000000000000000000", "EUR", 100),
        (Decimal("0.10"), "EUR", 10),
        (0, "EUR", 0),
        (1500, "JPY", 1500),
        (Decimal("1500.00"), "JPY", 1500),
        (Decimal("1.234"), "KWD", 1234),
    ],
)
def test_an_amount_becomes_minor_units_of_its_currency(amount: Any, currency: str, minor: int) -> None:
    assert adapted(amount=amount, currency=currency).amount_minor == minor


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"amount": Decimal("19.999")}, "amount", "more than the 2 decimals of EUR"),
        ({"amount": Decimal("0.5"), "currency": "JPY"}, "amount", "more than the 0 decimals of JPY"),
        ({"amount": -1}, "amount", "not between 0"),
        ({"amount": 1e300}, "amount", "not between 0"),
        ({"amount": Decimal("1e999999")}, "amount", "not between 0"),
        ({"amount": "1e-30"}, "amount", "more than the 2 decimals of EUR"),
        ({"amount": "1e-999999999"}, "amount", "more than the 2 decimals of EUR"),
        ({"amount": Decimal("1e-999999999")}, "amount", "more than the 2 decimals of EUR"),
        ({"amount": "1.0000000000000000000000000000001"}, "amount", "more than the 2 decimals of EUR"),
        ({"amount": "1e999999999999999999999"}, "amount", "no number"),
        ({"amount": "1_000"}, "amount", "no number"),
        ({"amount": "１２"}, "amount", "no number"),  # noqa: RUF001  # digits, but not ours
        ({"amount": "Infinity"}, "amount", "no number"),
        ({"amount": ..., "amount_minor": "1_000"}, "amount_minor", "no number"),
        ({"amount": ..., "amount_minor": "1e-999999999"}, "amount_minor", "no whole number"),
        ({"amount": True}, "amount", "no number"),
        ({"amount": "much"}, "amount", "no number"),
        ({"amount": float("nan")}, "amount", "no number"),
        ({"amount": ...}, "amount", "missing"),
        ({"amount": None}, "amount", "missing"),
        ({"amount": ..., "amount_minor": 1.5}, "amount_minor", "no whole number"),
        ({"timestamp": "noon"}, "timestamp", "no time"),
        ({"timestamp": 1772625600}, "timestamp", "no time"),
        ({"currency": "euro"}, "currency", "length"),
        ({"user_id": ""}, "card_id", "length"),
        ({"channel": "pigeon"}, "channel", "pigeon"),
        ({"attributes": [1]}, "attributes", "no object"),
        ({"attributes": {"V1": "x"}}, "V1", "no number"),
        ({"V1": float("inf")}, "V1", "too large"),
        ({"V1": 10**400}, "V1", "too large"),
        ({"latitude": 48.857}, None, "come together"),
        ({"card_number": "4111111111111111"}, "card_number", "never"),
        ({"reference": 4111111111111111}, "reference", "card number"),
        ({"reference": 4111111111111111.0}, "reference", "card number"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(fields: dict[str, Any], field: str | None, said: str) -> None:
    with pytest.raises(Unfit, match=said) as refused:
        adapted(**fields)

    assert refused.value.field == field
    assert "4111" not in str(refused.value)


def test_a_card_number_as_user_is_refused_unless_it_is_a_token() -> None:
    with pytest.raises(Refused, match="looks like a card number"):
        adapted(user_id=4111111111111111)

    flat = USUAL | {"user_id": "4111111111111111"}
    assert adapt(flat, currency="EUR", new_id=str, token=True).card_id == "4111111111111111"


def test_what_is_not_given_is_made() -> None:
    """An id, a card of its own, the time of asking."""
    txn = adapted(transaction_id=..., user_id=..., timestamp=...)

    assert (txn.transaction_id, txn.card_id, txn.timestamp) == ("made", "made", NOON)
    with pytest.raises(Unfit, match="timestamp: it is missing"):
        adapt({"amount": 1}, currency="EUR", new_id=lambda: "made")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"userid": "u1"}, "card_id: it is missing: card_id, or user_id; userid (is it user_id?) is not known"),
        ({"UserID": "u1"}, "card_id: it is missing: card_id, or user_id; UserID (is it user_id?) is not known"),
        ({"note": {"user_id": "u1"}}, "card_id: it is missing: card_id, or user_id; note is not known"),
    ],
)
def test_a_payment_whose_card_may_be_misspelt_does_not_stand_alone(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(Unfit) as refused:
        adapted(user_id=..., **fields)

    assert str(refused.value) == said
    assert adapted(user_id=..., hour=14, V1=None).card_id == "t1"


def test_where_no_payment_stands_alone_it_names_its_card() -> None:
    with pytest.raises(Unfit, match=r"card_id: it is missing: card_id, or user_id$"):
        adapt({"amount": 1, "V1": 2.5}, currency="EUR", new_id=str, now=NOON, alone=False)

    assert adapt({"amount": 1, "User_Id": 7}, currency="EUR", new_id=lambda: "made", now=NOON, alone=False).card_id == "7"


@pytest.mark.parametrize("text", ["2026-03-04T12:00:00", "2026-03-04 12:00:00", "2026-03-04T13:00:00+01:00", "2026-03-04T12:00:00Z"])
def test_a_time_without_an_offset_is_utc(text: str) -> None:
    assert adapted(timestamp=text).timestamp.astimezone(UTC) == datetime(2026, 3, 4, 12, tzinfo=UTC)


def test_names_are_read_in_either_case_and_the_fields_own_wins() -> None:
    txn = adapted(amount=..., Amount=2, card_id="c1", MCC=5411, Time=7)

    assert (txn.amount_minor, txn.card_id, txn.merchant_category, txn.attributes) == (200, "c1", "5411", {"Time": 7.0})


def test_a_payment_of_our_own_format_stays_as_it_is() -> None:
    txn = adapted(amount=..., amount_minor=150, channel="chip", latitude=48.5, longitude=2.5, attributes={"V1": 1})
    flat = read_flat(encode_transaction(txn))

    assert adapt(flat, currency="USD", new_id=str) == txn


def test_a_body_that_is_no_object_is_refused() -> None:
    for body in (b"", b"[]", b"{", b'{"a": 1e9999999999999999999999}', b'"\xff"', b"[" * 100_000):
        with pytest.raises(Refused):
            adapt(read_flat(body), currency="EUR", new_id=str)


@given(
    st.dictionaries(
        st.text(max_size=8) | st.sampled_from([*USUAL, "currency", "amount_minor", "latitude"]),
        st.from_type(object) | st.integers() | st.floats() | st.text(),
    )
)
def test_any_object_is_a_payment_or_refused(flat: dict[str, Any]) -> None:
    try:
        txn = adapt(flat, currency="EUR", new_id=lambda: "made", now=NOON)
    except (Unfit, Refused):
        return
    assert msgspec.json.decode(encode_transaction(txn), type=Transaction) == txn


@given(st.integers(0, 2**53), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_no_amount_is_rounded(minor: int, currency: str) -> None:
    amount = Decimal(minor).scaleb(-exponent(currency))

    assert adapted(amount=amount, currency=currency).amount_minor == minor
