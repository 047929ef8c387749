"""How long models take."""

from collections.abc import Sequence
from time import perf_counter

from aegis_app.core.case import Case
from aegis_app.core.features import Features
from aegis_app.core.scores import Models, Said


class Timed:
    """Models, and the seconds that they took so far, with finding the features that they alone want."""

    def __init__(self, models: Models) -> None:
        self.version = models.version
        self.of_others = models.of_others
        self.seconds = 0.0
        self._ask = models.ask

    def ask(self, payments: Sequence[tuple[Case, Features]]) -> Said:
        begun = perf_counter()
        said = self._ask(payments)
        self.seconds += perf_counter() - begun
        return said
