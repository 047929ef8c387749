"""The way to the ledger's database, and one line for each way in which we and it do not come together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from aegis_app.settings import Settings

CONNECT_SECONDS: Final = 5
STATEMENT_SECONDS: Final = 60
LOCK_SECONDS: Final = 15
"""Longest waits, of what nobody waits for patiently. What takes longer is tried again."""
INSERT: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""An insert that knows ON CONFLICT, by the dialect's name."""
_DRIVERS: Final = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


class LedgerError(RuntimeError):
    """The ledger cannot be used as it is; the message is one line that says what to do."""


class NotMigratedError(LedgerError):
    """Its tables are missing, or those of an older version."""


class LedgerAwayError(LedgerError):
    """Its database does not answer now."""


def ledger_url(settings: Settings) -> URL:
    """`AEGIS_LEDGER`, or a file in the data directory. Raises `LedgerError`."""
    if settings.ledger is None:
        return URL.create("sqlite", database=str(settings.datadir / "ledger.sqlite"))
    try:
        url = make_url(settings.ledger)
    except ArgumentError:
        raise LedgerError("AEGIS_LEDGER is no URL: sqlite:///var/ledger.sqlite, or postgresql://user@host/database") from None
    if url.drivername.partition("+")[0] not in _DRIVERS:
        raise LedgerError(f"AEGIS_LEDGER names {url.drivername}: a ledger is kept in sqlite or postgresql")
    return url.set(drivername=_DRIVERS[url.drivername.partition("+")[0]])


def shown(url: URL) -> str:
    """Without its password."""
    return url.render_as_string(hide_password=True)


def connect(settings: Settings, *, name: str = "aegis", patient: bool = False) -> Engine:
    """An engine for the ledger; nobody is asked yet. `patient`: statements may take as long as they like. Raises `LedgerError`."""
    url = ledger_url(settings)
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    limits = "" if patient else f" -c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={LOCK_SECONDS}s"
    arguments: dict[str, Any] = {
        "application_name": name,
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        "options": f"-c timezone=UTC{limits}",
    }
    return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=0, pool_timeout=CONNECT_SECONDS, connect_args=arguments)


@contextmanager
def opened(settings: Settings) -> Iterator[Engine]:
    """An engine for the length of a command, whose statements may take as long as they like. Raises `LedgerError`."""
    engine = connect(settings, patient=True)
    try:
        yield engine
    finally:
        engine.dispose()


def _sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise LedgerError("AEGIS_LEDGER names no file: sqlite:///var/ledger.sqlite is one below this directory")
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": LOCK_SECONDS})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")  # readers do not wait for the writer
        connection.execute("PRAGMA synchronous=NORMAL")  # a power cut takes the last rows with their offsets: they are read again

    return engine


@contextmanager
def speaking(engine: Engine) -> Iterator[None]:
    """What the database says when it is away, busy or full, as `LedgerAwayError`; what is wrong with us stays as it is.

    Raises `LedgerError` where what is there is no database, or a broken one.
    """
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, PoolTimeoutError) as error:
        raise LedgerAwayError(f"the ledger at {shown(engine.url)} does not answer: {_reason(error)}") from error
    except DatabaseError as error:
        if type(error) is not DatabaseError:  # its kinds are ours
            raise
        raise LedgerError(f"the ledger at {shown(engine.url)} cannot be used: {_reason(error)}; check AEGIS_LEDGER") from error


def _reason(error: SQLAlchemyError) -> str:
    """The first line of what the database says; never the statement or its parameters."""
    said = str(getattr(error, "orig", None) or type(error).__name__)
    return said.strip().partition("\n")[0]
