"""A worker's log: a line for each event worth a person's time, as text or as JSON (`AEGIS_LOG`), never with a card number."""

import logging
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from aegis_app.core.intake import hide_text

PLACE: Final = ("topic", "partition", "offset")
"""What a record's `extra` may say about where on Kafka it happened."""
NOISE: Final = ("aiokafka", "faust", "mode", *(f"aegis_app.stream.{module}" for module in ("app", "memory", "transport")))
"""Of these, warnings and errors alone: they tell of every service that starts, and of every step of a rebalance, in tables."""
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
    for name in (
        *NOISE,
        "stamina",
        "alembic",
        "httpx",
        "apprise",
    ):  # of each attempt that failed, stamina has its own line; we have one for all
        logging.getLogger(name).setLevel(logging.ERROR if name == "stamina" else logging.WARNING)


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
