"""A worker's log: a line for each event worth a person's time, as text or as JSON (`AEGIS_LOG`), never with a card number."""

import logging
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiokafka.errors import GroupCoordinatorNotAvailableError

from aegis_app.core.intake import hide_text

PLACE: Final = ("topic", "partition", "offset")
"""What a record's `extra` may say about where on Kafka it happened."""
LIBRARIES: Final = ("aiokafka", "faust", "mode")
NOISE: Final = (*LIBRARIES, *(f"aegis_app.stream.{module}" for module in ("app", "memory", "transport")))
"""Of these, warnings and errors alone: they tell of every service that starts, and of every step of a rebalance, in tables."""
OFTEN: Final = (*LIBRARIES, "agents")
"""Who says the same over and over."""
SELDOM_SECONDS: Final = 10.0
"""For so long, what they say again is counted and not said: while a broker is away, aiokafka has a dozen lines for each attempt."""
log: Final = logging.getLogger("aegis")
"""What we say ourselves of a worker's life."""


def config(form: str) -> dict[str, Any]:
    """What Faust merges into its own configuration of logging; `form` is `text` or `json`."""
    formatter = {"()": Json if form == "json" else Text}
    return {
        "merge": True,
        "formatters": {"default": formatter, "colored": formatter},
        "loggers": {name: {"level": "WARNING"} for name in NOISE},
    }


def begin(form: str) -> None:
    """Log of a process without Faust."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if form == "json" else Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    quieten()
    for name in (
        *NOISE,
        "stamina",
        "alembic",
        "httpx",
        "apprise",
    ):  # of each attempt that failed, stamina has its own line; we have one for all
        logging.getLogger(name).setLevel(logging.ERROR if name == "stamina" else logging.WARNING)


def speak(root: logging.Logger, level: int) -> None:
    """Let a worker say what it does at Faust's own level, WARNING, too; above it, what is asked for."""
    ours = logging.INFO if level == logging.WARNING else level
    log.setLevel(ours)
    for handler in root.handlers:
        handler.setLevel(ours)


def quieten() -> None:
    """Let the handlers that there are pass on less of what libraries say; Faust's configuration has no place for that."""
    for handler in logging.root.handlers:
        handler.addFilter(Seldom())
    logging.getLogger("aiokafka.consumer.group_coordinator").addFilter(_settling)


class Seldom(logging.Filter):
    """Of what is said over and over, one line in `SELDOM_SECONDS`, which tells how many it stands for."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str, str], tuple[float, int]] = {}
        """By logger, topic and message: when it was last said, and how often it was not since."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in OFTEN:
            return True
        # Of what went wrong, why; of the rest, what kind of thing it is.
        said = record.getMessage() if record.levelno >= logging.ERROR else str(record.msg)
        what = record.name, getattr(record, "topic", ""), said
        at, held = self._said.get(what, (float("-inf"), 0))
        if record.created - at < SELDOM_SECONDS:
            self._said[what] = at, held + 1
            return False
        if len(self._said) > 1000:  # messages with their arguments in them
            self._said.clear()
        self._said[what] = record.created, 0
        if held:
            record.msg = f"{record.msg} ({held} more like this before)"
        return True


class Text(logging.Formatter):
    """As people read it."""

    def __init__(self) -> None:
        super().__init__("[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return hide_text(super().format(record))


class Json(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and topic, partition, offset and error where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": hide_text(record.getMessage()),
        }
        said |= {name: getattr(record, name) for name in PLACE if hasattr(record, name)}
        if record.exc_info:
            said["error"] = hide_text(self.formatException(record.exc_info))
        return msgspec.json.encode(said).decode()


def _settling(record: logging.LogRecord) -> bool:
    """A Kafka that has just started has no coordinator for groups yet, and is asked again: which aiokafka calls an error."""
    if isinstance(record.args, tuple) and any(isinstance(said, GroupCoordinatorNotAvailableError) for said in record.args):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "Kafka has no coordinator for groups yet, as after its start; it is asked again", ()
    return True
