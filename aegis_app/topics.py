"""Every topic as data. `aegis topics` makes and checks them from here."""

from enum import StrEnum
from functools import lru_cache
from typing import Final

from aiokafka.partitioner import murmur2
from msgspec import Struct

from aegis_app.settings import Settings

DAY_MS: Final = 86_400_000
LARGEST_RECORD: Final = 1_000_000
"""Bytes; Kafka's default `message.max.bytes` is 1,048,588, from which a batch's own header goes."""


class Name(StrEnum):
    """A topic's name, before `AEGIS_TOPIC_PREFIX`."""

    TRANSACTIONS = "transactions"
    LABELS = "labels"
    HISTORY = "history"
    DECISIONS = "decisions"
    MERCHANT_EVENTS = "merchant-events"
    MERCHANT_RISK = "merchant-risk"
    DEVICE_EVENTS = "device-events"
    DEVICE_RISK = "device-risk"
    DEAD_LETTERS = "dead-letters"
    LISTS = "lists"
    POLICIES = "policies"
    ALERTS = "alerts"
    ALERTS_FAILED = "alerts-failed"
    ALERTS_SNOOZED = "alerts-snoozed"
    BUNDLES = "bundles"
    FALLBACKS = "fallbacks"
    DEPLOYMENT = "deployment"


class Topic(Struct, frozen=True):
    """What a topic must be like."""

    name: Name
    key: str
    holds: str
    retention_ms: int | None = None
    compacted: bool = False
    keep_changes_ms: int | None = None
    """Of a compacted topic: how long every change stays, before the latest of its key alone does; `None` for no time."""
    roll_ms: int | None = None
    """After how long Kafka closes a file of the log at the latest, so that it can be compacted; `None`: its own default, a week."""
    partitions: int | None = None
    """`None`: as many as `transactions`."""

    def config(self, replication: int) -> dict[str, str]:
        """Topic-level settings of Kafka."""
        config = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "max.message.bytes": "1048588",
            "min.insync.replicas": str(min(2, replication)),
        }
        if self.retention_ms is not None:
            config["retention.ms"] = str(self.retention_ms)
        if self.keep_changes_ms is not None:
            config["min.compaction.lag.ms"] = str(self.keep_changes_ms)
        if self.roll_ms is not None:
            config["segment.ms"] = str(self.roll_ms)
        return config


TOPICS: Final = (
    Topic(Name.TRANSACTIONS, "card_id", "payments to decide", retention_ms=7 * DAY_MS),
    Topic(Name.LABELS, "card_id", "what payments turned out to be", retention_ms=180 * DAY_MS),
    Topic(Name.HISTORY, "card_id", "payments to learn without a decision", retention_ms=7 * DAY_MS),
    Topic(Name.DECISIONS, "card_id", "one decision per payment", retention_ms=30 * DAY_MS),
    Topic(Name.MERCHANT_EVENTS, "merchant_id", "what merchants are to learn, for their owners", retention_ms=7 * DAY_MS),
    Topic(Name.MERCHANT_RISK, "merchant_id", "what every worker holds about each merchant", compacted=True),
    Topic(Name.DEVICE_EVENTS, "device_id", "what devices are to learn, for their owners", retention_ms=7 * DAY_MS),
    Topic(Name.DEVICE_RISK, "device_id", "what every worker holds about each device", compacted=True),
    Topic(Name.DEAD_LETTERS, "as it came", "what could not be read, as it came", retention_ms=30 * DAY_MS),
    Topic(Name.LISTS, "list:of:value", "entries of allow, deny and watch lists", compacted=True, partitions=1),
    Topic(Name.POLICIES, "the policy's version", "policies", compacted=True, keep_changes_ms=5 * 365 * DAY_MS, partitions=1),
    Topic(
        Name.ALERTS, "destination:partition:offset", "decisions that people are still to be told of", compacted=True, roll_ms=DAY_MS // 24
    ),
    Topic(Name.ALERTS_FAILED, "destination:partition:offset", "those that nobody could be told of", retention_ms=30 * DAY_MS, partitions=1),
    Topic(Name.ALERTS_SNOOZED, "of:value", "what people are not to be told of, until when", compacted=True, partitions=1),
    Topic(Name.BUNDLES, "the bundle's version", "where trained models lie", compacted=True, keep_changes_ms=5 * 365 * DAY_MS, partitions=1),
    Topic(Name.FALLBACKS, "card_id", "what gateways answered without a decision", retention_ms=30 * DAY_MS),
    Topic(
        Name.DEPLOYMENT,
        "the base currency",
        "what never changes about a deployment",
        compacted=True,
        keep_changes_ms=5 * 365 * DAY_MS,
        partitions=1,
    ),
)
SOURCES: Final = (Name.TRANSACTIONS, Name.LABELS, Name.HISTORY)
"""What the owner of a card reads; the order is that of `Card.seen`, and permanent."""
EVENTS: Final = (Name.MERCHANT_EVENTS, Name.DEVICE_EVENTS)
"""What owners of cards tell those of merchants and devices."""


REDRIVEN: Final = "redriven"
"""Header of a record that came back from the dead letters, and of the note there that says so; its value is the letter's id."""
EXPLAIN: Final = "explain"
"""Header of a payment whose decision is to carry its features, and what models say of their why, also where it is allowed."""


@lru_cache(maxsize=1 << 18)
def home(key: bytes, partitions: int) -> int:
    """The partition where `key` belongs, by the default partitioner of Kafka's own clients. Slow at first: murmur2 is pure Python."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def full_name(name: Name, settings: Settings) -> str:
    """The name as Kafka knows it."""
    return settings.topic_prefix + name


def changelog(table: str, settings: Settings) -> str:
    """The changelog topic that Faust derives for a table."""
    return f"{settings.app_id}-{table}-changelog"
