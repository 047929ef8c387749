"""`aegis evaluate handbook` on payments in the handbook's columns, of which every fraud is a large amount."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from aegis_app.cli import main
from aegis_app.core.features import CATALOGUE, GROUPS
from aegis_app.core.payment import encode_transaction
from aegis_app.core.policy import parse_policy
from aegis_app.core.replay import replay
from aegis_app.core.terms import Terms
from bench import groups
from models.bundle import read_manifest
from models.datasets import Example, read_payments
from models.datasets.parquet import pyarrow
from models.evaluation import Week
from models.evaluation.handbook import describe, frauds, reach, read_described
from models.evaluation.known import known
from models.serving import serve
from models.training import read_sample
from models.training.sample import DAY_MS
from tests.conftest import Trained
from tests.make import payment

pa, pq = pyarrow()
BEGIN = datetime(2018, 4, 1, tzinfo=UTC)
TEST_START = BEGIN + timedelta(days=17)
PER_DAY = 100


def file(path: Path, days: int = 31, seed: int = 1, **other: Any) -> Path:
    random, number = np.random.default_rng(seed), days * PER_DAY
    is_fraud = random.random(number) < 0.02
    # A card with a fraud is out of the test later on, so there are many.
    columns = {
        "TRANSACTION_ID": np.arange(number),
        "TX_DATETIME": [datetime(2018, 4, 1) + timedelta(seconds=place * 86_400 / PER_DAY) for place in range(number)],  # noqa: DTZ001  # as published
        "CUSTOMER_ID": random.integers(0, 1000, number),
        "TERMINAL_ID": random.integers(0, 50, number),
        "TX_AMOUNT": np.round(random.uniform(1, 200, number) + 220 * is_fraud, 2),
        "TX_FRAUD": is_fraud.astype(np.int8),
        "TX_FRAUD_SCENARIO": is_fraud.astype(np.int8),
    }
    pq.write_table(pa.table(columns | other), path)
    return path


def evaluated(data: Path, *more: str, begin: datetime = BEGIN) -> Result:
    start, test = f"{begin:%Y-%m-%d}", f"{begin + timedelta(days=17):%Y-%m-%d}"
    protocol = ["--train-start", start, "--train-days", "10", "--test-start", test, "--resamples", "20"]
    return CliRunner().invoke(main, ["evaluate", "handbook", "--data", str(data), *protocol, *more])


def quickly(data: Path, *more: str, begin: datetime = BEGIN) -> Result:
    """Without the layers that take long to train."""
    return evaluated(data, "--layer", "rules", "--layer", "supervised", *more, begin=begin)


def test_every_layer_has_its_figures_with_intervals_and_those_of_each_week(tmp_path: Path) -> None:
    done = evaluated(file(tmp_path / "data.parquet"), "--weeks", "2", "--json", str(tmp_path / "out.json"))

    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out.json").read_bytes())
    names = {"roc_auc", "average_precision", "card_precision_100"}
    names |= {f"{what}_at_fpr_{rate}" for what in ("recall", "precision", "value_weighted_recall") for rate in (0.001, 0.005, 0.01)}
    layers = {"rules", "isolation_forest", "autoencoder", "supervised", "unsupervised", "unsupervised_label_free", "ensemble"}
    assert set(found) == {"data", "weeks", "published"} | layers
    for layer in layers:
        assert set(found[layer]) == names | {"intervals"}
        assert set(found[layer]["intervals"]) == names
    assert [week["test_start"] for week in found["weeks"]] == ["2018-04-18", "2018-04-25"]
    assert [week["train_start"] for week in found["weeks"]] == ["2018-04-01", "2018-04-08"]
    single = [week["supervised"]["average_precision"] for week in found["weeks"]]
    assert found["supervised"]["average_precision"] == pytest.approx(sum(single) / 2)
    assert min(found[layer]["roc_auc"] for layer in ("supervised", "ensemble")) > 0.95  # amounts tell
    assert min(found[layer]["roc_auc"] for layer in layers - {"rules"}) > 0.7
    low, high = found["supervised"]["intervals"]["roc_auc"]
    assert low <= found["supervised"]["roc_auc"] <= high
    assert "supervised" in done.output
    assert found["published"]["random forest"]["average_precision"] == 0.658
    assert found["published"]["perfect detector"]["roc_auc"] == [0.89, 0.9]
    assert done.output.splitlines()[-1].split("  ")[0] == "a perfect detector"


def test_json_to_stdout_is_all_of_it_and_the_same_again(tmp_path: Path) -> None:
    data = file(tmp_path / "data.parquet")
    first, again = (quickly(data, "--json", "-").stdout for _ in range(2))

    assert set(json.loads(first)) >= {"rules", "supervised"}
    assert first == again


def scores(data: Path, out: Path) -> dict[str, list[Any]]:
    done = quickly(data, "--scores", str(out))
    assert done.exit_code == 0, done.output
    columns: dict[str, list[Any]] = pq.read_table(out).to_pydict()
    return columns


def test_scores_do_not_depend_on_what_is_known_only_later(tmp_path: Path) -> None:
    known = pq.read_table(file(tmp_path / "data.parquet"))["TX_FRAUD"].to_numpy()
    day = np.arange(len(known)) // PER_DAY
    turned = np.where(day >= 17, 1 - known, known)
    first = scores(tmp_path / "data.parquet", tmp_path / "first.parquet")
    second = scores(file(tmp_path / "turned.parquet", TX_FRAUD=turned), tmp_path / "second.parquet")
    learnt = scores(file(tmp_path / "learnt.parquet", TX_FRAUD=np.roll(known, 1)), tmp_path / "third.parquet")

    assert first["transaction_id"] == second["transaction_id"]
    assert first["supervised"] == second["supervised"]
    assert first["is_fraud"] != second["is_fraud"]
    assert first["supervised"][:50] != learnt["supervised"][:50]  # labels of training count


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"TX_FRAUD": pa.array([0] * 31 * PER_DAY, pa.int8())}, "not of both kinds, fraud and genuine|are genuine"),
        ({"TX_FRAUD": pa.array([None] * 31 * PER_DAY, pa.int8())}, "payment 0 has no label"),
        ({"TX_AMOUNT": pa.array([1.001] * 31 * PER_DAY)}, "data.parquet, row 1: 1.001 has more decimals than EUR"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    done = quickly(file(tmp_path / "data.parquet", **change))

    assert done.exit_code == 1
    assert len(done.output.splitlines()) == 1
    assert any(each in done.output for each in message.split("|"))


def test_payments_out_of_order_are_refused(tmp_path: Path) -> None:
    data = file(tmp_path / "data.parquet")
    table = pq.read_table(data)
    pq.write_table(pa.concat_tables([table.slice(100), table.slice(0, 100)]), data)

    assert "sort the file by time" in quickly(data).output


def test_weeks_that_the_file_does_not_reach_are_refused(tmp_path: Path) -> None:
    data = file(tmp_path / "data.parquet")

    assert "no payment in these weeks" in quickly(data, begin=BEGIN + timedelta(days=100)).output
    assert "to train on" in quickly(data, begin=BEGIN - timedelta(days=10)).output
    assert "no payment to judge" in quickly(data, begin=BEGIN + timedelta(days=16)).output


def test_described_payments_are_kept_and_serve_again_without_being_described(tmp_path: Path) -> None:
    data, matrix = file(tmp_path / "data.parquet"), tmp_path / "matrix.parquet"
    plain, first = (json.loads(quickly(data, *more, "--json", "-").stdout) for more in ((), ("--matrix", str(matrix))))
    held = pq.read_table(matrix)
    assert (len(held), sorted(path.name for path in tmp_path.iterdir())) == (31 * PER_DAY, ["data.parquet", "matrix.parquet"])

    pq.write_table(held.set_column(held.column_names.index("amount"), "amount", pa.array([100] * len(held))), matrix)
    again = json.loads(quickly(data, "--matrix", str(matrix), "--json", "-").stdout)

    assert first == plain
    assert again["supervised"]["value_weighted_recall_at_fpr_0.01"] == pytest.approx(again["supervised"]["recall_at_fpr_0.01"])

    pq.write_table(held.drop_columns(["amount", "hour"]), matrix)
    assert "lacks amount, hour: describe the payments anew" in quickly(data, "--matrix", str(matrix)).output


def test_a_fraud_is_known_to_its_card_only_when_its_label_has_come(tmp_path: Path) -> None:
    def example(day: float, *, is_fraud: bool) -> Example:
        return Example(payment(transaction_id=f"t{day}", card_id="c", timestamp=BEGIN + timedelta(days=day)), is_fraud)

    examples = [example(0, is_fraud=True), *(example(day, is_fraud=False) for day in (6.99, 7.01))]
    today = BEGIN.toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()
    weeks = [Week(today, 1, today + 8)]
    labels = list(frauds(examples, 7, reach(weeks)))

    describe(tmp_path / "matrix.parquet", examples, labels, Terms(parse_policy("")), reach(weeks))
    described = read_described(tmp_path / "matrix.parquet", labels, reach(weeks))

    assert described.features[:, list(CATALOGUE).index("card_frauds")].tolist() == [0, 0, 1]
    assert described.is_fraud.tolist() == [True, False, False]


def test_what_a_data_set_says_of_its_payments_teaches_later_and_is_a_column(tmp_path: Path) -> None:
    known = np.array([True] * 2 + [False] * (31 * PER_DAY - 2), object)
    known[5] = None
    same: dict[str, Any] = {name: [2] * len(known) for name in ("CUSTOMER_ID", "TERMINAL_ID", "TX_FRAUD_SCENARIO")}
    data = file(tmp_path / "data.parquet", TX_FRAUD=known.tolist(), **same)
    features = ["features", str(data), "--format", "handbook", "--label-delay", "2", "--out", str(tmp_path / "matrix.parquet")]

    done = CliRunner().invoke(main, features)

    assert done.exit_code == 0, done.output
    matrix = pq.read_table(tmp_path / "matrix.parquet")
    assert matrix["is_fraud"].to_pylist() == known.tolist()
    assert matrix["fraud_type"].to_pylist() == ["2" if each else None for each in known]
    assert [matrix["card_frauds"][place].as_py() for place in (1, 2 * PER_DAY - 1, 2 * PER_DAY, 2 * PER_DAY + 1)] == [0, 0, 1, 2]
    sample = read_sample(tmp_path / "matrix.parquet", None, label_delay=2, maturity=60)
    assert sample.is_fraud[:2].tolist() == [1, 1]
    assert sample.fraud_type[:3].tolist() == ["2", "2", ""]
    assert not {"is_fraud", "fraud_type"} & set(sample.features)
    assert (sample.known_at[:5] - sample.times[:5]).tolist() == [2 * DAY_MS] * 5


def test_a_data_set_becomes_a_bundle_that_what_came_later_has_no_part_in(tmp_path: Path) -> None:
    frauds, until = np.arange(31 * PER_DAY) % 10 == 0, BEGIN + timedelta(days=25)
    data = file(tmp_path / "data.parquet", TX_FRAUD=frauds.astype(np.int8))
    arguments = ["train", str(data), "--format", "handbook", "--label-delay", "1", "--until", f"{until:%Y-%m-%d}", "--trees", "10"]

    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "bundle")])

    assert done.exit_code == 0, done.output
    windows = read_manifest(tmp_path / "bundle").windows
    assert windows[-1].end <= until
    assert [window.labelled for window in windows] == [window.payments for window in windows]
    assert [window.frauds for window in windows] == pytest.approx([window.payments / 10 for window in windows], abs=1)


def test_several_processes_describe_as_one_does(tmp_path: Path) -> None:
    data = file(tmp_path / "data.parquet", days=180)
    made = []
    for processes in ("1", "2"):
        features = ["features", str(data), "--label-delay", "7", "--processes", processes, "--out", str(tmp_path / "matrix.parquet")]
        assert CliRunner().invoke(main, features).exit_code == 0
        made.append(pq.read_table(tmp_path / "matrix.parquet"))

    assert len(made[0]) == 180 * PER_DAY  # three tables, the second of them the other process's
    assert made[0].equals(made[1])


def test_what_is_wrong_with_a_file_is_said_once_by_several_processes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    payments = tmp_path / "payments.jsonl"
    payments.write_bytes(b'{"transaction_id": 1}\n')

    done = CliRunner().invoke(main, ["features", str(payments), "--processes", "2", "--out", str(tmp_path / "matrix.parquet")])

    assert done.exit_code == 1
    assert done.output.count("line 1:") == 1
    assert "1 line without a payment" in done.output
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--labels", __file__], 2, "by --labels, or by FILE itself"),
        ([], 1, "data.parquet says of no payment whether it was fraud"),
    ],
)
def test_a_data_set_that_says_nothing_of_fraud_is_refused(tmp_path: Path, more: list[str], code: int, message: str) -> None:
    data = file(tmp_path / "data.parquet", TX_FRAUD=pa.array([None] * 31 * PER_DAY, pa.int8()))

    done = CliRunner().invoke(main, ["features", str(data), "--label-delay", "7", *more, "--out", str(tmp_path / "m.parquet")])

    assert done.exit_code == code
    assert message in done.output


def test_a_bundle_is_measured_on_what_it_says_along_the_way(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["evaluate", "bundle", str(trained.path), str(file(tmp_path / "data.parquet")), "--test-start", f"{TEST_START:%Y-%m-%d}"]

    done = CliRunner().invoke(main, [*arguments, "--resamples", "20", "--json", str(out)])

    assert done.exit_code == 0, done.output
    found = json.loads(out.read_bytes())
    known = pq.read_table(tmp_path / "data.parquet")["TX_FRAUD"].to_numpy()[17 * PER_DAY :]
    assert (found["payments"], found["frauds"]) == (14 * PER_DAY, known.sum())
    assert {layer.name for layer in trained.manifest.layers} | {"ensemble"} <= set(found)
    low, high = found["autoencoder"]["intervals"]["roc_auc"]
    assert low <= found["autoencoder"]["roc_auc"] <= high
    assert "tested from 2018-04-18 to 2018-05-01" in done.output


def with_labels(data: Path, genuine: bool) -> tuple[Path, Path]:
    """The payments as JSON lines, which say nothing of fraud, and what was said about them: of all, or of frauds alone."""
    lines, labels = data.with_suffix(".jsonl"), data.with_name("labels.jsonl")
    examples = list(read_payments(data))
    lines.write_bytes(b"\n".join(encode_transaction(each.transaction) for each in examples))
    said = [{"transaction_id": each.transaction.transaction_id, "is_fraud": each.is_fraud} for each in examples if each.is_fraud or genuine]
    labels.write_text("\n".join(map(json.dumps, said)))
    return lines, labels


def test_labels_beside_the_payments_say_the_same_as_a_file_that_says_it_itself(trained: Trained, tmp_path: Path) -> None:
    data = file(tmp_path / "data.parquet")
    lines, labels = with_labels(data, genuine=True)
    options = ["--test-start", f"{TEST_START:%Y-%m-%d}", "--resamples", "5"]
    measure = ["evaluate", "bundle", str(trained.path)]
    compare = ["bundles", "compare", str(trained.path), str(trained.asking(tmp_path / "eager", 0.0))]

    for command, as_json in ((measure, ["--json", "-"]), (compare, ["--json"])):
        one, other = (
            json.loads(CliRunner().invoke(main, [*command, *given, *options, *as_json]).stdout)
            for given in ([str(data)], [str(lines), "--labels", str(labels)])
        )
        assert one | {"data": ""} == other | {"data": ""}


def test_payments_in_currencies_without_a_rate_are_told_once(trained: Trained, tmp_path: Path) -> None:
    lines, labels = with_labels(file(tmp_path / "data.parquet"), genuine=True)
    payments = [each.transaction for each in read_payments(lines)]
    pounds = [replace(each, currency="GBP") if place % 100 == 0 else each for place, each in enumerate(payments)]
    lines.write_bytes(b"\n".join(map(encode_transaction, pounds)))
    told = ["--labels", str(labels), "--test-start", f"{TEST_START:%Y-%m-%d}", "--resamples", "5"]

    measured = CliRunner().invoke(main, ["evaluate", "bundle", str(trained.path), str(lines), *told])
    compared = CliRunner().invoke(main, ["bundles", "compare", str(trained.path), str(trained.path), str(lines), *told])

    sentence = f"{len(payments[::100])} payments in GBP have no rate (AEGIS_RATES): amounts not compared\n"
    assert (measured.exit_code, measured.stderr) == (compared.exit_code, compared.stderr) == (0, sentence)


def test_where_labels_leave_payments_out_the_test_ends_when_those_are_known_to_be_genuine(trained: Trained, tmp_path: Path) -> None:
    lines, labels = with_labels(file(tmp_path / "data.parquet"), genuine=False)
    command = ["evaluate", "bundle", str(trained.path), str(lines), "--labels", str(labels), "--test-start", f"{TEST_START:%Y-%m-%d}"]

    done = CliRunner().invoke(main, [*command, "--resamples", "5", "--maturity", "5", "--json", "-"])
    early, strange = CliRunner().invoke(main, command), tmp_path / "strange.jsonl"
    strange.write_text('{"transaction_id": "nobody\'s", "is_fraud": true}\n')
    foreign = CliRunner().invoke(main, [*command, "--labels", str(strange)])

    found = json.loads(done.stdout)
    assert found["payments"] == 9 * PER_DAY - 1  # the last payment of the file is the last of its day
    assert found["frauds"] == sum(
        each.is_fraud is True for each in list(read_payments(tmp_path / "data.parquet"))[17 * PER_DAY : 26 * PER_DAY - 1]
    )
    assert (early.exit_code, early.output.count("\n")) == (1, 1)
    assert "no payment from --test-start on is that old" in early.output
    assert foreign.output == f"aegis: {strange} speaks of none of these payments\n"


def test_a_fraud_beside_the_payments_is_known_when_its_label_says(tmp_path: Path) -> None:
    labels, first, second = tmp_path / "labels.jsonl", Example(payment(minute=0)), Example(payment(minute=1))
    at = first.transaction.timestamp + timedelta(days=3)
    said = [
        {"transaction_id": first.transaction.transaction_id, "is_fraud": True, "labelled_at": at.isoformat(), "source": "chargeback"},
        {"transaction_id": first.transaction.transaction_id, "is_fraud": False, "source": "analyst"},
        {"transaction_id": second.transaction.transaction_id, "is_fraud": True},
    ]
    labels.write_text("\n".join(map(json.dumps, said)))

    found = known([first, second], labels, 7, 60, 0)

    assert [label.labelled_at for label in found.labels] == [at, second.transaction.timestamp + timedelta(days=7)]


def test_a_test_may_begin_at_a_second_and_genuine_payments_stand_for_several(trained: Trained, tmp_path: Path) -> None:
    data, begin = file(tmp_path / "data.parquet"), TEST_START + timedelta(hours=12)
    arguments = ["evaluate", "bundle", str(trained.path), str(data), "--test-start", f"{begin:%Y-%m-%dT%H:%M:%S}", "--resamples", "5"]

    plain, weighted = (
        json.loads(CliRunner().invoke(main, [*arguments, *more, "--json", "-"]).stdout) for more in ([], ["--genuine-weight", "14"])
    )

    assert plain["payments"] == 14 * PER_DAY - PER_DAY // 2
    assert weighted["ensemble"]["roc_auc"] == pytest.approx(plain["ensemble"]["roc_auc"])
    assert weighted["ensemble"]["average_precision"] < plain["ensemble"]["average_precision"]


def test_models_are_asked_from_the_beginning_of_the_test_on(trained: Trained) -> None:
    payments = [payment(minute=minute, transaction_id=f"t{minute}") for minute in range(4)]
    terms = Terms(parse_policy(""), bundle=serve(trained.path))

    said = [each.scored is not None for _, each in replay(payments, terms, asked_from=payments[2].at)]

    assert said == [False, False, True, True]


def test_a_bundle_that_policy_does_not_ask_is_not_measured(trained: Trained, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[models]\nstate = "off"\n')
    arguments = ["evaluate", "bundle", str(trained.path), str(file(tmp_path / "data.parquet")), "--test-start", f"{TEST_START:%Y-%m-%d}"]

    done = CliRunner().invoke(main, [*arguments, "--policy", str(policy)])

    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "policy asks no models" in done.output


def test_two_bundles_are_compared_on_the_same_payments_and_by_what_only_one_stops(trained: Trained, tmp_path: Path) -> None:
    eager, data = trained.asking(tmp_path / "eager", 0.0), file(tmp_path / "data.parquet")
    idle = trained.asking(tmp_path / "idle", 1.1)
    command = ["bundles", "compare", str(eager), str(idle), str(data), "--test-start", f"{TEST_START:%Y-%m-%d}", "--resamples", "20"]

    shown, said = CliRunner().invoke(main, command), CliRunner().invoke(main, [*command, "--json"])

    assert (shown.exit_code, said.exit_code) == (0, 0), shown.output + said.output
    found = json.loads(said.stdout)
    bad = pq.read_table(data)["TX_FRAUD"].to_numpy()[17 * PER_DAY :]
    cents = np.round(pq.read_table(data)["TX_AMOUNT"].to_numpy()[17 * PER_DAY :] * 100)
    assert found["first_alone"] == {"frauds": bad.sum(), "money": cents[bad == 1].sum(), "genuine": len(bad) - bad.sum()}
    assert found["second_alone"] == found["both"] == {"frauds": 0, "money": 0, "genuine": 0}
    assert "ROC-AUC" in shown.output
    assert f"only {eager} stops {bad.sum()} frauds" in shown.output


def test_what_a_group_of_features_adds_is_told_beside_nothing_and_beside_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, matrix = file(tmp_path / "data.parquet"), tmp_path / "matrix.parquet"
    assert quickly(data, "--matrix", str(matrix)).exit_code == 0
    monkeypatch.setattr(groups, "GROUPS", {name: GROUPS[name] for name in ("amounts", "money", "travel")})
    monkeypatch.setattr(groups, "SETTINGS", groups.SETTINGS | {"rounds": 10})
    weeks = ["--test-start", f"{TEST_START:%Y-%m-%d}", "--train-days", "10", "--weeks", "1", "--resamples", "20"]

    done = CliRunner().invoke(groups.main, [str(data), str(matrix), *weeks])

    assert done.exit_code == 0, done.output
    assert "| `amounts` | 5 | " in done.output
    assert "| `money` | 5 | " in done.output
    assert "travel" not in done.output  # the handbook has no places: none of its features varies


def test_a_group_alone_has_the_payment_beside_it_and_one_left_out_has_all_others() -> None:
    useful = ["amount", "amount_z", "km", "attempts_1h", "merchant_share"]

    models = groups.chosen(useful)

    assert models["all"] == useful
    assert models["with travel"] == ["amount", "km"]
    assert models["without travel"] == ["amount", "amount_z", "attempts_1h", "merchant_share"]
    assert models["with amounts"] == ["amount", "amount_z"]
    assert "without home" not in models
