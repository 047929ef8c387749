"""The ledger's schema in a database, by Alembic; and who writes there stays away from one that is not theirs."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from aegis_app.ledger.database import LedgerError, NotMigratedError, shown, speaking

PLACE: Final = Path(__file__).parent / "migrations"


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(PLACE).replace("%", "%%"))
    return config


@cache
def _known() -> tuple[str, ...]:
    """Revisions of this version, the newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def migrate(engine: Engine) -> tuple[str | None, str | None]:
    """Bring the database to the schema of this version; returns the revisions before and after. Raises `LedgerAwayError`.

    Batches under way are waited for, and none begins before the end.
    """
    with _alone(engine) as connection:
        if connection.dialect.name == "postgresql" and inspect(connection).has_table("decisions"):
            connection.exec_driver_sql("LOCK TABLE alembic_version")  # each batch has read it
            connection.exec_driver_sql("LOCK TABLE decisions IN SHARE ROW EXCLUSIVE MODE")  # but for those of versions before 0003
        before = _revision(connection)
        _refuse_newer(connection, before)
        command.upgrade(_config(connection), "head")
        return before, _revision(connection)


def check_is_migrated(engine: Engine) -> None:
    """Raises `LedgerError` where the schema is not that of this version; `LedgerAwayError`."""
    with speaking(engine), engine.connect() as connection:
        _check(connection)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction on a ledger that has the schema of this version until its end. Raises `LedgerError` where not; `LedgerAwayError`.

    A writer that went on beside a newer schema would leave out what it does not know of.
    """
    with _alone(engine) as connection:
        _check(connection)
        yield connection


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction; in SQLite from now on, where Python's driver begins one with the first row: half a migration would stay."""
    with speaking(engine), engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _check(connection: Connection) -> None:
    found = _revision(connection)
    _refuse_newer(connection, found)
    wanted = _known()[0]
    if found != wanted:
        state = "is empty" if found is None else f"has schema {found}, this version wants {wanted}"
        raise NotMigratedError(f"the ledger at {shown(connection.engine.url)} {state}: run `aegis ledger migrate`")


def _refuse_newer(connection: Connection, found: str | None) -> None:
    if found is not None and found not in _known():
        raise LedgerError(f"the ledger at {shown(connection.engine.url)} has schema {found}, of a newer version of Aegis: use that one")
