"""The ledger in SQL, in SQLite and in a real PostgreSQL alike: what is written once stands, and what is read is what was written."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count, permutations
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from click.testing import CliRunner, Result
from pyarrow import parquet
from sqlalchemy import Engine, func, insert, select, text
from sqlalchemy.exc import IntegrityError

from aegis_app.cli import main
from aegis_app.core.answer import Action, Fallback
from aegis_app.core.decision import Reason
from aegis_app.core.label import Label, encode_label
from aegis_app.core.payment import Channel, Kind, Outcome, Transaction
from aegis_app.core.rates import EUROS, Rates
from aegis_app.core.verdicts import Ignored, put, verdict_on, weigh
from aegis_app.ledger import queries
from aegis_app.ledger.database import LedgerAwayError, LedgerError, connect, ledger_url, shown
from aegis_app.ledger.migrating import _config, migrate
from aegis_app.ledger.queries import Entry, Place, Wanted
from aegis_app.ledger.rows import decision_row, without_nul
from aegis_app.ledger.store import Batch, Store, erase, prune
from aegis_app.ledger.tables import decisions, fallbacks, hits, labels, metadata, verdicts
from aegis_app.settings import Settings
from aegis_app.settings import settings as read_once
from bench.postgres import Postgres
from models.training import read_sample
from tests.make import NOON, allowed, decision, decode_decision, label, payment, remember, seen
from tests.tools import postgres_programs

NUMBERS = count()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres(postgres_programs()) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Of an empty database."""
    if request.param == "sqlite":
        return Settings(ledger=f"sqlite:///{tmp_path}/new/ledger.sqlite")
    return Settings(ledger=request.getfixturevalue("postgres").database(f"ledger{next(NUMBERS)}"))


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = connect(settings)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> Store:
    store = Store(engine, EUROS)
    store.open()
    return store


def write(store: Store, *records: Any, read: dict[tuple[str, int], int] | None = None) -> None:
    """Decisions, labels and fallbacks, in one transaction."""
    said = [record for record in records if isinstance(record, Label)]
    answered = [record for record in records if isinstance(record, Fallback)]
    made = [record for record in records if not isinstance(record, Label | Fallback)]
    store.write(Batch(made, said, {} if read is None else read, answered))


def fallback(txn: Transaction, *, after: timedelta = timedelta(0), **fields: Any) -> Fallback:
    """That its caller was answered `review` after 100 ms without a decision."""
    answered: dict[str, Any] = {
        "outcome": Outcome.REVIEW,
        "action": Action.HOLD,
        "answered_at": txn.timestamp + after,
        "waited_ms": 100,
        "source": "3:41",
    }
    about: dict[str, Any] = {"transaction_id": txn.transaction_id, "card_id": txn.card_id, "timestamp": txn.timestamp}
    return Fallback(**about | answered | fields)


def everything(engine: Engine, **wanted: Any) -> list[str]:
    """Ids of the payments on all pages of two, in their order."""
    ids: list[str] = []
    after: Place | None = None
    while True:
        page = queries.page(engine, Wanted(**wanted), after, limit=2)
        ids += [entry.decision.transaction_id for entry in page.entries]
        if page.next is None:
            return ids
        after = Place.decode(page.next.encode())


def view(engine: Engine, query: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [{str(name): value for name, value in row.items()} for row in connection.execute(text(query)).mappings()]


def rows(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        tables = (decisions, hits, labels, verdicts, fallbacks)
        return {table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}


def only(entries: list[Entry]) -> Entry:
    (entry,) = entries
    return entry


def test_what_is_migrated_is_what_is_written_to(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert migrate(engine)[0] == migrate(engine)[1] is not None


def test_a_ledger_that_is_not_migrated_is_refused_with_what_to_do(settings: Settings) -> None:
    engine = connect(settings)
    with pytest.raises(LedgerError, match="is empty: run `aegis ledger migrate`"):
        Store(engine, EUROS).open()
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refused in (lambda: Store(engine, EUROS).open(), lambda: migrate(engine)):
        with pytest.raises(LedgerError, match="schema 9999, of a newer version of Aegis"):
            refused()
    engine.dispose()


def test_a_ledger_is_kept_in_one_base_currency(engine: Engine, store: Store) -> None:
    store.open()
    with pytest.raises(LedgerError, match="kept in EUR, AEGIS_BASE_CURRENCY is USD"):
        Store(engine, Rates("USD")).open()


def test_every_field_comes_back_as_it_was_written(engine: Engine, store: Store) -> None:
    whole = decision(
        payment(
            kind=Kind.TRANSFER,
            channel=Channel.ONLINE,
            merchant_category="5411",
            payee_id="p",
            customer_id="c",
            device_id="d",
            home_country="DE",
            attributes={"V1": -1.5, "balance": 0.0},
            timestamp=datetime(2026, 3, 4, 1, 30, 0, 123456, tzinfo=UTC),
        ),
        outcome=Outcome.ALLOW,
        probability=0.25,
        reasons=[Reason("velocity_1m", "9 in a minute"), Reason("watch_list", 'the card is on it: "x"')],
        shadow_rules=["amount_spike"],
        isolation_forest=0.0,
        autoencoder=0.5,
        supervised=1.0,
        bundle="b",
        lists="l",
        risk="r",
        rates="x",
        control_probability=0.01,
        duplicate=True,
        degraded=True,
        stale=True,
        redriven=True,
        features={"amount": 2500, "kmh": None, "new_country": False},
    )
    bare = allowed(payment(minute=1, merchant_id=None, country=None, latitude=None, longitude=None, channel=None), score=None)
    write(store, whole, bare)

    assert only(queries.find(engine, whole.transaction_id)) == Entry(whole, 2500, None, None)
    assert only(queries.find(engine, bare.transaction_id)) == Entry(bare, 2500, None, None)
    assert queries.find(engine, "never seen") == []


def test_the_first_decision_of_a_payment_stands(engine: Engine, store: Store) -> None:
    txn = payment()
    first = decision(txn)
    write(store, first, decision(txn, score=0.5, rules=["amount_spike"]), read={("decisions", 1): 2})
    write(store, allowed(txn, shadow_rules=["card_testing"]), read={("decisions", 1): 3, ("labels", 0): 9})

    assert only(queries.find(engine, txn.transaction_id)).decision == first
    assert [row["rule"] for row in view(engine, "SELECT rule FROM hits")] == ["velocity_1m"]
    assert store.places([("decisions", 0), ("decisions", 1)]) == {("decisions", 1): 3}


def test_what_was_answered_without_a_decision_stands_beside_the_decision_that_followed(engine: Engine, store: Store) -> None:
    txn, other, lost = payment(), payment(transaction_id="other"), payment(transaction_id="lost")
    first, again = fallback(txn), fallback(txn, after=timedelta(seconds=3), outcome=Outcome.ALLOW, action=Action.APPROVE)
    write(store, again, fallback(lost, source=None))
    write(store, first, again, decision(txn, outcome=Outcome.ALLOW), fallback(txn, card_id="card-2"), decision(other), label(txn))

    assert only(queries.find(engine, txn.transaction_id)).fallback == first
    assert [entry.fallback for entry in queries.page(engine, Wanted()).entries] == [first, None]
    ends = view(
        engine,
        "SELECT transaction_id, answered, decided, as_answered, amount, labelled FROM fallen_back ORDER BY 1 DESC, 2, decided IS NULL",
    )
    mine = [[row["answered"], row["decided"], row["as_answered"] and True, row["labelled"] and True] for row in ends[:-1]]
    assert mine == [["allow", "allow", True, True], ["review", "allow", False, True], ["review", None, None, None]]
    assert ends[-1] == {"transaction_id": "lost", "answered": "review"} | dict.fromkeys(("decided", "as_answered", "amount", "labelled"))
    assert float(ends[0]["amount"]) == 25.0


def test_two_cards_with_one_transaction_id_are_two_payments(engine: Engine, store: Store) -> None:
    one, other = payment(), payment(card_id="card-2", minute=1, transaction_id=payment().transaction_id)
    write(store, decision(one), allowed(other), label(other))

    assert [entry.decision.card_id for entry in queries.find(engine, one.transaction_id)] == ["card-1", "card-2"]
    assert only(queries.find(engine, one.transaction_id, "card-1")).known is None
    assert only(queries.find(engine, one.transaction_id, "card-2")).known is not None


def test_labels_weigh_as_in_the_memory_of_a_card_in_whatever_order_they_come(engine: Engine, store: Store) -> None:
    hour = timedelta(hours=1)

    def spoken(txn: Any) -> list[Label]:
        return [
            label(txn, source="analyst", after=9 * hour),
            label(txn, source="chargeback", is_fraud=False, after=3 * hour),
            label(txn, source="chargeback", after=3 * hour + timedelta(microseconds=100), note="the same millisecond"),
            label(txn, source="chargeback", is_fraud=False, after=2 * hour),
        ]

    for number, order in enumerate(permutations(range(4))):
        txn = payment(transaction_id=f"t{number}", seconds=number)
        said = [spoken(txn)[place] for place in order]
        column = b""
        for each in said:
            verdict = weigh(column, b"12345678", each)
            column = column if isinstance(verdict, Ignored) else put(column, verdict)
        write(store, *said[:2])
        write(store, allowed(txn), *said[2:], *said[:1])

        expected, known = verdict_on(column, b"12345678"), only(queries.find(engine, txn.transaction_id)).known
        assert expected is not None
        assert known is not None
        assert (known.is_fraud, known.labelled_at.timestamp() * 1000) == (expected.is_fraud, expected.known_at)
        assert sorted(map(encode_label, queries.said(engine, txn.transaction_id, "card-1"))) == sorted(map(encode_label, spoken(txn)))


COUNTED_ANEW = """
    SELECT day, count(*) AS payments, count(*) FILTER (WHERE verdict = 'block') AS blocks, count(*) FILTER (WHERE is_fraud) AS frauds,
        count(*) FILTER (WHERE is_fraud AND verdict <> 'allow') AS caught, count(*) FILTER (WHERE NOT is_fraud AND verdict <> 'allow') AS
        false_alarms, count(*) FILTER (WHERE is_fraud IS NULL) AS unknown, count(*) FILTER (WHERE base_minor IS NULL) AS unpriced,
        coalesce(sum(base_minor), 0) AS money, coalesce(sum(base_minor) FILTER (WHERE is_fraud AND verdict = 'allow'), 0) AS missed_money
    FROM judged WHERE kind NOT IN ('refund', 'reversal') GROUP BY day ORDER BY day
"""
COHORTS = """
    SELECT day, payments, blocks, frauds, caught, false_alarms, unknown, unpriced, 100 * money AS money, 100 * missed_money AS missed_money
    FROM cohorts ORDER BY day
"""


def test_totals_stay_those_of_the_rows_whatever_comes_again_and_goes(engine: Engine, store: Store) -> None:
    def check() -> int:
        counted, kept = view(engine, COUNTED_ANEW), view(engine, COHORTS)
        assert [[str(row["day"]), *map(float, [*row.values()][1:])] for row in kept] == [
            [str(row["day"]), *map(float, [*row.values()][1:])] for row in counted
        ]
        return sum(int(row["payments"]) for row in kept)

    made: list[Any] = []
    for hour in range(60):
        txn = payment(minute=hour * 60, transaction_id=f"t{hour}", card_id=f"card-{hour % 3}", amount_minor=hour * 1000)
        kind = Kind.REFUND if hour % 10 == 9 else Kind.PURCHASE
        txn = msgspec.structs.replace(txn, kind=kind, currency="CHF" if hour % 7 == 3 else "EUR")
        made.append(decision(txn) if hour % 4 else allowed(txn))
        made += [label(txn, is_fraud=hour % 8 == 0)] if hour % 2 == 0 else []
    for start in (0, 40, 20, 0):
        write(store, *made[start : start + 60])
    assert check() == 54
    Store(engine, EUROS).write(Batch([each for each in made if not isinstance(each, Label)], [], {}))
    write(store, label(payment(minute=60, transaction_id="t1", card_id="card-1"), source="customer"))
    assert check() == 54
    assert sum(prune(engine, NOON + timedelta(hours=30)))
    assert check() == 27
    erase(engine, "card-1")
    assert check() == 18
    assert sum(row["payments"] for row in view(engine, "SELECT payments FROM totals")) == 18


def test_a_ledger_of_the_schema_before_is_counted_once(engine: Engine, store: Store) -> None:
    write(store, *(decision(payment(transaction_id=f"t{n}", seconds=n)) for n in range(5)), label(payment(transaction_id="t1", seconds=1)))
    before = view(engine, COHORTS)
    with engine.begin() as connection:
        command.downgrade(_config(connection), "0002")
    assert view(engine, COHORTS) == before
    migrate(engine)

    assert view(engine, COHORTS) == before
    assert [row["payments"] for row in view(engine, "SELECT payments FROM totals")] == [5]


def test_a_batch_under_way_is_counted_by_the_migration(engine: Engine, store: Store) -> None:
    """Of a writer of the version before, which looks at no schema."""
    row = decision_row(decision(payment()), EUROS)
    with engine.begin() as connection:
        command.downgrade(_config(connection), "0002")
    migrating = threading.Thread(target=migrate, args=(engine,))
    with engine.begin() as writer:
        writer.execute(insert(decisions), row)
        migrating.start()
        migrating.join(1)
        assert migrating.is_alive()
    migrating.join(30)

    assert [row["payments"] for row in view(engine, "SELECT payments FROM totals")] == [1]


def test_a_writer_that_runs_on_beside_a_newer_schema_writes_nothing_more(engine: Engine, store: Store) -> None:
    write(store, decision(payment()))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    for refused in (lambda: write(store, decision(payment(transaction_id="next"))), lambda: sum(prune(engine, datetime.now(UTC)))):
        with pytest.raises(LedgerError, match="schema 9999, of a newer version of Aegis: use that one"):
            refused()
    assert rows(engine)["decisions"] == 1


def test_a_batch_waits_for_a_migration_and_is_not_written_after(postgres: Postgres) -> None:
    """It began before, and knows nothing of the schema that is there when it could go on."""
    settings = Settings(ledger=postgres.database(f"ledger{next(NUMBERS)}"))
    engine = connect(settings)
    migrate(engine)
    failed: list[BaseException] = []

    def batch() -> None:
        with pytest.raises(LedgerError, match="of a newer version") as refusal:
            write(Store(engine, EUROS), decision(payment()))
        failed.append(refusal.value)

    writer = threading.Thread(target=batch)
    with engine.begin() as migration:
        migration.execute(text("LOCK TABLE alembic_version"))
        writer.start()
        writer.join(1)
        assert writer.is_alive()
        migration.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    writer.join(30)

    assert len(failed) == 1
    assert rows(engine)["decisions"] == 0
    engine.dispose()


def test_totals_that_an_old_writer_left_behind_are_counted_anew(aegis: Callable[..., Result], engine: Engine, store: Store) -> None:
    write(store, *(decision(payment(transaction_id=f"t{n}", minute=n * 700, amount_minor=n)) for n in range(6)))
    right = view(engine, COHORTS)
    with engine.begin() as old:
        for n in range(3):
            txn = payment(transaction_id=f"old{n}", currency="CHF", kind=Kind.REFUND if n == 2 else Kind.PURCHASE)
            old.execute(insert(decisions), decision_row(decision(txn), EUROS))
    assert view(engine, COHORTS) == right

    assert aegis("recount").output == "8 payments counted; the totals had 6\n"
    assert (view(engine, COHORTS)[0]["payments"], view(engine, COHORTS)[0]["unpriced"]) == (right[0]["payments"] + 2, 2)
    assert view(engine, COHORTS)[1:] == right[1:]
    assert aegis("recount", "--json").output == '{"before":8,"payments":8}\n'
    erase(engine, "card-1")
    assert sum(row["payments"] for row in view(engine, "SELECT payments FROM totals")) == 0


def test_what_is_said_of_payments_never_decided_here_is_kept(engine: Engine, store: Store) -> None:
    unknown = payment(transaction_id="elsewhere")
    write(store, label(unknown, amount_minor=5, currency="EUR", labelled_by="ana", note="by phone", fraud_type="stolen"))

    assert only_label(queries.said(engine, "elsewhere", "card-1")).note == "by phone"
    assert rows(engine) == {"decisions": 0, "hits": 0, "labels": 1, "verdicts": 1, "fallbacks": 0}


def only_label(said: list[Label]) -> Label:
    (found,) = said
    return found


def test_a_batch_is_written_whole_or_not_at_all(engine: Engine, store: Store) -> None:
    nowhere: Any = {("decisions", 0): 1, ("decisions", 1): None}
    with pytest.raises(IntegrityError):
        write(store, decision(payment()), label(payment()), read=nowhere)

    assert set(rows(engine).values()) == {0}
    assert store.places([("decisions", 0)]) == {}


def test_two_writers_of_one_partition_write_each_row_once(engine: Engine, store: Store) -> None:
    batches = [
        Batch(
            [decision(payment(transaction_id=f"t{n}", seconds=n)) for n in range(part, part + 50)],
            [label(payment(transaction_id=f"t{n}", seconds=n)) for n in range(part, part + 50)],
            {("decisions", 0): part + 50},
            [fallback(payment(transaction_id=f"t{n}", seconds=n)) for n in range(part, part + 50)],
        )
        for part in range(0, 500, 50)
    ]
    failed: list[BaseException] = []

    def run() -> None:
        own = Store(engine, EUROS)
        for batch in batches:
            while True:
                try:
                    own.write(batch)
                except LedgerAwayError:  # the two wait for each other: the database has one of them try again
                    continue
                except BaseException as error:
                    failed.append(error)
                break

    writers = [threading.Thread(target=run) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert failed == []
    assert set(rows(engine).values()) == {500}
    assert sum(row["payments"] for row in view(engine, "SELECT payments FROM totals")) == 500


def test_characters_that_a_database_cannot_hold_are_replaced(engine: Engine, store: Store) -> None:
    made = decision(payment(transaction_id="t", merchant_id="a\0b", attributes={"\0": 1.0}, payee_id="\\u0000"))
    write(store, decode_decision(without_nul(msgspec.json.encode(made))))

    found = only(queries.find(engine, "t")).decision
    assert (found.merchant_id, found.attributes, found.payee_id) == ("a\ufffdb", {"\ufffd": 1.0}, "\\u0000")


@pytest.mark.parametrize(
    ("fields", "of", "expected"),
    [
        ({"currency": "EUR"}, {}, 2500),
        ({"currency": "JPY"}, {"rates": Rates("EUR", {"JPY": 160.0}).version}, 1562),
        ({"currency": "JPY"}, {"rates": "those of then", "features": {"amount": 1600}}, 1600),
        ({"currency": "JPY"}, {"rates": "those of then", "features": {"amount": None}}, None),
        ({"currency": "JPY"}, {"rates": "those of then"}, None),
        ({"currency": "GBP"}, {"rates": Rates("EUR", {"JPY": 160.0}).version}, None),
    ],
)
def test_an_amount_in_base_currency_is_that_which_the_worker_compared(
    fields: dict[str, Any], of: dict[str, Any], expected: int | None, tmp_path: Path
) -> None:
    engine = connect(Settings(ledger=f"sqlite:///{tmp_path}/ledger.sqlite"))
    migrate(engine)
    store = Store(engine, Rates("EUR", {"JPY": 160.0}))
    write(store, decision(payment(amount_minor=2500, **fields), **of))

    assert only(queries.find(engine, payment().transaction_id)).base_minor == expected
    engine.dispose()


def test_pages_follow_each_other_without_gap_or_repeat_and_narrow_by_what_is_asked(engine: Engine, store: Store) -> None:
    same = [decision(payment(transaction_id=f"same{n}")) for n in range(5)]
    later = allowed(payment(transaction_id="later", minute=5, card_id="card-2", merchant_id="smith"), shadow_rules=["amount_spike"])
    reviewed = decision(payment(transaction_id="reviewed", minute=9), verdict=Outcome.REVIEW, outcome=Outcome.REVIEW)
    write(store, *same, later, reviewed, label(payment(transaction_id="reviewed")))

    assert everything(engine) == ["reviewed", "later", "same4", "same3", "same2", "same1", "same0"]
    assert everything(engine, outcome=Outcome.BLOCK) == ["same4", "same3", "same2", "same1", "same0"]
    assert everything(engine, verdict=Outcome.ALLOW) == everything(engine, card_id="card-2") == everything(engine, merchant_id="smith")
    assert everything(engine, rule="amount_spike") == ["later"]
    assert everything(engine, rule="velocity_1m", since=NOON + timedelta(minutes=9)) == ["reviewed"]
    assert everything(engine, reviewed=True) == ["reviewed"]
    assert everything(engine, rule="velocity_1m", reviewed=True) == ["reviewed"]
    assert everything(engine, rule="velocity_1m", reviewed=False, outcome=Outcome.BLOCK) == everything(engine, outcome=Outcome.BLOCK)
    assert everything(engine, rule="velocity_1m", outcome=Outcome.REVIEW, merchant_id=reviewed.merchant_id) == ["reviewed"]
    assert everything(engine, rule="velocity_1m", card_id="card-2") == []
    assert everything(engine, reviewed=False, since=NOON + timedelta(minutes=5)) == ["later"]
    assert everything(engine, until=NOON) == []
    for garbage in ("00", "garbage"):
        with pytest.raises(ValueError, match="no place that a page ended with"):
            Place.decode(garbage)


def test_boards_read_what_was_caught_and_missed_by_the_day_of_the_payment(engine: Engine, store: Store) -> None:
    old, young = datetime(2026, 3, 4, 23, 59, tzinfo=UTC), datetime.now(UTC) - timedelta(days=2)
    review = {"outcome": Outcome.REVIEW, "verdict": Outcome.REVIEW}

    def paid(name: str, at: datetime, amount: int, **fields: Any) -> Any:
        return payment(transaction_id=name, timestamp=at, amount_minor=amount, **fields)

    write(
        store,
        decision(paid("caught", old, 100_00)),
        label(paid("caught", old, 100_00)),
        decision(paid("observed", old, 50_00), outcome=Outcome.ALLOW),
        label(paid("observed", old, 50_00)),
        allowed(paid("missed", old, 30_00), shadow_rules=["velocity_1m"]),
        label(paid("missed", old, 30_00)),
        decision(paid("false alarm", old, 20_00), **review, rules=[], shadow_rules=["velocity_1m"]),
        decision(paid("nobody says", old, 10_00)),
        allowed(paid("fine", old, 1_00)),
        allowed(paid("priceless", old, 1_00, currency="JPY")),
        allowed(paid("back", old, 1_00, kind=Kind.REFUND)),
        decision(paid("waits", young, 7_00), **review),
    )

    mature, immature = view(engine, "SELECT * FROM cohorts ORDER BY day")
    assert date.fromisoformat(str(mature.pop("day"))) == old.date()
    assert {name: float(value) for name, value in mature.items()} == {
        "is_mature": True,
        "payments": 7,
        "reviews": 1,
        "blocks": 3,
        "frauds": 3,
        "caught": 2,
        "missed": 1,
        "false_alarms": 1,
        "unknown": 1,
        "unpriced": 1,
        "money": 211.0,
        "fraud_money": 180.0,
        "caught_money": 150.0,
        "missed_money": 30.0,
        "false_alarm_money": 20.0,
        "blocked_money": 110.0,
    }
    assert [bool(immature["is_mature"]), immature["payments"], immature["unknown"]] == [False, 1, 1]
    hit = view(engine, "SELECT mode, hits, frauds, false_alarms, unknown, money FROM rule_days WHERE is_mature ORDER BY mode")
    assert [[value if isinstance(value, str) else float(value) for value in row.values()] for row in hit] == [
        ["on", 3, 2, 0, 1, 160.0],
        ["shadow", 2, 1, 1, 0, 50.0],
    ]
    flagged = view(engine, "SELECT transaction_id, why, amount, latitude, labelled FROM flagged ORDER BY timestamp DESC, transaction_id")
    assert [row["transaction_id"] for row in flagged] == ["waits", "caught", "false alarm", "nobody says", "observed"]
    assert (flagged[1]["why"], float(flagged[1]["amount"]), bool(flagged[1]["labelled"])) == ("9 attempts in a minute", 100.0, True)


def test_the_queries_of_the_page_are_answered(engine: Engine, store: Store) -> None:
    write(store, decision(payment()), label(payment()))
    page = (Path(__file__).parent.parent / "docs/ledger.md").read_text().split("```sql\n")[1:]
    of_postgresql, of_sqlite, of_both = (block.partition("```")[0].split(";")[:-1] for block in page)
    of_weeks = of_sqlite if engine.dialect.name == "sqlite" else of_postgresql

    weeks, rules, last = (view(engine, query) for query in (*of_weeks, *of_both))
    assert (weeks[0]["recall"], weeks[0]["precision"], weeks[0]["is_mature"]) == (1.0, 1.0, True)
    assert str(weeks[0]["week"])[:10] == f"{payment().timestamp - timedelta(days=payment().timestamp.weekday()):%Y-%m-%d}"
    assert [(row["rule"], row["precision"]) for row in rules] == [("velocity_1m", 1.0)]
    assert [row["why"] for row in last] == ["9 attempts in a minute"]


def test_what_is_old_is_pruned_with_all_about_it(engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegis_app.ledger.store.PRUNED_AT_ONCE", 3)
    for minute in range(10):
        txn = payment(minute=minute, transaction_id=f"t{minute}")
        write(store, decision(txn), label(txn), fallback(txn))

    assert sum(prune(engine, NOON + timedelta(minutes=8))) == 5 * 8
    assert everything(engine) == ["t9", "t8"]
    assert set(rows(engine).values()) == {2}


def test_a_database_that_is_away_is_said_so_in_one_line_without_its_password() -> None:
    engine = connect(Settings(ledger="postgresql://aegis:s3cret@127.0.0.1:1/ledger"))
    with pytest.raises(LedgerAwayError) as away:
        Store(engine, EUROS).open()

    assert "aegis:***@127.0.0.1:1/ledger does not answer" in str(away.value)
    assert "\n" not in str(away.value)
    assert "s3cret" not in str(away.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [("ledger.sqlite", "is no URL"), ("mysql://host/ledger", "kept in sqlite or postgresql"), ("sqlite://", "names no file")],
)
def test_what_is_no_ledger_is_refused(url: str, why: str) -> None:
    with pytest.raises(LedgerError, match=why):
        connect(Settings(ledger=url))


@pytest.mark.parametrize("command", [["migrate"], ["run"], ["recount"]])
def test_a_file_of_another_kind_is_said_to_be_no_ledger_in_one_line_and_stays(tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "ok.jsonl"
    file.write_text('{"transaction_id": "t"}\n')
    read_once.cache_clear()

    ended = CliRunner().invoke(main, ["ledger", *command], env={"AEGIS_LEDGER": f"sqlite:///{file}"})
    read_once.cache_clear()

    assert ended.exit_code == 1
    assert ended.stderr == f"aegis: the ledger at sqlite:///{file} cannot be used: file is not a database; check AEGIS_LEDGER\n"
    assert file.read_text() == '{"transaction_id": "t"}\n'


def test_without_a_setting_the_ledger_is_a_file_in_the_data_directory() -> None:
    assert shown(ledger_url(Settings(datadir=Path("there")))) == "sqlite:///there/ledger.sqlite"


@pytest.fixture
def aegis(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Run a command on the ledger of `settings`."""
    monkeypatch.setenv("AEGIS_LEDGER", str(settings.ledger))
    read_once.cache_clear()
    yield lambda *arguments: CliRunner().invoke(main, ["ledger", *arguments])
    read_once.cache_clear()


def test_what_is_exported_is_what_training_reads(aegis: Callable[..., Result], tmp_path: Path, settings: Settings) -> None:
    assert "run `aegis ledger migrate`" in aegis("export", "--since", "2026-03-04", "--out", "x.parquet").output
    assert aegis("migrate").output.endswith("now has schema 0003\n")
    assert aegis("migrate").output.endswith(" has schema 0003\n")
    engine = connect(settings)
    store = Store(engine, EUROS)
    store.open()
    fraud, fine = payment(transaction_id="fraud", minute=2, attributes={"V1": 0.5}), payment(transaction_id="fine")
    described = seen(remember(payment(minute=-9)), fraud).named()
    write(store, decision(fraud, features=described), label(fraud, after=timedelta(days=3)))
    write(store, allowed(fine, features=described, control_probability=0.5), allowed(payment(transaction_id="not described", minute=1)))
    write(store, allowed(payment(transaction_id="before", minute=-1)), allowed(payment(transaction_id="after", minute=3)))
    engine.dispose()
    table, said = tmp_path / "table.parquet", tmp_path / "labels.parquet"
    part = ("--since", "2026-03-04T12:00:00", "--until", "2026-03-04T12:03:00", "--out", str(table))

    done = aegis("export", *part, "--labels", str(said))
    assert (done.exit_code, done.output) == (0, f"3 payments written to {table}\n")
    rows = parquet.read_table(table).to_pylist()
    assert [row["transaction_id"] for row in rows] == ["fine", "not described", "fraud"]
    assert [row["seconds_since_last"] for row in rows] == [660.0, None, 660.0]
    assert {name: rows[2][name] for name in ("kind", "kind_name", "is_fraud", "source", "amount_minor", "attributes", "labelled_at")} == {
        "kind": described["kind"],
        "kind_name": "purchase",
        "is_fraud": True,
        "source": "analyst",
        "amount_minor": 2500,
        "attributes": [("V1", 0.5)],
        "labelled_at": fraud.timestamp + timedelta(days=3),
    }

    assert aegis("export", *part, "--labels", str(said), "--described").exit_code == 0
    sample = read_sample(table, said, label_delay=7, maturity=60)
    assert sample.is_fraud.tolist() == [0.0, 1.0]
    assert sample.alerted.tolist() == [False, True]
    assert sample.weights.tolist() == [2.0, 1.0]
    assert sample.known_at[1] == (fraud.timestamp + timedelta(days=3)).timestamp() * 1000
    assert sample.column("seconds_since_last").tolist() == [660.0, 660.0]


def test_old_payments_are_pruned_by_command(aegis: Callable[..., Result], engine: Engine, store: Store) -> None:
    write(store, decision(payment()), allowed(payment(transaction_id="new", timestamp=datetime.now(UTC))))

    assert aegis("prune").exit_code == 2
    assert aegis("prune", "--keep-days", "30").output.startswith("2 rows about payments before ")
    assert everything(engine) == ["new"]


def test_a_card_is_erased_with_all_about_it(aegis: Callable[..., Result], engine: Engine, store: Store) -> None:
    gone, stays = payment(), payment(transaction_id="stays", card_id="card-2")
    never = label(payment(transaction_id="never decided"))
    write(store, decision(gone), label(gone), fallback(gone), never, decision(stays), label(stays), fallback(stays))

    assert aegis("erase", "card-1").output == "card-1: 7 rows deleted\n"
    assert everything(engine) == ["stays"]
    assert set(rows(engine).values()) == {1}
