"""What counting costs: of each payment, and of each look that Prometheus takes."""

import statistics
import time
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np
from msgspec.structs import replace

from aegis_app import metrics
from aegis_app.core.decision import Receipt
from aegis_app.core.payment import Transaction
from aegis_app.core.screen import Screened, screen
from aegis_app.policies import local_terms
from aegis_app.process import Worker
from aegis_app.settings import Settings
from bench.rig import payments
from models.drift import Drift
from models.serving import Serving

RATE = 10_000
"""Payments a second at which the share of a core is said."""


def counting(number: int, bundle: Serving) -> dict[str, Any]:
    """The time that all series of a chunk take, by the packaged policy and `bundle`; its share of a core at `RATE`."""
    found: dict[str, Any] = {}
    for size in (64, 512):
        each = min(_counting(number, size, bundle) for _ in range(3)) / number + min(_binning(size, bundle) for _ in range(3))
        found[f"chunks of {size}"] = {"microseconds": round(each * 1e6, 2), "share_of_a_core": round(each * RATE, 4)}
    return found


def scraping(worker: Worker) -> dict[str, Any]:
    """How long `/metrics` takes, and how much it is."""
    seconds, text = [], ""
    for _ in range(20):
        begun = time.perf_counter()
        text = worker.get("/metrics")[1]
        seconds.append(time.perf_counter() - begun)
    return {"milliseconds": round(statistics.median(seconds) * 1000, 1), "lines": len(text.splitlines())}


def _binning(size: int, bundle: Serving) -> float:
    """Seconds of CPU a payment for the counts by which drift is seen, of rows that are as good as any."""
    histograms = bundle.manifest.histograms
    drift, rows = Drift(histograms, list(histograms)), np.random.default_rng(1).normal(size=(size, len(histograms))).astype(np.float32)
    begun = time.thread_time()
    for _ in range(16_384 // size):
        drift.add(rows)
    return (time.thread_time() - begun) / 16_384


def _counting(number: int, size: int, bundle: Serving) -> float:
    """Seconds of CPU for counting while payments are judged a chunk at a time; each is counted right after, as in a worker."""
    terms, now = replace(local_terms(Settings()), bundle=bundle), datetime.now(UTC)
    cards: dict[str, Any] = {}
    seconds, offset = 0.0, 0
    stream = payments(number, 2000)
    while chunk := list(islice(stream, size)):
        judged = []
        for txn in chunk:
            screened = screen(cards.get(txn.card_id), txn, terms, Receipt(txn.at, now), offset)
            cards[txn.card_id] = screened.card
            judged.append((screened, txn))
            offset += 1
        begun = time.thread_time()
        _count(judged)
        seconds += time.thread_time() - begun
    return seconds


def _count(chunk: list[tuple[Screened, Transaction]]) -> None:
    """All that a chunk of payments adds to the series."""
    tally = metrics.Tally("EUR")
    for screened, txn in chunk:
        tally.add(screened, txn)
    tally.count()
    metrics.WAIT.observe(0.001)
    metrics.JUDGE.observe(0.001)
    metrics.published(range(len(chunk)), 0.0, 1.0)
    metrics.CHANGELOG.observe(0.001)
    metrics.ROCKSDB.observe(0.001)
    metrics.WRITES.labels("cards").inc(len(chunk))
    metrics.READS.labels("cards").inc(1)
    metrics.CHUNK.observe(len(chunk))
