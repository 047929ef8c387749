"""Payments with fields that are not known: counted, and each name once in the log, because as a label it would have no bound."""

import logging
from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter

from aegis_app.core.fields import hinted

MOST_NAMES: Final = 50
"""That a process tells of."""
log = logging.getLogger(__name__)


class Unknown:
    """What one process heard of."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._told: set[str] = set()

    def count(self, names: Iterable[str]) -> None:
        """Of one payment."""
        found = set(names)
        if not found:
            return
        self._counter.inc()
        for name in sorted(found - self._told)[: MOST_NAMES - len(self._told)]:
            self._told.add(name)
            log.warning("payments come with a field that is not known, and is not used: %s", hinted(name))
