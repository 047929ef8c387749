"""What merchants and devices come to know offline, as workers do live: by the same fold, and a little later than it happened."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from aegis_app.core.merchant import Merchant, fold
from aegis_app.core.merchant_events import Credited, Event, Events
from aegis_app.core.payment import Millis
from aegis_app.core.risk import risk

PERIOD_MS: Final = 1000
"""What happened is known from the next whole second on: in a worker, it takes about so long to come back."""
MOST_WAITING: Final = 64
"""Events of one name that wait until somebody asks for it: to fold many at once is cheaper."""


class Told(Mapping[str, bytes]):
    """Risk of merchants, or of devices, by name, as packed by `core.risk`: what was known of each when the clock stood at `clock`."""

    def __init__(self, summary: Callable[[Merchant], bytes | None] = risk, period: Millis = PERIOD_MS) -> None:
        """What happened within a `period` of the clock is known from its end on; of a memory, what `summary` says, if anything."""
        self.clock: Millis = 0
        self.credited: set[str] = set()
        """Those that were told of a credit, even if it was taken back."""
        self._summary = summary
        self._period = period
        self._memories: dict[str, Merchant] = {}
        self._packed: dict[str, bytes | None] = {}
        """What was asked for since the last event."""
        self._waiting: dict[str, deque[tuple[Millis, int, Event]]] = {}

    def tell(self, name: str, source: int, event: Event) -> None:
        """Something happened now; `source` is the place of its topic in `topics.SOURCES`."""
        if type(event) is Credited:
            self.credited.add(name)
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = deque()
        elif len(waiting) >= MOST_WAITING:
            self._fold(name, waiting)
        waiting.append(((self.clock // self._period + 1) * self._period, source, event))

    def __getitem__(self, name: str) -> bytes:
        waiting = self._waiting.get(name)
        if waiting and waiting[0][0] <= self.clock:
            self._fold(name, waiting)
        if name not in self._packed:
            self._packed[name] = self._summary(self._memories[name])
        packed = self._packed[name]
        if packed is None:
            raise KeyError(name)
        return packed

    def __contains__(self, name: object) -> bool:
        """Whether anything was learnt of it by now, found out without summing it up."""
        waiting = self._waiting.get(name) if isinstance(name, str) else None
        return name in self._memories or (waiting is not None and bool(waiting) and waiting[0][0] <= self.clock)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._waiting if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _fold(self, name: str, waiting: deque[tuple[Millis, int, Event]]) -> None:
        due: dict[int, list[Event]] = {}
        while waiting and waiting[0][0] <= self.clock:
            _, source, event = waiting.popleft()
            due.setdefault(source, []).append(event)
        if not due:
            return
        memory = self._memories.get(name)
        for source, events in due.items():
            memory = fold(memory, Events(source, 0, events))
        assert memory is not None
        self._memories[name] = memory
        self._packed.pop(name, None)
