"""A table in which a value is nothing but the last offset it was learnt from, for tests of what is below a worker's tables."""

from collections.abc import Mapping
from pathlib import Path

import faust

from aegis_app.stream.memory import Budget, Codec, Memory


def late(raw: bytes, learnt: Mapping[str, int]) -> bool:
    return int(raw) <= learnt.get("payments", -1)


NUMBERS = Codec[int](
    encode=b"%d".__mod__,
    decode=int,
    seen=lambda raw: {0: int(raw)},
    clock=lambda value: value,
    expired=lambda raw, now: False,
    late=late,
)


def numbers(directory: Path, *, partitions: int = 1, budget: int = 1 << 20) -> Memory[int]:
    """An empty table, of one partition if not said, over a real RocksDB; its changelog is nowhere."""
    app = faust.App("memory", broker="kafka://nowhere", store="rocksdb://", datadir=str(directory))
    return Memory(app, "numbers", NUMBERS, budget=Budget(budget), partitions=partitions)
