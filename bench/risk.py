"""What holding every merchant's risk costs a worker: time to load, memory, look-up. `python -m bench --only risk`."""

import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import time
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from aegis_app.broadcast import Broadcast
from aegis_app.risk import Risks
from aegis_app.settings import settings as read_settings
from aegis_app.topics import Name

LOOKUPS: Final = 1_000_000
PAGE: Final = resource.getpagesize()


def measure(environment: dict[str, str]) -> dict[str, Any]:
    """In a process of its own, whose memory is nothing else's."""
    here = str(Path(__file__).parent.parent)
    asked = [sys.executable, "-m", "bench.risk"]
    answer = subprocess.run(asked, env=os.environ | environment | {"PYTHONPATH": here}, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


async def load() -> dict[str, Any]:
    before = resident()
    broadcast = Broadcast(read_settings(), Name.MERCHANT_RISK, partial(Risks, Name.MERCHANT_RISK))
    begun = time.monotonic()
    await broadcast.load()
    seconds = time.monotonic() - begun
    grown = resident() - before
    await broadcast.stop()
    held = broadcast.held.packed
    some = list(held)
    weights = list(accumulate(1 / rank for rank in range(1, len(some) + 1)))
    names = [name.encode().decode() for name in random.Random(1).choices(some, cum_weights=weights, k=LOOKUPS)]  # as read from payments
    begun = time.perf_counter()
    for name in names:
        held.get(name)
    lookup = (time.perf_counter() - begun) / LOOKUPS
    return {
        "merchants": len(held),
        "seconds_to_load": round(seconds, 1),
        "megabytes": round(grown / 1e6),
        "microseconds_a_lookup": round(lookup * 1e6, 2),
    }


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load())))
