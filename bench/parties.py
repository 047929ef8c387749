"""Merchants and devices recounted from the logs: each payment and verdict once, as what is sent on about it says."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from aegis_app.core.merchant import Merchant, fold
from aegis_app.core.merchant_events import Credited, Event, Events, Paid, decode_events

Place = tuple[int, int, int]
"""Source, partition and offset of what an event is about."""


class OnLog:
    """What stands on a topic of events. Of repeats the first counts, as it does for whoever learns from them.

    Which merchants are credited depends on the payments that the card's owner had taken up by then. After a kill it may take up a label
    later than the first time, and credit one more, which has heard of later labels already and learns nothing of it: as if the payment
    there had come after the label, as it did the first time.
    """

    def __init__(self, records: Iterable[Any]) -> None:
        self.repeated = 0
        self._events: dict[Place, dict[str, list[Event]]] = defaultdict(lambda: defaultdict(list))
        self._checked: set[tuple[Place, str]] = set()
        late: list[Place] = []
        told_again: set[Place] = set()
        last: dict[tuple[str, int, int], int] = defaultdict(lambda: -1)
        for record in records:
            events, name = decode_events(record.value), record.key.decode()
            source = name, events.source, events.partition
            for event in events.events:
                place = events.source, events.partition, event.offset
                found = self._events[place][name]
                if found and type(found[-1]) is type(event):
                    self.repeated += 1
                    told_again.add(place)
                elif isinstance(event, Credited) and event.offset <= last[source]:
                    late.append(place)
                    continue
                found.append(event)
            last[source] = max(last[source], events.events[-1].offset)
        self.late = Counter(place for place in late if place in told_again)
        """Credits that nobody could learn any more, by label: only of labels that were told again."""
        self.wrong = len(late) - self.late.total()
        """Events that are missing, that nothing led to, or that say something else than what led to them."""

    def check(self, place: Place, expected: Sequence[tuple[str, Event]], *, is_sure: bool) -> None:
        """Compare with what should have been told.

        Not `is_sure`: a verdict was heard about the card, and when, before or after this payment, is on no log. What it was to the card
        then (new, unusual) is taken as it was told.
        """
        for name, event in expected:
            self._checked.add((place, name))
            found = [each for each in self._events[place][name] if type(each) is type(event)]
            self.wrong += not found
            for each in found:
                if isinstance(each, Paid) and not is_sure:
                    assert isinstance(event, Paid)
                    each = msgspec.structs.replace(each, first=event.first, unusual=event.unusual)  # compared without
                self.wrong += each != event

    def check_credits(self, place: Place, expected: Credited) -> None:
        """Compare with whatever merchants were credited: which ones the card had used by then is on no log."""
        for name, events in self._events[place].items():
            for event in events:
                if isinstance(event, Credited):
                    self._checked.add((place, name))
                    self.wrong += event != expected

    def surplus(self) -> int:
        """Events that nothing led to, after all checks."""
        return len({(place, name) for place, told in self._events.items() for name, events in told.items() if events} - self._checked)

    def memories(self) -> dict[str, Merchant]:
        """What each is to remember."""
        whole: dict[tuple[str, int, int], list[Event]] = defaultdict(list)
        for (source, partition, _), told in sorted(self._events.items()):
            for name, events in told.items():
                whole[name, source, partition] += {type(event): event for event in reversed(events)}.values()
        memories: dict[str, Merchant] = {}
        for (name, source, partition), events in whole.items():
            if events:
                memories[name] = fold(memories.get(name), Events(source, partition, events))
        return memories
