"""Data sets that others published, and any table by a mapping: what becomes of their columns."""

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aegis_app.core.payment import Channel, Kind, Transaction
from models.datasets import DatasetError, Part, Survey, layouts, read_payments
from models.datasets.parquet import pyarrow
from tests.test_datasets import DATA, handbook, kaggle, made_anew, written

pa, pq = pyarrow()

MAPPING = """
[fields]
card_id = "card"
amount = "paid"
timestamp = "at"
[label]
column = "label"
"""


def as_csv(path: Path) -> Path:
    """A parquet file's rows as CSV, beside it."""
    table = pq.read_table(path)
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.schema.names)
        writer.writerows(row.values() for row in table.to_pylist())
    return path.with_suffix(".csv")


def ulb(path: Path, **other: Any) -> Path:
    columns: dict[str, Any] = {"Time": pa.array([0, 0, 86_399], pa.int32())}
    columns |= {f"V{number}": [-1.5, -1.5, number / 8] for number in range(1, 29)}
    columns |= {"Amount": [149.62, 149.62, 0.0], "Class": pa.array([0, 0, 1], pa.int8()), "in_random_sample": [True, False, True]}
    return written(path, **(columns | other))


def paysim(path: Path, **other: Any) -> Path:
    columns = {
        "step": [1, 1, 25],
        "type": ["PAYMENT", "TRANSFER", "DEBIT"],
        "amount": [9839.64, 181.0, 5337.77],
        "nameOrig": ["C1231006815", "C1305486145", "C712410124"],
        "oldbalanceOrg": [170136.0, 181.0, 0.0],
        "newbalanceOrig": [160296.36, 0.0, 0.0],
        "nameDest": ["M1979787155", "C553264065", "C195600860"],
        "oldbalanceDest": [0.0, 0.0, 41898.0],
        "newbalanceDest": [0.0, 0.0, 40348.79],
        "isFraud": [0, 1, 0],
        "isFlaggedFraud": [0, 1, 1],
    }
    return written(path, **(columns | other))


def paysim_in_cents(path: Path) -> Path:
    table = pq.read_table(paysim(path))
    for name in ("amount", "oldbalanceOrg", "newbalanceOrig", "oldbalanceDest", "newbalanceDest"):
        cents = pa.array([round(value * 100) for value in table[name].to_pylist()], pa.int64())
        table = table.drop_columns([name]).append_column(name + "_cents", cents)
    pq.write_table(table.append_column("isUnauthorizedOverdraft", pa.array([0, 1, 1], pa.int8())), path)
    return path


@pytest.mark.parametrize("write", [handbook, kaggle, made_anew, ulb, paysim])
def test_a_table_says_the_same_as_csv_and_as_parquet(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / "table.parquet")
    whole = list(read_payments(path))

    assert list(read_payments(as_csv(path))) == whole
    parts = [example for number in range(2) for example in read_payments(as_csv(path), part=Part(number, 2))]
    assert sorted(map(repr, parts)) == sorted(map(repr, whole))


def test_ulb_drops_no_row_and_each_payment_is_of_a_card_of_its_own(tmp_path: Path) -> None:
    first, second, third = read_payments(ulb(tmp_path / "ulb.parquet"))

    assert [example.is_fraud for example in (first, second, third)] == [False, False, True]
    assert len({example.transaction.card_id for example in (first, second, third)}) == 3
    assert first.transaction.transaction_id != second.transaction.transaction_id  # and all else is equal
    assert third.transaction.timestamp == datetime(2013, 9, 1, 23, 59, 59, tzinfo=UTC)
    assert third.transaction.amount_minor == 0
    assert third.transaction.attributes == {f"V{number}": number / 8 for number in range(1, 29)}


@pytest.mark.parametrize("write", [paysim, paysim_in_cents])
def test_paysim_tells_what_is_known_before_the_payment_and_nothing_else(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    survey = Survey()
    payment, transfer, debit = read_payments(write(tmp_path / "paysim.parquet"), survey=survey)

    assert [example.is_fraud for example in (payment, transfer, debit)] == [False, True, False]
    assert payment.transaction == Transaction(
        transaction_id="paysim-1",
        card_id="C1231006815",
        amount_minor=9839_64,
        currency="EUR",
        timestamp=datetime(2019, 1, 1, tzinfo=UTC),
        payee_id="M1979787155",
        attributes={"balance_minor": 170136_00.0, "payee_balance_minor": 0.0},
    )
    assert [example.transaction.kind for example in (transfer, debit)] == [Kind.TRANSFER, Kind.CASH_OUT]
    assert debit.transaction.timestamp == datetime(2019, 1, 2, tzinfo=UTC)
    assert not survey.warnings


def test_what_gives_paysims_frauds_away_is_read_only_when_asked_for_and_with_a_warning(tmp_path: Path) -> None:
    survey = Survey()
    first, *_ = read_payments(paysim(tmp_path / "paysim.parquet"), format="paysim-leaky", survey=survey)

    assert first.transaction.attributes["balance_after_minor"] == 160296_36.0
    assert len(survey.warnings) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("C1,Ann,12.50,yesterday,0", "Invalid isoformat string: 'yesterday'"),
        ("C1,Ann,much,2026-03-01,0", "paid: 'much' is no number"),
        (",Ann,12.50,2026-03-01,0", "card is empty, which is the card_id"),
        ("C1,Ann,12.50,2026-03-01,maybe", "label is 'maybe', which is neither fraud"),
        ("C1,Ann,12.50,2026-03-01", "4 cells under 5 columns"),
        ('C1,"Ann,12.50,2026-03-01,0', "unexpected end of data"),
        ("C1,Ann,12.50,1999-12-31,0", "timestamp lies before the year 2000"),
        ("4111 1111 1111 1111,Ann,12.50,2026-03-01,0", "looks like a card number; give the mapping a card_key"),
        ("C1,Ann,12.50,2026-03-01,4111111111111111", r"label is '\[card number removed\]'"),
    ],
)
def test_a_bad_line_of_csv_is_named_by_its_number_in_the_file(tmp_path: Path, line: str, reason: str) -> None:
    path, mapping = tmp_path / "table.csv", tmp_path / "table.toml"
    path.write_text(f'card,name,paid,at,label\nC1,"Ann\nLee",12.50,2026-03-01,0\n\n{line}\n')
    mapping.write_text(MAPPING)
    reader = read_payments(path, format=str(mapping))

    assert next(reader).transaction.amount_minor == 12_50
    with pytest.raises(DatasetError, match=rf"table\.csv, line 5: .*{reason}") as caught:
        next(reader)
    assert "1111" not in str(caught.value)


def test_any_table_is_read_by_a_mapping(tmp_path: Path) -> None:
    path, mapping = tmp_path / "table.csv", tmp_path / "table.toml"
    path.write_text(
        "\ufeffid;card;paid;ccy;at;how;lat;lon;score;verdict\n"
        "a1;4111-1111-1111-1111;12.50;USD;01/03/2026 13:30;web;48.8;2.3;0.25;bad\n"
        "a2;4111111111111111;1250;JPY;01/07/2026 13:30;till;n/a;n/a;n/a;good\n"
        "a3;tok_1;3.5;USD;01/07/2026 13:30;till;1;2;0;n/a\n"
    )
    mapping.write_text(
        """
delimiter = ";"
empty = ["", "n/a"]
card_key = "sixteen or more characters"
[fields]
transaction_id = "id"
card_id = "card"
amount = "paid"
currency = "ccy"
timestamp = "at"
channel = "how"
latitude = "lat"
longitude = "lon"
[constants]
kind = "purchase"
country = "FR"
[words.channel]
web = "online"
till = "chip"
[attributes]
bureau = "score"
[label]
column = "verdict"
fraud = ["bad"]
genuine = ["good"]
[time]
format = "%d/%m/%Y %H:%M"
zone = "Europe/Paris"
"""
    )
    survey = Survey()
    first, second, third = read_payments(path, format=str(mapping), survey=survey)

    assert [example.is_fraud for example in (first, second, third)] == [True, False, None]
    assert first.transaction == Transaction(
        transaction_id="a1",
        card_id=first.transaction.card_id,
        amount_minor=12_50,
        currency="USD",
        timestamp=datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
        channel=Channel.ONLINE,
        country="FR",
        latitude=48.8,
        longitude=2.3,
        attributes={"bureau": 0.25},
    )
    assert second.transaction.card_id == first.transaction.card_id  # the same number, written otherwise
    assert "1111" not in first.transaction.card_id
    assert second.transaction.amount_minor == 1250
    assert second.transaction.timestamp == datetime(2026, 7, 1, 11, 30, tzinfo=UTC)
    assert (second.transaction.latitude, second.transaction.attributes) == (None, {})
    assert third.transaction.card_id == "tok_1"
    assert survey.missing == {"lat": 1, "lon": 1, "score": 1, "verdict": 1}


def test_a_token_of_a_card_number_cannot_be_guessed_without_the_key(tmp_path: Path) -> None:
    path, tokens = tmp_path / "table.csv", []
    path.write_text("card,paid,at,label\n4111111111111111,1,2026-03-01,0\n")
    for key in ("sixteen or more characters", "other secret, also long enough"):
        mapping = tmp_path / "table.toml"
        mapping.write_text(f'card_key = "{key}"\n{MAPPING}')
        tokens += [example.transaction.card_id for example in read_payments(path, format=str(mapping))]

    assert tokens[0] != tokens[1]


def test_numbers_tell_time_from_a_beginning(tmp_path: Path) -> None:
    path, mapping = tmp_path / "table.csv", tmp_path / "table.toml"
    path.write_text("paid,at\n1,0\n2,36.5\n")
    mapping.write_text(
        """
every_row_a_card = true
[fields]
amount_minor = "paid"
timestamp = "at"
[time]
unit = "hours"
since = 2020-01-01T00:00:00+01:00
"""
    )

    first, second = (example.transaction for example in read_payments(path, format=str(mapping)))

    assert (first.timestamp, second.timestamp) == (datetime(2019, 12, 31, 23, tzinfo=UTC), datetime(2020, 1, 2, 11, 30, tzinfo=UTC))
    assert (first.transaction_id, first.card_id, second.card_id) == ("row-1", "row-1", "row-2")


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ('card_id = "card"', 'card = "card"', "card is no field of a payment; is it card_id?"),
        ('card_id = "card"', "", "no column is card_id; .*every_row_a_card"),
        ('amount = "paid"', "", "one of amount"),
        ('timestamp = "at"', "", "no column is the timestamp"),
        ('amount = "paid"', 'amount = "label"', "label is the label, and cannot be anything else"),
        ('amount = "paid"', 'amount = "sum"', "no column sum"),
        ("[fields]", "delimiter = ';;'\n[fields]", "delimiter"),
        ("[fields]", "card_key = 'short'\n[fields]", "card_key"),
        ("[fields]", "colour = 1\n[fields]", "colour"),
        ("[label]", "[time]\nzone = 'Paris'\n[label]", "Paris"),
        ("[label]", "[time]\nsince = 2020-01-01T00:00:00\n[label]", "offset"),
        ("[label]", "[time\n[label]", "line"),
        ("[label]", "[label]\nfraud = ['0']", "0 cannot be both"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong(tmp_path: Path, before: str, after: str, error: str) -> None:
    path, mapping = tmp_path / "table.csv", tmp_path / "table.toml"
    path.write_text("card,paid,at,label\nC1,1,2026-03-01,0\n")
    assert before in MAPPING
    mapping.write_text(MAPPING.replace(before, after))

    with pytest.raises(DatasetError, match=error):
        list(read_payments(path, format=str(mapping)))


def test_what_is_out_of_range_is_left_out_and_told_if_a_payment_can_do_without_it(tmp_path: Path) -> None:
    path = made_anew(tmp_path / "anew.parquet", merch_lat_e6=pa.array([91_000_000, 0], pa.int32()))
    survey = Survey()
    first, second = (example.transaction for example in read_payments(path, survey=survey))

    assert (first.latitude, first.longitude) == (None, None)
    assert (second.latitude, second.longitude) == (0.0, -94.910494)
    assert list(survey.lines()) == ["latitude: 1 value left out, the first in row 1: Expected `float` <= 90.0"]


def test_what_is_no_number_in_a_column_that_may_lack_is_left_out_and_told(tmp_path: Path) -> None:
    path, mapping, survey = tmp_path / "table.csv", tmp_path / "table.toml", Survey()
    path.write_text("card,paid,at,label,score\nC1,1,2026-03-01,0,high\nC1,1,2026-03-01,0,0.5\nC1,1,2026-03-01,0,low\n")
    mapping.write_text(MAPPING + '[attributes]\nbureau = "score"\n')
    read = [example.transaction.attributes for example in read_payments(path, format=str(mapping), survey=survey)]

    assert read == [{}, {"bureau": 0.5}, {}]
    assert (survey.dropped["score"].number, survey.dropped["score"].place) == (2, "line 2")


def test_a_number_that_is_none_is_no_attribute(tmp_path: Path) -> None:
    path, survey = ulb(tmp_path / "ulb.parquet", V3=[float("nan"), None, float("inf")]), Survey()
    read = [example.transaction.attributes for example in read_payments(path, survey=survey)]

    assert [len(attributes) for attributes in read] == [27, 27, 27]
    assert survey.missing == {"V3": 1}
    assert survey.dropped["V3"].number == 2


def test_a_needed_field_is_never_left_out(tmp_path: Path) -> None:
    path = paysim(tmp_path / "paysim.parquet", type=["PAYMENT", "GIFT", "DEBIT"])

    with pytest.raises(DatasetError, match=r"paysim\.parquet, row 2: type 'GIFT'"):
        list(read_payments(path))


def test_surveys_of_parts_add_up_to_that_of_the_whole(tmp_path: Path) -> None:
    rows = 200
    path = made_anew(
        tmp_path / "anew.parquet",
        unix_time=list(range(1546300873, 1546300873 + rows)),
        cust_idx=[row % 7 for row in range(rows)],
        merchant=["m"] * rows,
        category=["gas_transport"] * rows,
        amt=[1.0] * rows,
        merch_lat_e6=[91_000_000 if row % 5 == 3 else 0 for row in range(rows)],
        merch_long_e6=[0] * rows,
        is_fraud=[None if row % 2 else 0 for row in range(rows)],
    )
    whole, total = Survey(), Survey()
    list(read_payments(path, survey=whole))
    for number in range(3):
        part = Survey()
        list(read_payments(path, part=Part(number, 3), survey=part))
        total.merge(part)

    assert total == whole
    assert whole.dropped["latitude"].place == "row 4"


def test_a_format_that_nobody_knows_is_answered_with_those_that_are() -> None:
    with pytest.raises(DatasetError, match=r"visa is not known; .*handbook, sparkov, ulb, paysim, paysim-leaky"):
        layouts("visa")


def test_a_format_that_is_said_must_fit_the_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"paysim\.parquet: no column TRANSACTION_ID, .* as Fraud-Detection-Handbook has"):
        list(read_payments(paysim(tmp_path / "paysim.parquet"), format="handbook"))
    with pytest.raises(DatasetError, match=r"--format handbook is for \.csv and \.parquet"):
        read_payments(tmp_path / "payments.jsonl", format="handbook")


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("ulb_creditcard_day1_partial", (17_882, 281, 17_882)),
        ("paysim_kaggle_excerpt", (3_000, 2, 3_000)),
        ("paysim_regenerated_steps_1_480", (1_111_537, 280, 6_140)),
    ],
)
def test_a_published_file_is_read_whole(name: str, counts: tuple[int, int, int]) -> None:
    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"the data is not here: {path}")
    number, frauds, cards, survey = 0, 0, set(), Survey()
    for example in read_payments(path, survey=survey):
        number += 1
        frauds += example.is_fraud is True
        cards.add(example.transaction.card_id)

    assert (number, frauds, len(cards)) == counts  # as pyarrow counts the columns
    assert not list(survey.lines())
