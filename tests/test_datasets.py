"""Readers of payments from files: what they yield, and what they say about a file that is broken."""

import io
import subprocess
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from aegis_app.core.label import encode_label
from aegis_app.core.payment import Channel, Transaction, encode_transaction
from aegis_app.simulate import simulate
from models.datasets import DatasetError, Part, Survey, read_payments
from models.datasets.aegis import write_parquet
from models.datasets.amounts import minor_units
from models.datasets.parquet import CHUNK, pyarrow
from tests.make import label, payment

DATA = Path(__file__).parents[2] / "shared/data"
HANDBOOK = DATA / "handbook_2018-04-01_2018-08-31.parquet"
SPARKOV = DATA / "sparkov_regenerated_2019-01_2020-02.parquet"
KAGGLE = DATA / "sparkov_kaggle_excerpt.parquet"
pa, pq = pyarrow()

START = datetime(2026, 3, 1, tzinfo=UTC)


def payments(number: int) -> list[Transaction]:
    return [payment.transaction for payment in islice(simulate(500, 60, 9, START, fraud_rate=0.01), number)]


def lines(payments: Iterable[Transaction]) -> bytes:
    return b"".join(encode_transaction(txn) + b"\n" for txn in payments)


def written(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def handbook(path: Path, **other: Any) -> Path:
    columns = {
        "TRANSACTION_ID": pa.array([0, 1, 2], pa.int32()),
        "TX_DATETIME": pa.array([datetime(2018, 4, 1, 0, 0, second) for second in (31, 32, 33)], pa.timestamp("ms")),  # noqa: DTZ001  # as published
        "CUSTOMER_ID": pa.array([596, 4961, 2], pa.int16()),
        "TERMINAL_ID": pa.array([3156, 3412, 1365], pa.int16()),
        "TX_AMOUNT": [57.16, 85.64999999999999, 146.0],
        "TX_FRAUD": pa.array([0, 1, 0], pa.int8()),
        "TX_FRAUD_SCENARIO": pa.array([0, 3, 0], pa.int8()),
    }
    return written(path, **(columns | other))


def kaggle(path: Path, **other: Any) -> Path:
    columns = {
        "cc_num": pa.array([4_111_111_111_111_111, 4_111_111_111_111_111, 38_859_492_057_661], pa.int64()),
        "first": ["Ann", "Ann", "Bo"],
        "last": ["Lee", "Lee", "Roe"],
        "dob": ["1988-03-09", "1988-03-09", "1962-01-19"],
        "trans_num": ["0b24", "1f76", "a1a2"],
        "trans_date_trans_time": ["2019-01-01 00:00:18", "2019-01-01 00:00:44", "2019-01-01 00:00:51"],
        "unix_time": [1325376018, 1325376044, 1325376051],
        "merchant": ["fraud_Rippin", "fraud_Heller", "fraud_Lind"],
        "category": ["misc_net", "grocery_pos", "travel"],
        "amt": [4.97, 107.23, 0.1 + 0.2],
        "merch_lat": [36.01, 49.16, 43.15],
        "merch_long": [-82.05, -118.19, -112.15],
        "is_fraud": [0, 1, 0],
    }
    return written(path, **(columns | other))


def made_anew(path: Path, **other: Any) -> Path:
    columns = {
        "unix_time": pa.array([1546300873, 1546301158], pa.int32()),
        "cust_idx": pa.array([29, 735], pa.int16()),
        "merchant": pa.array(["fraud_Auer", "fraud_Buck"]).dictionary_encode(),
        "category": pa.array(["grocery_net", "gas_transport"]).dictionary_encode(),
        "amt": [127.02, 3.41],
        "merch_lat_e6": pa.array([42_397_753, 29_535_821], pa.int32()),
        "merch_long_e6": pa.array([-73_834_377, -94_910_494], pa.int32()),
        "is_fraud": pa.array([1, 0], pa.int8()),
    }
    return written(path, **(columns | other))


def test_json_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    wrote = payments(300)
    path = tmp_path / "payments.jsonl"
    path.write_bytes(lines(wrote))

    read = list(read_payments(path))

    assert [example.transaction for example in read] == wrote
    assert {example.is_fraud for example in read} == {None}


def test_an_open_file_is_read_as_it_comes_with_blank_lines_and_without_a_last_line_end() -> None:
    wrote = payments(3)
    stream = io.BytesIO(lines(wrote).replace(b"\n", b"\r\n\r\n").rstrip())

    assert [example.transaction for example in read_payments(stream)] == wrote


@pytest.mark.parametrize("of", [1, 3])
def test_a_byte_order_mark_hides_no_payment_from_any_part(tmp_path: Path, of: int) -> None:
    (tmp_path / "payments.jsonl").write_bytes(BOM_UTF8 + lines(payments(1)))
    survey = Survey()

    read = [[*read_payments(tmp_path / "payments.jsonl", part=Part(number, of), survey=survey)] for number in range(of)]

    assert [example.transaction for part in read for example in part] == payments(1)
    assert [bool(part) for part in read] == [Part(number, of).holds(payments(1)[0].card_id) for number in range(of)]


def test_an_array_is_told_how_to_become_lines(tmp_path: Path) -> None:
    (tmp_path / "payments.jsonl").write_bytes(b"[" + lines(payments(1)).strip() + b"]")

    with pytest.raises(DatasetError, match=r"line 1: .*; one record a line, .*: jq -c '\.\[\]' FILE makes that$"):
        list(read_payments(tmp_path / "payments.jsonl"))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"transaction_id": 1}', "transaction_id"),
        (b"{}", "missing required field"),
        (b"not json", "malformed"),
        (b'{"transaction_id": "\xff"}', "utf-8"),
        (b'{"unknown": ' + b"[" * 100_000, "recursion"),
        (encode_label(label(payment(), amount_minor=4250, currency="EUR")), "this is a label, no payment"),
    ],
)
def test_a_bad_line_is_named_after_the_good_ones_before_it(tmp_path: Path, bad: bytes, reason: str) -> None:
    path = tmp_path / "payments.jsonl"
    path.write_bytes(lines(payments(2)) + b"\n" + bad + b"\n" + lines(payments(1)))
    reader = read_payments(path)

    assert len(list(islice(reader, 2))) == 2
    with pytest.raises(DatasetError, match=rf"(?i)payments\.jsonl, line 4: .*{reason}"):
        next(reader)


def test_parquet_comes_back_as_it_was_written_over_several_chunks(tmp_path: Path) -> None:
    balances = Transaction(
        transaction_id="t", card_id="c", amount_minor=2**53, currency="JPY", timestamp=START, attributes={"balance": 12.5, "V1": -0.25}
    )
    wrote = [*payments(CHUNK + 10), balances]
    path = tmp_path / "payments.parquet"

    write_parquet(path, iter(wrote))

    assert [example.transaction for example in read_payments(path)] == wrote


def test_parquet_of_others_may_leave_columns_out_have_more_and_name_time_in_its_own_zone(tmp_path: Path) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    path = written(
        tmp_path / "some.parquet",
        card_id=["c"],
        note=["x"],
        transaction_id=["t"],
        currency=pa.array(["EUR"]).dictionary_encode(),
        amount_minor=pa.array([5], pa.int16()),
        timestamp=pa.array([noon], pa.timestamp("ns", tz="+02:00")),
        channel=["chip"],
    )

    (example,) = read_payments(path)

    assert example.transaction == Transaction(
        transaction_id="t", card_id="c", amount_minor=5, currency="EUR", timestamp=noon.astimezone(UTC), channel=Channel.CHIP
    )


def test_a_bad_row_is_named_whatever_the_chunk(tmp_path: Path) -> None:
    rows = CHUNK + 5
    path = written(
        tmp_path / "bad.parquet",
        transaction_id=[f"t{row}" for row in range(rows)],
        card_id=["c"] * rows,
        currency=["EUR"] * rows,
        amount_minor=[5] * (rows - 2) + [-1, 5],
        timestamp=[START] * rows,
    )

    with pytest.raises(DatasetError, match=rf"bad\.parquet, row {rows - 1}: .*amount_minor"):
        list(read_payments(path))


def test_the_handbook_becomes_payments_with_labels_and_the_scenario_nowhere(tmp_path: Path) -> None:
    read = list(read_payments(handbook(tmp_path / "handbook.parquet")))

    assert [example.is_fraud for example in read] == [False, True, False]
    assert [example.transaction.amount_minor for example in read] == [57_16, 85_65, 146_00]
    assert read[0].transaction == Transaction(
        transaction_id="0",
        card_id="596",
        amount_minor=57_16,
        currency="EUR",
        timestamp=datetime(2018, 4, 1, 0, 0, 31, tzinfo=UTC),
        merchant_id="3156",
    )
    others = read_payments(handbook(tmp_path / "others.parquet", TX_FRAUD_SCENARIO=pa.array([1, 1, 1], pa.int8())))
    assert [example.transaction for example in others] == [example.transaction for example in read]
    assert [example.fraud_type for example in read] == [None, "3", None]


def test_the_handbook_without_labels_is_unlabelled(tmp_path: Path) -> None:
    path = handbook(tmp_path / "handbook.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["TX_FRAUD", "TX_FRAUD_SCENARIO"]), path)

    assert [example.is_fraud for example in read_payments(path)] == [None, None, None]


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"TX_AMOUNT": [1.0, float("nan"), 1.0]}, 2),
        ({"TX_AMOUNT": [1.0, 1.0, -1.0]}, 3),
        ({"TX_AMOUNT": [1.005, 1.0, 1.0]}, 1),
        ({"TX_AMOUNT": [1.0, None, 1.0]}, 2),
        ({"CUSTOMER_ID": [None, 1, 2]}, 1),
        ({"TX_DATETIME": pa.array([None, 1_600_000_000_000, None], pa.timestamp("ms"))}, 1),
    ],
)
def test_a_bad_row_of_the_handbook_is_named(tmp_path: Path, columns: dict[str, Any], row: int) -> None:
    with pytest.raises(DatasetError, match=rf"handbook\.parquet, row {row}: "):
        list(read_payments(handbook(tmp_path / "handbook.parquet", **columns)))


def test_sparkov_of_kaggle_becomes_payments_at_their_time_of_payment(tmp_path: Path) -> None:
    first, second, third = read_payments(kaggle(tmp_path / "kaggle.parquet"))

    assert [example.is_fraud for example in (first, second, third)] == [False, True, False]
    assert first.transaction == Transaction(
        transaction_id="0b24",
        card_id=first.transaction.card_id,
        amount_minor=4_97,
        currency="USD",
        timestamp=datetime(2019, 1, 1, 0, 0, 18, tzinfo=UTC),
        channel=Channel.ONLINE,
        merchant_id="fraud_Rippin",
        merchant_category="misc_net",
        country="US",
        latitude=36.01,
        longitude=-82.05,
    )
    assert [example.transaction.channel for example in (second, third)] == [Channel.CHIP, Channel.CHIP]
    assert third.transaction.amount_minor == 30


def test_card_numbers_of_kaggle_stay_in_the_reader_and_rounded_ones_do_not_join_cards(tmp_path: Path) -> None:
    rounded = kaggle(tmp_path / "rounded.parquet", cc_num=[4.1e15, 4.1e15, 4.1e15])
    payments = [example.transaction for example in [*read_payments(kaggle(tmp_path / "kaggle.parquet")), *read_payments(rounded)]]

    assert not [txn for txn in payments if b"4111111111" in encode_transaction(txn) or b"38859492" in encode_transaction(txn)]
    ann, again, bo, *_ = (txn.card_id for txn in payments)
    assert ann == again != bo
    assert payments[3].card_id == payments[4].card_id != payments[5].card_id


def test_sparkov_made_anew_becomes_payments_whose_ids_do_not_depend_on_the_cut(tmp_path: Path) -> None:
    path = made_anew(tmp_path / "whole.parquet")
    first, second = read_payments(path)
    pq.write_table(pq.read_table(path).slice(1), tmp_path / "tail.parquet")

    assert (first.is_fraud, second.is_fraud) == (True, False)
    assert first.transaction == Transaction(
        transaction_id=first.transaction.transaction_id,
        card_id="29",
        amount_minor=127_02,
        currency="USD",
        timestamp=datetime(2019, 1, 1, 0, 1, 13, tzinfo=UTC),
        channel=Channel.ONLINE,
        merchant_id="fraud_Auer",
        merchant_category="grocery_net",
        country="US",
        latitude=42.397753,
        longitude=-73.834377,
    )
    assert second.transaction.channel is Channel.CHIP
    assert list(read_payments(tmp_path / "tail.parquet")) == [second]
    assert first.transaction.transaction_id != second.transaction.transaction_id


@pytest.mark.parametrize("columns", [{"category": ["misc_net", None]}, {"amt": [1.0, 1.005]}])
def test_a_bad_row_of_sparkov_is_named(tmp_path: Path, columns: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match=r"anew\.parquet, row 2: "):
        list(read_payments(made_anew(tmp_path / "anew.parquet", **columns)))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_parts_together_are_the_file_and_no_card_is_in_two(tmp_path: Path, suffix: str) -> None:
    path, wrote = tmp_path / f"payments.{suffix}", payments(CHUNK + 10)
    if suffix == "jsonl":
        path.write_bytes(lines(wrote))
    else:
        write_parquet(path, wrote)

    parts = [[example.transaction for example in read_payments(path, part=Part(number, 3))] for number in range(3)]

    place = {txn.transaction_id: number for number, txn in enumerate(wrote)}
    assert sorted((txn for part in parts for txn in part), key=lambda txn: place[txn.transaction_id]) == wrote
    assert all(part == sorted(part, key=lambda txn: place[txn.transaction_id]) for part in parts)
    cards = [{txn.card_id for txn in part} for part in parts]
    assert sum(map(len, cards)) == len(set.union(*cards))
    assert min(map(len, cards)) > 50  # each has its share


def test_a_bad_line_or_row_is_of_one_part_and_keeps_its_number(tmp_path: Path) -> None:
    wrote = payments(40)
    (tmp_path / "some.jsonl").write_bytes(lines(wrote[:30]) + b"no json\n" + lines(wrote[30:]))
    rows = handbook(tmp_path / "handbook.parquet", CUSTOMER_ID=[596, None, 2])

    for path, place in ((tmp_path / "some.jsonl", "line 31"), (rows, "row 2")):
        list(read_payments(path, part=Part(1, 2)))
        with pytest.raises(DatasetError, match=place):
            list(read_payments(path, part=Part(0, 2)))


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        (57.16, "EUR", 5716),
        (1.15, "EUR", 115),
        (8.2, "EUR", 820),
        (0.29, "EUR", 29),
        (85.64999999999999, "EUR", 8565),
        (Decimal("90071992547409.91"), "EUR", 9007199254740991),
        (146.0, "JPY", 146),
        (1.234, "KWD", 1234),
        (0.0, "EUR", 0),
    ],
)
def test_amounts_become_minor_units_without_float_error(amount: float | Decimal, currency: str, minor: int) -> None:
    assert minor_units(amount, currency) == minor


@pytest.mark.parametrize(("amount", "currency"), [(57.16, "JPY"), (1.005, "EUR"), (float("inf"), "EUR"), (float("nan"), "EUR")])
def test_an_amount_that_minor_units_cannot_hold_is_refused(amount: float, currency: str) -> None:
    with pytest.raises(ValueError, match=str(amount)):
        minor_units(amount, currency)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            ["what"],
            "columns of no data set that `aegis datasets` lists; it has what; any table is read by --format MAPPING.toml (docs/schema.md)",
        ),
        (
            ["transaction_id", "card_id", "amount", "timestamp"],
            "columns of no data set that `aegis datasets` lists; it is not Aegis, without amount_minor, currency; "
            "it has transaction_id, card_id, amount, timestamp; any table is read by --format MAPPING.toml (docs/schema.md)",
        ),
        (
            ["transaction_id", "card_id", "amount_minor", "currency", "timestamp", "verdict", "attributes", "kind"],
            "these payments are described already, by `aegis features` or `aegis ledger export`: for `aegis train`",
        ),
    ],
)
def test_columns_of_no_known_data_set_are_refused_with_the_nearest(tmp_path: Path, columns: list[str], said: str) -> None:
    path = written(tmp_path / "what.parquet", **{name: [1] for name in columns})

    with pytest.raises(DatasetError) as refused:
        list(read_payments(path))

    assert str(refused.value) == f"{path}: {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "card;amount;at\n1;2;3\n",
            "it has card;amount;at (what stands between columns may be ';': a mapping file says so with `delimiter`); ",
        ),
        ("card\tamount\n1\t2\n", "may be '\\t': a mapping"),
        ("a;b,c\n1,2\n", "it has a;b, c; any table"),
        ("4111111111111111,25\n", "it has [card number removed], 25; "),
        (",".join(f"c{number}" for number in range(30)), "c19, and 10 more; "),
        ("", "it has none; "),
    ],
)
def test_the_columns_that_a_file_has_are_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "what.csv").write_text(text)

    with pytest.raises(DatasetError) as refused:
        list(read_payments(tmp_path / "what.csv"))

    assert said in str(refused.value)


@pytest.mark.parametrize("line", [1, 2, 3, 4000])
def test_a_byte_that_is_not_utf_8_is_named_by_its_line(tmp_path: Path, line: int) -> None:
    rows = [b"transaction_id,card_id,amount_minor,currency,timestamp,merchant_id"]
    rows += [b"t%d,card,1,EUR,2026-03-04T12:00:00Z,m" % number for number in range(5000)]
    rows[line - 1] += "ö".encode("latin-1")
    (tmp_path / "latin.csv").write_bytes(b"\n".join(rows))

    with pytest.raises(
        DatasetError, match=rf"latin\.csv, line {line}: byte {len(rows[line - 1])}, 0xf6, is not UTF-8; save the file as UTF-8"
    ):
        list(read_payments(tmp_path / "latin.csv"))


def test_a_suffix_that_tells_nothing_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"payments\.xls: .*\.jsonl.*\.parquet"):
        read_payments(Path("payments.xls"))


def test_a_file_that_only_claims_to_be_parquet_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "claims.parquet"
    path.write_bytes(lines(payments(1)))

    with pytest.raises(DatasetError, match=r"^\S+claims\.parquet: .+$"):
        list(read_payments(path))


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    for name in ("none.parquet", "none.jsonl"):
        with pytest.raises(FileNotFoundError):
            list(read_payments(tmp_path / name))


def test_without_pyarrow_json_lines_are_read_and_parquet_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_bytes(lines(payments(1)))
    (tmp_path / "one.parquet").touch()
    program = """
import sys
sys.modules["pyarrow"] = None
from pathlib import Path
from models.datasets import DatasetError, Part, read_payments
print(len(list(read_payments(Path(sys.argv[1]) / "one.jsonl"))))
try:
    list(read_payments(Path(sys.argv[1]) / "one.parquet"))
except DatasetError as error:
    print(error)
"""

    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, cwd=root)

    assert done.stdout.splitlines() == [
        "1",
        "parquet needs pyarrow: in the checkout, pip install --require-hashes -r requirements/data.txt",
    ]
    pinned = [line for line in (root / "requirements/dev.txt").read_text().splitlines() if line.startswith("pyarrow==")]
    assert pinned[0] in (root / "requirements/data.txt").read_text()


@pytest.mark.skipif(not HANDBOOK.exists(), reason=f"the handbook's data is not here: {HANDBOOK}")
def test_the_published_handbook_is_read_whole() -> None:
    number, frauds, cards, last = 0, 0, set(), datetime(2018, 4, 1, tzinfo=UTC)
    for example in read_payments(HANDBOOK):
        number += 1
        frauds += example.is_fraud is True
        cards.add(example.transaction.card_id)
        assert example.transaction.timestamp >= last
        last = example.transaction.timestamp

    assert (number, frauds, len(cards)) == (1_466_282, 12_134, 4_989)  # as pyarrow counts the columns


@pytest.mark.skipif(not SPARKOV.exists(), reason=f"Sparkov's data is not here: {SPARKOV}")
def test_sparkov_is_read_whole() -> None:
    number, frauds, cards = 0, 0, set()
    for example in read_payments(SPARKOV):
        number += 1
        frauds += example.is_fraud is True
        cards.add(example.transaction.card_id)

    assert (number, frauds, len(cards)) == (1_026_349, 5_745, 957)  # as pyarrow counts the columns


@pytest.mark.skipif(not KAGGLE.exists(), reason=f"Kaggle's data is not here: {KAGGLE}")
def test_the_excerpt_of_kaggle_is_read_whole() -> None:
    read = list(read_payments(KAGGLE))

    assert (len(read), sum(example.is_fraud is True for example in read)) == (3000, 6)
    assert len({example.transaction.card_id for example in read}) == 821  # people; their rounded card numbers are 298
