"""What the owner of a card tells those of its merchants and devices: a record for each, and chunk."""

from collections import defaultdict

from aegis_app.application import device_events, merchant_events
from aegis_app.core.card import Card
from aegis_app.core.merchant_events import Event, Events, encode_events
from aegis_app.core.tidings import Tidings
from aegis_app.stream.owner import Work


class Telling:
    """Events of one chunk; `source` is the place of its topic in `topics.SOURCES`."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._merchants: dict[str, list[Event]] = defaultdict(list)
        self._devices: dict[str, list[Event]] = defaultdict(list)

    def add(self, tidings: Tidings) -> None:
        """In the order of offsets."""
        for name, event in tidings.merchants:
            self._merchants[name].append(event)
        for name, event in tidings.devices:
            self._devices[name].append(event)

    def send(self, work: Work[Card]) -> None:
        partition = work.owner.partition
        for topic, parties in ((merchant_events, self._merchants), (device_events, self._devices)):
            for name, events in parties.items():
                work.tell(topic, name.encode(), encode_events(Events(self._source, partition, events)))
