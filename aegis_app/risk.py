"""The `merchant-risk` and `device-risk` topics, as every worker holds them."""

from aiokafka.structs import ConsumerRecord


class Risks:
    """What is known of each merchant, or of each device, packed as it came: objects would take ten times the memory."""

    def __init__(self) -> None:
        self.packed: dict[str, bytes] = {}
        self._next: dict[int, int] = {}

    @property
    def read(self) -> int:
        """Records of the log up to here, all partitions together: grows with each, and names this state of one worker's knowledge."""
        return sum(self._next.values())

    def apply(self, records: list[ConsumerRecord]) -> None:
        packed = self.packed
        for record in records:
            name = record.key.decode()
            if record.value is None:
                packed.pop(name, None)
            else:
                packed[name] = record.value
        self._next[records[-1].partition] = records[-1].offset + 1
