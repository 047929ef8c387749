"""Decisions and labels a second into SQL, by one `aegis ledger run`. `python -m bench --only ledger`."""

import asyncio
import time
from collections import Counter
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Engine, func, select

from aegis_app.core.decision import encode_decision
from aegis_app.core.label import Label, Source, encode_label
from aegis_app.core.replay import replay
from aegis_app.ledger.database import connect
from aegis_app.ledger.migrating import migrate
from aegis_app.ledger.tables import decisions, sources
from aegis_app.policies import local_terms
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name, home
from bench.postgres import Postgres, programs
from bench.rig import PARTITIONS, Rig, cpu_seconds, payments

LABELLED = 20
"""One payment of so many has a label."""
SECONDS = 120.0


def measure(rig: Rig, number: int) -> dict[str, Any]:
    """The same topics into SQLite, and into a PostgreSQL that syncs to its disk."""
    settings = rig.settings("ledger")
    sent = asyncio.run(_fill(settings, number))
    with TemporaryDirectory(prefix="aegis-ledger-") as directory:
        found = {"sqlite": _keep(rig, settings, f"sqlite:///{directory}/ledger.sqlite", sent)}
    where = programs()
    if where is not None:
        with Postgres(where, durable=True) as server:
            found["postgresql"] = _keep(rig, settings, server.database("ledger"), sent)
    return found


async def _fill(settings: Settings, number: int) -> Counter[Name]:
    """How many records went to each topic."""
    records: dict[tuple[Name, int], list[Outgoing]] = {}
    for place, (txn, screened) in enumerate(replay(payments(number, 20_000), local_terms(settings), elsewhere=False)):
        key = txn.card_id.encode()
        at = home(key, PARTITIONS)
        records.setdefault((Name.DECISIONS, at), []).append(Outgoing(key, encode_decision(txn, screened.ruling)))
        if place % LABELLED == 0:
            said = Label(
                transaction_id=txn.transaction_id,
                card_id=txn.card_id,
                timestamp=txn.timestamp,
                is_fraud=place % 40 == 0,
                labelled_at=txn.timestamp,
                source=Source.CHARGEBACK,
            )
            records.setdefault((Name.LABELS, at), []).append(Outgoing(key, encode_label(said)))
    async with Outbox(settings.connection()) as outbox:
        await asyncio.gather(*(outbox.publish(full_name(name, settings), at, batch) for (name, at), batch in records.items()))
    sent: Counter[Name] = Counter()
    for (name, _), batch in records.items():
        sent[name] += len(batch)
    return sent


def _keep(rig: Rig, settings: Settings, url: str, sent: Counter[Name]) -> dict[str, Any]:
    engine = connect(Settings(ledger=url))
    migrate(engine)
    deadline = time.monotonic() + SECONDS
    looks: list[tuple[float, int]] = []
    keeper = rig.ledger(settings, url).start()
    try:
        while not looks or looks[-1][1] < sent.total():
            time.sleep(0.5)
            if (taken := _taken(engine)) > 0:
                looks.append((time.monotonic(), taken))
            if keeper.pid is None or time.monotonic() > deadline:
                raise RuntimeError(f"{looks[-1:]} of {sent.total()} rows are in the ledger: {keeper.last_words()}")
        cpu = cpu_seconds(keeper)
    finally:
        keeper.stop()
    with engine.connect() as connection:
        kept = connection.execute(select(func.count()).select_from(decisions)).scalar_one()
    assert kept == sent[Name.DECISIONS], f"{kept} of {sent[Name.DECISIONS]} decisions are in the ledger"
    engine.dispose()
    (begun, first), (ended, last) = looks[0], looks[-1]
    return {"rows_per_second": round((last - first) / (ended - begun)), "cpu_microseconds_a_row": round(cpu / sent.total() * 1e6, 1)}


def _taken(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.coalesce(func.sum(sources.c.next_offset), 0))).scalar_one())
