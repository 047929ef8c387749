"""What cannot be taken: refused, and filed as a dead letter."""

import logging
from typing import Any

from aiokafka.structs import ConsumerRecord

from aegis_app import metrics
from aegis_app.application import app, dead_letters
from aegis_app.core.intake import Reason, Refused
from aegis_app.stream.letters import Letter
from aegis_app.stream.owner import Work
from aegis_app.topics import home

log = logging.getLogger(__name__)


def check_partition(record: ConsumerRecord) -> None:
    """Refuse a key that is not at home in this partition. Asked only about those not remembered here: it is slow."""
    right = home(record.key, app.partitions)
    if record.partition != right:
        raise Refused(
            Reason.PARTITION,
            f"the key belongs into partition {right}, not {record.partition}; with librdkafka set partitioner=murmur2_random",
        )


def bury(work: Work[Any], letters: list[Letter]) -> None:
    """File what could not be taken of a chunk."""
    if letters:
        reasons = ", ".join(sorted({letter.reason for letter in letters}))
        said = f"Dead letters: %d of %s ({reasons}); see `aegis dead-letters list`"  # other reasons are another message, see `logs.Seldom`
        log.warning(said, len(letters), work.topic, extra={"topic": work.topic})
    for letter in letters:
        work.publish(dead_letters, letter.key, letter.value, letter.headers)
        metrics.DEAD_LETTERS.labels(letter.topic, letter.reason).inc()
