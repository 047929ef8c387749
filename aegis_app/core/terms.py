"""Under which payments are judged, besides memory."""

from collections.abc import Container, Mapping

from msgspec import Struct

from aegis_app.core.lists import Lists
from aegis_app.core.payment import DAY_MS, Millis
from aegis_app.core.policy import Policy, State
from aegis_app.core.rates import EUROS, Rates
from aegis_app.core.scores import Models


class Terms(Struct, frozen=True):
    """What is in force. A chunk is judged under one of these from its first payment to its last."""

    policy: Policy
    lists: Lists = Lists()
    rates: Rates = EUROS
    ttl: Millis = 400 * DAY_MS
    """After such a time without a payment a card is forgotten."""
    feature_share: float = 0.0
    """Of allowed payments, by a hash of their ids: those whose decision carries its features."""
    merchants: Mapping[str, bytes] = {}
    """Risk by merchant_id, packed; this and the next two grow between two chunks, while payments are learnt elsewhere."""
    credited: Container[str] = frozenset()
    """Merchants that may have credits; all others have none."""
    devices: Mapping[str, bytes] = {}
    """The same by device_id."""
    risk: str | None = None
    """Version of both: how far they were read."""
    bundle: Models | None = None
    """The models in force, if there are any."""

    @property
    def models(self) -> Models | None:
        """Those that are asked: none where policy says so."""
        return None if self.policy.models.state is State.OFF else self.bundle

    @property
    def asks_of_others(self) -> bool:
        """Whether payments of other cards may flow into a decision."""
        models = self.models
        return self.policy.asks_of_others or (models is not None and models.of_others)
