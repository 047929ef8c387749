"""The `merchant-risk` and `device-risk` topics, as every worker holds them."""

from aiokafka.structs import ConsumerRecord

from aegis_app.broadcast import UnreadableError, readable
from aegis_app.core.risk import RiskError, check_risk, has_credits
from aegis_app.topics import Name


class Risks:
    """What is known of each merchant, or of each device, packed as it came: objects would take ten times the memory."""

    def __init__(self, name: Name) -> None:
        self.packed: dict[str, bytes] = {}
        self.credited: set[str] = set()
        """Those that have credits."""
        self._name = name
        self._next: dict[int, int] = {}

    @property
    def read(self) -> int:
        """Offsets up to here, all partitions together: grows with each record, and names what one worker knew at a moment."""
        return sum(self._next.values())

    def apply(self, records: list[ConsumerRecord]) -> None:
        packed, credited = self.packed, self.credited
        for name, value in readable(self._name, records, _read):
            if value is None:
                packed.pop(name, None)
            else:
                packed[name] = value
            if value is not None and has_credits(value):
                credited.add(name)
            else:
                credited.discard(name)
        self._next[records[-1].partition] = records[-1].offset + 1


def _read(record: ConsumerRecord) -> tuple[str, bytes | None]:
    value: bytes | None = record.value
    if value is not None:
        try:
            check_risk(value)
        except RiskError as error:
            raise UnreadableError(str(error)) from None
    return record.key.decode(), value
