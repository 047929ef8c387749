"""The ledger's schema in a database, by Alembic."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from aegis_app.ledger.database import LedgerError, shown, speaking

PLACE: Final = Path(__file__).parent / "migrations"


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(PLACE).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def migrate(engine: Engine) -> tuple[str | None, str | None]:
    """Bring the database to the schema of this version; returns the revisions before and after. Raises `LedgerAwayError`."""
    with speaking(engine), engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # Python's driver begins none for a table: half a migration would stay
        before = _revision(connection)
        _refuse_newer(connection, before)
        command.upgrade(_config(connection), "head")
        return before, _revision(connection)


def check_is_migrated(engine: Engine) -> None:
    """Raises `LedgerError` where the schema is not that of this version; `LedgerAwayError`."""
    with speaking(engine), engine.connect() as connection:
        found, wanted = _revision(connection), ScriptDirectory.from_config(_config()).get_current_head()
        _refuse_newer(connection, found)
    if found != wanted:
        state = "is empty" if found is None else f"has schema {found}, this version wants {wanted}"
        raise LedgerError(f"the ledger at {shown(engine.url)} {state}: run `aegis ledger migrate`")


def _refuse_newer(connection: Connection, found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise LedgerError(f"the ledger at {shown(connection.engine.url)} has schema {found}, of a newer version of Aegis: use that one")
