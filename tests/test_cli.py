"""The commands as their users meet them: help, output, exit codes, and one clear line when something is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from aegis_app.cli import lists as lists_command
from aegis_app.cli import main, options
from aegis_app.cli.errors import explain
from aegis_app.core.features import CATALOGUE, OF_OTHERS
from aegis_app.core.label import decode_label, encode_label
from aegis_app.core.lists import ListName, Of
from aegis_app.core.payment import Transaction, decode_transaction, encode_transaction
from aegis_app.core.rules import RULES
from aegis_app.schemas import RECORDS, features_page, metrics_page, settings_page
from aegis_app.settings import settings
from models.datasets import read_payments
from tests.make import label, payment, remember, seen

SCHEMAS = Path(__file__).parent.parent / "docs/schemas"
DEFAULT_POLICY = Path(__file__).parent.parent / "aegis_app/default_policy.toml"
NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _settings_are_read_anew() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


def run(*arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin, env=environment)


def succeed(*arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> Result:
    result = run(*arguments, stdin=stdin, environment=environment)
    assert result.exit_code == 0, result.output
    return result


def aegis(*arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([sys.executable, "-m", "aegis_app", *arguments], input=stdin, capture_output=True, timeout=60, check=False)


def commands(command: click.Command = main, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, *path, name)


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


PATHS = [path for path, _ in commands()]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(path: tuple[str, ...]) -> None:
    text = " ".join(succeed(*path, "--help").stdout.split())

    assert "aegis " + " ".join(path) in text.partition("Example: ")[2]


@pytest.mark.parametrize("path", [path for path, each in commands() if isinstance(each, click.Group)], ids=" ".join)
def test_lists_of_commands_cut_no_sentence(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main, [*path, "--help"], terminal_width=80).stdout.partition("Commands:\n")[2].splitlines()

    assert len(shown) >= 1
    assert [line for line in shown if line.endswith("...")] == []


def test_help_loads_nothing_heavy() -> None:
    heavy = ["faust", "aiokafka", "aiohttp", "pyarrow", "numpy", "pandas", "msgspec", "rich", "rocksdict", "prometheus_client"]
    heavy += ["jinja2", "matplotlib", "sqlalchemy", "alembic", "stamina"]
    program = f"""
import sys
from aegis_app.cli import main
for path in {PATHS}:
    main([*path, "--help"], standalone_mode=False)
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_nobody_is_told_to_install_from_an_index_what_is_on_none() -> None:
    root = SCHEMAS.parent.parent
    told = [root / "README.md", *(path for part in ("docs", "aegis_app", "models") for path in (root / part).rglob("*.*[dy]"))]

    assert len(told) > 100
    assert [str(path) for path in told if "pip install 'aegis-fraud" in path.read_text()] == []


def test_the_records_of_the_readme_are_lines_that_can_be_sent() -> None:
    blocks = (SCHEMAS.parent.parent / "README.md").read_text().split("```json\n")[1:]
    sent = [block.partition("```")[0].encode() for block in blocks if block.startswith('{"transaction_id"')]

    txn, said = sent
    assert all(block.count(b"\n") == 1 for block in sent)
    assert decode_transaction(txn).transaction_id == decode_label(said).transaction_id


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert succeed("--version").stdout == f"aegis, version {version('aegis-fraud')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("topics", "schema", "cheques"),
        ("topics", "check", "--broker", "one, two"),
        ("topics", "check", "--broker", ""),
        ("send", "payments", "missing.jsonl"),
        ("send", "payments", "-", "--rate", "5", "--speed", "5"),
        ("policies", "show", "--local", "--toml", "--json"),
        ("send", "payments", "-", "--rate", "0"),
        ("warm", "-", "--outcome", "perhaps"),
        ("simulate", "--cards", "0"),
        ("simulate", "--fraud-rate", "1"),
        ("simulate", "--out", "payments.csv"),
        ("simulate", "--decisions", "setup.cfg"),
        ("decide", "-", "--policy", "missing.toml"),
        ("backtest", "-", "--labels", "missing.jsonl"),
        ("backtest", "-", *("--policy", str(DEFAULT_POLICY)) * 3),
        ("ledger", "export", "--since", "yesterday", "--out", "x.parquet"),
        ("ledger", "prune", "--keep-days", "0"),
        ("dead-letters", "redrive"),
        ("dead-letters", "redrive", "3:17", "--all"),
        ("dead-letters", "list", "--reason", "spite"),
        ("alerts", "redrive"),
        ("alerts", "redrive", "hook:0:3", "--all"),
        ("alerts", "snooze", "merchant", "m-1", "--for", "8h", "--reason", "x"),
        ("lists", "add", "forbid", "card", "tok_1", "--reason", "stolen"),
        ("lists", "add", "deny", "customer", "tok_1", "--reason", "stolen"),
        ("lists", "add", "deny", "card", "tok_1"),
        ("policies", "publish", "-"),
        ("policies", "publish", "missing.toml", "--note", "why"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("decide a --out a", "--out and FILE"),
        ("decide --out a a", "--out and FILE"),
        ("decide a --out ./sub/../a", "--out and FILE"),
        ("decide a --out link", "--out and FILE"),
        ("decide a --out hard", "--out and FILE"),
        ("decide a --policy b --out b", "--policy and --out"),
        ("decide a --out AEGIS_POLICY.toml", "--out and AEGIS_POLICY"),
        ("decide a --out AEGIS_RATES.toml", "--out and AEGIS_RATES"),
        ("decide a --format m.toml --out m.toml", "--format and --out"),
        ("features a --out a", "--out and FILE"),
        ("features a --labels b --out b", "--labels and --out"),
        ("backtest a --labels b --html a", "--html and FILE"),
        ("backtest a --labels b --html b", "--labels and --html"),
        ("backtest a --heard b --html b", "--heard and --html"),
        ("backtest a --policy b --policy m.toml --html b", "--policy and --html"),
        ("evaluate bundle sub a --labels b --test-start 2026-01-01 --json a", "--json and DATA"),
        ("evaluate bundle sub a --labels b --test-start 2026-01-01 --json b", "--labels and --json"),
        ("evaluate handbook --data a --train-start 2018-01-01 --train-days 7 --test-start 2018-02-01 --matrix a", "--data and --matrix"),
        (
            "evaluate handbook --data a --train-start 2018-01-01 --train-days 7 --test-start 2018-02-01 --scores n --json n",
            "--scores and --json",
        ),
        ("simulate --out n --truth n", "--out and --truth"),
        ("simulate --out n --labels n", "--out and --labels"),
        ("simulate --out n --rates ./n", "--out and --rates"),
        ("simulate --labels n --decisions a --out a", "--decisions and --out"),
        ("ledger export --since 2026-01-01 --out n --labels n", "--out and --labels"),
        ("ledger export --since 2026-01-01 --out AEGIS_LEDGER", "--out and AEGIS_LEDGER"),
    ],
)
def test_no_command_writes_over_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("a", "b", "m.toml", "AEGIS_POLICY.toml", "AEGIS_RATES.toml", "AEGIS_LEDGER"):
        (tmp_path / name).write_text("what is there")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "hard").hardlink_to(tmp_path / "a")
    named = {"AEGIS_POLICY": "AEGIS_POLICY.toml", "AEGIS_RATES": "AEGIS_RATES.toml", "AEGIS_LEDGER": "sqlite:///AEGIS_LEDGER"}

    result = run(*line.split(), environment=named)

    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"Error: {message} are the same file, ")
    assert result.stderr.endswith(": nothing was written\n")
    assert {path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {"what is there"}


@pytest.mark.parametrize(
    "line", ["demo --picture OUT", "decide - --out OUT", "features - --out OUT", "backtest - --html OUT", "simulate --out OUT"]
)
def test_an_output_without_a_directory_is_refused_before_the_work(line: str) -> None:
    result = run(*line.replace("OUT", "no/such/file").split())

    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith(": no/such/file: its directory does not exist; make it first")


def test_what_goes_nowhere_may_go_there_twice(tmp_path: Path) -> None:
    succeed("simulate", "--cards", "2", "--days", "1", "--out", os.devnull, "--truth", os.devnull, "--labels", os.devnull)
    file = tmp_path / "labels.jsonl"
    file.write_bytes(b"")

    assert succeed("decide", "-", "--out", "-", stdin=encode_transaction(payment())).stdout != ""
    succeed("features", "-", "--labels", str(file), "--out", str(tmp_path / "out"), stdin=encode_transaction(payment()))
    succeed("backtest", "-", "--labels", str(file), "--heard", str(file), "--processes", "1", stdin=encode_transaction(payment()))


@pytest.mark.parametrize(
    "arguments",
    [
        ("topics", "create"),
        ("topics", "check"),
        ("send", "payments", "-"),
        ("warm", "-"),
        ("dead-letters", "list"),
        ("dead-letters", "show", "3:17"),
        ("dead-letters", "redrive", "--all"),
        ("lists", "add", "deny", "card", "tok_1", "--reason", "stolen"),
        ("lists", "remove", "deny", "card", "tok_1"),
        ("lists", "show"),
        ("alerts", "failed"),
        ("alerts", "redrive", "--all"),
        ("alerts", "snooze", "card", "tok_1", "--for", "8h", "--reason", "known"),
        ("policies", "show"),
        ("policies", "publish", "-", "--note", "why"),
        ("policies", "observe"),
    ],
    ids=" ".join,
)
def test_without_kafka_one_line_says_what_to_do(arguments: tuple[str, ...]) -> None:
    done = aegis(*arguments, "--broker", NOBODY)

    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.decode() == (
        f"aegis: no Kafka at {NOBODY}; start one with `aegis kafka` or set AEGIS_BROKER, and AEGIS_SECURITY_PROTOCOL where it wants TLS\n"
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("policies", "show", "--local"), {"AEGIS_POLICE": "x"}, "AEGIS_POLICE is not a setting; did you mean AEGIS_POLICY?"),
        (("policies", "show", "--local"), {"AEGIS_POLICY": "missing.toml"}, "missing.toml"),
        (("topics", "check", "--broker", NOBODY), {"AEGIS_PARTITIONS": "none"}, "AEGIS_PARTITIONS='none'"),
        (("topics", "check", "--broker", NOBODY), {"AEGIS_SECURITY_PROTOCOL": "SSL"}, "speaks SSL"),
        (("topics", "check"), {"AEGIS_SECURITY_PROTOCOL": "SSL", "AEGIS_SSL_CAFILE": __file__}, "the certificates cannot be used"),
        (("backtest", "-"), {}, "stdin holds no payment that can be judged"),
        (("dead-letters", "show", "seventeen"), {}, "'seventeen' is not a letter's id"),
        (("alerts", "run"), {}, "`aegis alerts example > alerts.toml` makes a file to begin with"),
        (("alerts", "run"), {"AEGIS_ALERTS": "missing.toml"}, "missing.toml"),
        (("alerts", "snooze", "card", "c", "--for", "soon", "--reason", "x"), {}, "'soon' is no length of time"),
        (("alerts", "snooze", "card", "4111111111111111", "--for", "8h", "--reason", "x"), {}, "that looks like a card number"),
        (("lists", "add", "deny", "card", "4111111111111111", "--reason", "x"), {}, "value looks like a card number"),
        (("lists", "add", "deny", "country", "France", "--reason", "x"), {}, "a country is two capital letters"),
        (("lists", "add", "deny", "card", "c", "--reason", "x", "--until", "soon"), {}, "Invalid isoformat string: 'soon'"),
        (("lists", "add", "deny", "card", "c", "--reason", "x", "--until", "2020-01-01"), {}, "until lies before the entry"),
    ],
)
def test_what_can_go_wrong_is_one_line_on_stderr(arguments: tuple[str, ...], environment: dict[str, str], message: str) -> None:
    result = run(*arguments, environment=environment)

    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("aegis: ")
    assert result.stderr.count("\n") == 1


INTERRUPTED = """
import runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
moment = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupting())
runpy.run_module("aegis_app", run_name="__main__")
"""


@pytest.mark.parametrize("moment", ["click", "aegis_app.cli.training", "aegis_app.settings", "numpy.linalg", "aegis_app.core.replay"])
def test_ctrl_c_while_a_command_is_loaded_ends_it_without_a_word(moment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, moment, "decide", "-"], capture_output=True, timeout=60, check=False, input=b""
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_an_error_that_nobody_expected_is_not_hidden() -> None:
    assert explain(ZeroDivisionError("a bug"), None) is None
    assert explain(ValueError("a bug"), settings()) is None


@pytest.mark.parametrize("name", RECORDS, ids=str)
def test_the_committed_schemas_are_those_of_the_records(name: str) -> None:
    """A change shows here: it may add what is optional; what is gone or newly required breaks those who read or send."""
    assert (SCHEMAS / f"{name}.json").read_text() == succeed("topics", "schema", name).stdout, (
        f"if it is meant: aegis topics schema {name} > docs/schemas/{name}.json, and read the difference"
    )


def test_no_schema_is_committed_of_what_no_topic_holds() -> None:
    assert {path.stem for path in SCHEMAS.iterdir()} == set(RECORDS)


def test_policies_show_prints_every_rule_with_its_text_and_limits_and_units() -> None:
    text = succeed("policies", "show", "--local").stdout

    assert all(f"{rule.name}: " in text and rule.text in text for rule in RULES)
    assert "kmh = 1000.0  # speed that no traveller reaches, km/h" in text


def test_policies_show_obeys_the_setting_and_prints_json(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('mode = "enforce"\n[rules.velocity_1m]\nstate = "on"\nasks = "block"\nmost = 9\n')

    packaged = json.loads(succeed("policies", "show", "--local", "--json").stdout)
    settings.cache_clear()
    ours = json.loads(succeed("policies", "show", "--local", "--json", environment={"AEGIS_POLICY": str(file)}).stdout)

    assert (packaged["mode"], ours["mode"]) == ("observe", "enforce")
    assert packaged["policy"] != ours["policy"]
    assert ours["rules"][0] == {"rule": "velocity_1m", "text": RULES[0].text, "state": "on", "asks": "block", "most": 9}


def test_the_policy_in_force_is_printed_as_its_file() -> None:
    assert succeed("policies", "show", "--local", "--toml").stdout == DEFAULT_POLICY.read_text()


def test_policies_check_names_file_line_and_entry() -> None:
    assert succeed("policies", "check", "-", stdin=b'mode = "observe"').exit_code == 0

    result = run("policies", "check", "-", stdin=b'mode = "observe"\n[rules.velocity_1m]\nmost = 0\n')

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("aegis: stdin, line 3: rules.velocity_1m.most: ")


def test_an_import_names_every_wrong_line_and_sends_nothing(tmp_path: Path) -> None:
    file = tmp_path / "cards.csv"
    file.write_text("list,of,value,reason\ndeny,card,tok_1,stolen\ndeny,card,4111111111111111,stolen\nban,card,tok_2,stolen\n")

    result = run("lists", "import", str(file), "--broker", NOBODY)

    assert result.exit_code == 1
    number, name, last = result.stderr.splitlines()
    assert number.startswith(f"{file}, line 3: value looks like a card number")
    assert name.startswith(f"{file}, line 4: Invalid enum value 'ban'")
    assert last == "aegis: 2 lines without an entry; nothing was imported"
    assert "4111111111111111" not in result.output


def test_a_policy_that_is_wrong_or_newer_is_not_published() -> None:
    result = run("policies", "publish", "-", "--note", "why", "--broker", NOBODY, stdin=b'mode = "enforce"\n[rules.next_years]\n')

    assert result.exit_code == 1
    assert result.stderr.startswith("aegis: stdin, line 2: there is no rule 'next_years'; rules are velocity_1m, ")


def test_the_help_of_a_schema_names_every_topic_that_has_one() -> None:
    said = run("topics", "schema", "--help").stdout

    assert [name for name in RECORDS if name not in said] == []


def test_the_names_that_commands_take_are_those_of_the_lists() -> None:
    assert tuple(ListName) == lists_command.LISTS
    assert tuple(Of) == lists_command.KINDS


def test_a_simulation_is_the_same_for_the_same_seed_and_the_truth_says_what_is_fraud(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    arguments = ("simulate", "--cards", "50", "--days", "5", "--fraud-rate", "0.05")

    first = succeed(*arguments, "--seed", "3", "--truth", str(truth))
    again, other = succeed(*arguments, "--seed", "3"), succeed(*arguments, "--seed", "4")

    assert first.stdout_bytes == again.stdout_bytes != other.stdout_bytes
    payments = [decode_transaction(line) for line in first.stdout_bytes.splitlines()]
    told = json_lines(truth.read_text())
    assert [each["transaction_id"] for each in told] == [txn.transaction_id for txn in payments]
    assert {each["is_fraud"] for each in told} == {True, False}
    assert all((each["fraud_type"] is not None) is each["is_fraud"] for each in told)


def test_simulated_labels_follow_the_decisions_given(tmp_path: Path) -> None:
    arguments = ("simulate", "--cards", "50", "--days", "20", "--fraud-rate", "0.05", "--labels")
    before, after, decisions = tmp_path / "before.jsonl", tmp_path / "after.jsonl", tmp_path / "decisions.jsonl"

    payments = succeed(*arguments, str(before)).stdout.splitlines()
    ids = [json.loads(line)["transaction_id"] for line in payments]
    decisions.write_text("".join(json.dumps({"transaction_id": one, "outcome": "review"}) + "\n" for one in ids))
    succeed(*arguments, str(after), "--decisions", str(decisions))

    labels = json_lines(after.read_text())
    assert list(labels[0]) == [
        "transaction_id",
        "card_id",
        "merchant_id",
        "timestamp",
        "is_fraud",
        "fraud_type",
        "labelled_at",
        "source",
        "amount_minor",
        "currency",
        "device_id",
        "country",
    ]
    assert "chargeback" in {label["source"] for label in json_lines(before.read_text())}
    assert {label["transaction_id"] for label in labels if label["source"] == "analyst"} == set(ids)


def test_decisions_about_other_payments_are_a_failure(tmp_path: Path) -> None:
    decisions = tmp_path / "decisions.jsonl"
    decisions.write_text('{"transaction_id": "t0", "outcome": "block"}\n')
    arguments = ("simulate", "--cards", "5", "--days", "1", "--labels", str(tmp_path / "labels.jsonl"), "--decisions", str(decisions))

    assert run(*arguments).stderr.startswith("aegis: 1 decisions in ")
    decisions.write_text("no json\n")
    assert run(*arguments).stderr.startswith(f"aegis: {decisions}, line 1: ")


def test_what_is_simulated_in_other_currencies_compares_by_the_rates_written_beside_it(tmp_path: Path) -> None:
    payments, rates = tmp_path / "payments.jsonl", tmp_path / "rates.toml"
    succeed("simulate", "--cards", "200", "--days", "10", "--out", str(payments), "--rates", str(rates))

    decided = json_lines(succeed("decide", str(payments), environment={"AEGIS_RATES": str(rates), "AEGIS_FEATURE_SHARE": "1"}).stdout)

    assert len({each["currency"] for each in decided}) > 2
    assert all(each["features"]["amount"] is not None for each in decided)


def test_simulated_payments_are_written_as_parquet_by_the_suffix(tmp_path: Path) -> None:
    arguments = ("simulate", "--cards", "20", "--days", "3", "--out")
    succeed(*arguments, str(tmp_path / "payments.parquet"))
    succeed(*arguments, str(tmp_path / "payments.jsonl"))

    columns, lines = (list(read_payments(tmp_path / f"payments.{suffix}")) for suffix in ("parquet", "jsonl"))

    assert columns == lines
    assert len(lines) > 20


def burst(number: int) -> list[Transaction]:
    return [payment(seconds=second, transaction_id=f"t{second}") for second in range(number)]


def test_decide_answers_each_payment_in_order_by_the_policy_given(tmp_path: Path) -> None:
    policy, out = tmp_path / "policy.toml", tmp_path / "decisions.jsonl"
    policy.write_text('mode = "enforce"\n[rules.velocity_1m]\nstate = "on"\nasks = "block"\nmost = 2\n')
    lines = b"".join(encode_transaction(txn) + b"\n" for txn in burst(4))

    result = succeed("decide", "-", "--policy", str(policy), "--out", str(out), stdin=lines)

    decisions = json_lines(out.read_text())
    assert [(each["transaction_id"], each["outcome"]) for each in decisions] == [
        ("t0", "allow"),
        ("t1", "allow"),
        ("t2", "block"),
        ("t3", "block"),
    ]
    assert decisions[2]["decided_at"] == decisions[2]["timestamp"]
    assert result.stdout == ""
    assert result.stderr == "4 payments; verdicts: 2 allow, 0 review, 2 block\n"


@pytest.mark.parametrize(
    "command", [("decide", "-", "--out", "{}/out"), ("features", "-", "--out", "{}/out"), ("backtest", "-", "--processes", "1")]
)
def test_payments_in_currencies_without_a_rate_are_told(tmp_path: Path, command: tuple[str, ...]) -> None:
    rates = tmp_path / "rates.toml"
    rates.write_text('base = "EUR"\n[rates]\nUSD = 1.16\n')
    currencies = ("EUR", "USD", "JPY", "GBP", "JPY")
    payments = [payment(minute=n, transaction_id=f"t{n}", currency=each) for n, each in enumerate(currencies)]
    arguments = [each.format(tmp_path) for each in command]

    result = succeed(
        *arguments, stdin=b"".join(encode_transaction(txn) + b"\n" for txn in payments), environment={"AEGIS_RATES": str(rates)}
    )

    assert "3 payments in JPY, GBP have no rate (AEGIS_RATES): amounts not compared\n" in result.stderr


def test_decide_reports_bad_lines_by_number_decides_the_rest_and_ends_with_1(tmp_path: Path) -> None:
    file = tmp_path / "payments.jsonl"
    good = [encode_transaction(txn) for txn in burst(3)]
    file.write_bytes(b"\n".join([good[0], b"no json", good[1], b'{"card_id": "4111111111111111"}', good[2]]))

    result = run("decide", str(file))

    assert result.exit_code == 1
    assert [each["transaction_id"] for each in json_lines(result.stdout)] == ["t0", "t1", "t2"]
    first, second, verdicts, last = result.stderr.splitlines()
    assert first.startswith(f"{file}, line 2: JSON is malformed")
    assert second.startswith(f"{file}, line 4: Object missing required field")
    assert verdicts.startswith("3 payments")
    assert last == "aegis: 2 lines without a payment that can be taken; what became of the others is written"


@pytest.mark.parametrize("command", [("decide",), ("backtest", "--labels", "/dev/null")])
def test_of_many_bad_lines_the_first_ten_are_told_and_how_many_there_are(tmp_path: Path, command: tuple[str, ...]) -> None:
    """As an indented array has them; stderr says once how it becomes lines."""
    file = tmp_path / "payments.jsonl"
    file.write_text(json.dumps([json.loads(encode_transaction(txn)) for txn in burst(3)], indent=1))
    number = len(file.read_text().splitlines())

    result = run(command[0], str(file), *command[1:])

    told = [line for line in result.stderr.splitlines() if line.startswith(f"{file}")]
    assert told[0].endswith("without brackets around them or breaks in them: jq -c '.[]' FILE makes that")
    assert told[10:] == [f"{file}: and {number - 10} more such lines"]
    assert result.stderr.count("jq") == 1


def test_decide_reads_parquet_like_json_lines(tmp_path: Path) -> None:
    decided = []
    for suffix in ("parquet", "jsonl"):
        file = tmp_path / f"payments.{suffix}"
        succeed("simulate", "--cards", "20", "--days", "3", "--out", str(file))
        decided.append(succeed("decide", str(file)).stdout)

    assert decided[0] == decided[1] != ""


STRICT = 'mode = "observe"\n[rules.velocity_1m]\nstate = "on"\nasks = "block"\nmost = 2\n'


def test_backtest_reports_bad_lines_and_labels_judges_the_rest_and_ends_with_1(tmp_path: Path) -> None:
    file, labels, policy = (tmp_path / name for name in ("payments.jsonl", "labels.jsonl", "policy.toml"))
    good = [encode_transaction(txn) for txn in burst(4)]
    file.write_bytes(b"\n".join([good[0], b"no json", good[1], b'{"card_id": "4111111111111111"}', *good[2:]]))
    labels.write_text('{"transaction_id": "t2", "is_fraud": true}\n{"transaction_id": "t9", "is_fraud": true}\n{}\n')
    policy.write_text(STRICT)

    result = run("backtest", str(file), "--policy", str(policy), "--labels", str(labels), "--json")

    assert result.exit_code == 1
    in_labels, first, second, last = result.stderr.splitlines()
    assert in_labels.startswith(f"{labels}, line 3: Object missing required field")
    assert first.startswith(f"{file}, line 2: JSON is malformed")
    assert second.startswith(f"{file}, line 4: Object missing required field")
    assert last == "aegis: 3 lines without a payment or label that can be taken; the others are judged"
    report = json.loads(result.stdout)
    assert (report["payments"]["payments"], report["payments"]["frauds"], report["labels_of_unknown_payments"]) == (4, 1, 1)
    assert (report["policies"][0]["flagged"][1]["caught"]["payments"], report["policies"][0]["flagged"][1]["precision"]) == (2, 1.0)


def test_backtest_says_when_no_rule_is_on(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[rules.velocity_1m]\nmost = 2\n")
    lines = b"".join(encode_transaction(txn) + b"\n" for txn in burst(4))

    result = succeed("backtest", "-", "--policy", str(policy), "--policy", str(DEFAULT_POLICY), stdin=lines)

    assert result.stderr == f"no rule is on in {policy}: it asks for nothing without a bundle\n"


@pytest.mark.parametrize("command", [("policies", "check", "{}/p.toml"), ("decide", "-"), ("features", "-", "--out", "{}/out")])
@pytest.mark.parametrize(("text", "but"), [("", " without a bundle"), ('[models]\nstate = "shadow"\n', "")])
def test_a_policy_that_asks_for_nothing_is_told(tmp_path: Path, command: tuple[str, ...], text: str, but: str) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text(text)
    arguments = [each.format(tmp_path) for each in command]

    def said() -> str:
        settings.cache_clear()
        return succeed(*arguments, stdin=encode_transaction(payment()), environment={"AEGIS_POLICY": str(policy)}).stderr

    assert said().startswith(f"no rule is on in {policy}: it asks for nothing{but}\n")
    policy.write_text(text + '[rules.velocity_1m]\nstate = "on"\n')
    assert "no rule is on" not in said()


def test_backtest_prints_tables_and_writes_a_page_and_reads_stdin(tmp_path: Path) -> None:
    policy, html = tmp_path / "policy.toml", tmp_path / "page.html"
    policy.write_text(STRICT)
    lines = b"".join(encode_transaction(txn) + b"\n" for txn in burst(4))

    result = succeed("backtest", "-", "--policy", str(policy), "--policy", str(DEFAULT_POLICY), "--html", str(html), stdin=lines)

    assert result.stderr == ""
    assert result.stdout.startswith("Back-test of stdin\n4 payments on 1 day, 2026-03-04 to 2026-03-04 (UTC): 100.00 EUR\n")
    words = " ".join(result.stdout.split())
    for sentence in ("nothing is known about what is fraud", "velocity_1m on, block 2", "block allow 2", "Examples of changes"):
        assert sentence in words
    assert html.read_text().startswith("<!doctype html>")


def test_a_pipe_of_commands_works_and_a_reader_that_leaves_early_breaks_nothing(tmp_path: Path) -> None:
    script = "set -o pipefail; {0} simulate --cards 300 --days 30 | {0} decide - 2> {1} | head -n 1".format(
        f"{sys.executable} -m aegis_app", tmp_path / "errors"
    )

    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))

    assert json.loads(done.stdout)["outcome"] == "allow"
    assert done.stderr == ""
    assert (tmp_path / "errors").read_text() == ""


def test_the_committed_page_of_settings_is_that_of_the_settings() -> None:
    page = (SCHEMAS.parent / "settings.md").read_text()

    assert page == settings_page(), "write it anew: python -c 'from aegis_app.schemas import *; print(settings_page(), end=\"\")'"


@pytest.mark.parametrize("state", ["shadow", "off"])
def test_features_are_written_as_they_were_when_each_payment_was_decided(tmp_path: Path, state: str) -> None:
    """Whether or not rules had asked for them by then."""
    parquet = pytest.importorskip("pyarrow.parquet")
    file, out, policy = tmp_path / "payments.jsonl", tmp_path / "features.parquet", tmp_path / "policy.toml"
    policy.write_text("".join(f'[rules.{rule.name}]\nstate = "{state}"\n' for rule in RULES))
    payments = [payment(minute=20 * n, attributes={"V1": n / 2}) for n in range(8)]
    file.write_bytes(b"\n".join(map(encode_transaction, [*payments, payments[0]])) + b"\nrubbish\n")

    result = run("features", str(file), "--policy", str(policy), "--out", str(out))

    rows = parquet.read_table(out).to_pylist()
    described = {name: rows[6][name] for name in CATALOGUE if name not in OF_OTHERS}
    assert result.exit_code == 1
    assert "line 10: " in result.stderr
    assert len(rows) == 8
    alone = seen(remember(*payments[:6]), payments[6]).named()
    assert described == {name: value for name, value in alone.items() if name not in OF_OTHERS}
    assert rows[6]["merchant_payments_30d"] == sum(txn.merchant_id == payments[6].merchant_id for txn in payments[:6])
    assert (rows[6]["verdict"], rows[6]["attributes"]) == ("allow", [("V1", 3.0)])


def test_features_know_of_a_fraud_from_the_moment_it_was_labelled(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file, said, out = tmp_path / "payments.jsonl", tmp_path / "labels.jsonl", tmp_path / "features.parquet"
    payments = [payment(minute=60 * n) for n in range(5)]
    file.write_bytes(b"\n".join(map(encode_transaction, payments)))
    said.write_bytes(encode_label(label(payments[0], after=timedelta(hours=3))) + b"\nrubbish\n")

    result = run("features", str(file), "--labels", str(said), "--out", str(out))

    assert result.exit_code == 1
    assert result.stderr.startswith(f"{said}, line 2: JSON is malformed")
    assert result.stderr.endswith("aegis: 1 line without a label that can be taken; the others were learnt\n")
    assert [row["habit"] for row in parquet.read_table(out).to_pylist()] == [0, 1, 2, 2, 3]


def test_the_committed_catalogue_of_features_is_what_the_features_say() -> None:
    page = (SCHEMAS.parent / "features.md").read_text()

    assert page == features_page(), "write it anew: python -c 'from aegis_app.schemas import *; print(features_page(), end=\"\")'"


def test_the_committed_page_of_metrics_is_that_of_the_metrics() -> None:
    page = (SCHEMAS.parent / "metrics.md").read_text()

    assert page == metrics_page(), "write it anew: python -c 'from aegis_app.schemas import *; print(metrics_page(), end=\"\")'"


def test_datasets_says_what_a_file_holds_and_what_it_lacks(tmp_path: Path) -> None:
    path, mapping = tmp_path / "some.csv", tmp_path / "some.toml"
    path.write_text("card,paid,at,lat,lon,bad\nC1,1,2026-03-02,91,0,1\nC2,2.5,2026-03-01,,,0\nC1,3,2026-03-03,1,1,\n")
    mapping.write_text(
        '[fields]\ncard_id = "card"\namount = "paid"\ntimestamp = "at"\nlatitude = "lat"\nlongitude = "lon"\n[label]\ncolumn = "bad"\n'
    )

    done = CliRunner().invoke(main, ["datasets", str(path), "--format", str(mapping)])

    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "3 payments of 2 cards at 0 merchants: 1 fraud, 1 genuine, 1 unlabelled",
        "from 2026-03-01 00:00:00Z to 2026-03-03 00:00:00Z, not in the order of time",
        "currencies: EUR 3",
        "fields: latitude 33 %, longitude 33 %; "
        "no channel, merchant_id, merchant_category, payee_id, customer_id, device_id, country, home_country",
        "missing: bad in 1 row, lat in 1 row, lon in 1 row",
        "latitude: 1 value left out, the first in line 2: Expected `float` <= 90.0",
    ]


MISSPELT = "fields that no payment has, which are not used: merchnt_id (is it merchant_id?) in 2, chanel (is it channel?) in 1"


@pytest.fixture
def misspelt(tmp_path: Path) -> Path:
    path = tmp_path / "misspelt.jsonl"
    lines = [json.loads(encode_transaction(payment(minute=minute, merchant_id=None))) | {"merchnt_id": "m"} for minute in range(2)]
    del lines[0]["channel"]
    lines[0]["chanel"] = "online"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_datasets_tells_fields_that_nobody_knows_and_how_many_payments_have_the_others(misspelt: Path) -> None:
    said = succeed("datasets", str(misspelt)).stdout.splitlines()
    found = json.loads(succeed("datasets", str(misspelt), "--json").stdout)

    assert said[-1] == MISSPELT
    assert said[-2].startswith("fields: channel 50 %, country 100 %, latitude 100 %, longitude 100 %; no merchant_id, ")
    assert found["unknown"] == {"merchnt_id": 2, "chanel": 1}
    assert (found["held"]["fields"]["channel"], found["held"]["fields"]["merchant_id"]) == (1, 0)


@pytest.mark.parametrize("command", [("decide",), ("features", "--out", "matrix.parquet"), ("backtest",)], ids=lambda command: command[0])
def test_who_reads_payments_is_told_once_of_fields_that_nobody_knows(
    misspelt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert succeed(command[0], str(misspelt), *command[1:]).stderr.count(f"{misspelt}: {MISSPELT}\n") == 1


def test_columns_of_our_own_tables_that_are_no_fields_are_told(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("transaction_id,card_id,amount_minor,currency,timestamp,chanel\nt1,c1,100,EUR,2026-03-04T12:00:00Z,chip\n")

    assert "which are not used: chanel (is it channel?)\n" in succeed("datasets", str(path)).stdout
    assert "which are not used: chanel (is it channel?)\n" in succeed("decide", str(path)).stderr


def test_a_table_of_others_is_decided_and_what_was_left_out_is_told(tmp_path: Path) -> None:
    path, mapping = tmp_path / "some.csv", tmp_path / "some.toml"
    path.write_text("card,paid,at,where\nC1,1,2026-03-02,FR\nC2,2.5,2026-03-01,France\n")
    mapping.write_text('[fields]\ncard_id = "card"\namount = "paid"\ntimestamp = "at"\ncountry = "where"\n')

    done = CliRunner().invoke(main, ["decide", str(path), "--format", str(mapping)])

    assert done.exit_code == 0
    assert [json.loads(line)["amount_minor"] for line in done.stdout.splitlines()] == [100, 250]
    assert f"{path}: country: 1 value left out, the first in line 3:" in done.stderr


def test_an_output_that_ctrl_c_cut_short_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "decisions.jsonl"

    def write() -> None:
        with options.writing(out) as file:
            file.write(b"{}\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert out.read_bytes() == b"{}\n"
    assert capsys.readouterr().err == f"{out} holds what was written until Ctrl-C, and is not whole\n"
