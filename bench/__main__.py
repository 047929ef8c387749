"""Throughput, latency and recovery, side by side in one run: `make bench`."""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from aegis_app.core.decision import decode_ruling
from aegis_app.kafka import Kafka, jars
from aegis_app.settings import settings as given
from aegis_app.topics import Name, full_name
from bench import gateway, ledger, risk
from bench.latency import measure
from bench.logs import Logs
from bench.metrics import counting, scraping
from bench.rig import Rig, cpu_model, payments
from models.serving import serve

POLICY = Path(__file__).parent.parent / "aegis_app" / "default_policy.toml"


@click.command()
@click.option("--payments", "number", default=300_000, show_default=True, help="payments on the prefilled topic")
@click.option("--out", type=click.Path(path_type=Path), default=Path("docs/benchmarks.json"), show_default=True)
@click.option(
    "--only",
    multiple=True,
    help="throughput, bundle, workers, latency, cards, recovery, takeover, risk, ledger, metrics, gateway; all if none is named",
)
def main(number: int, out: Path, only: tuple[str, ...]) -> None:
    """Example: python -m bench --only throughput --payments 100000 --out -"""
    results: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_model(), "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()},
    }
    parts = {
        "throughput": throughput,
        "bundle": with_bundle,
        "workers": workers,
        "latency": latency,
        "cards": many_cards,
        "recovery": recovery,
        "takeover": takeover,
        "risk": hold_risk,
        "ledger": keep_ledger,
        "metrics": counted,
        "gateway": gateway.measure,
    }
    with TemporaryDirectory(prefix="aegis-bench-") as name:
        directory = Path(name)
        with Kafka(directory / "kafka", jars(given())) as kafka:
            rig = Rig(kafka, directory)
            for part, run in parts.items():
                if not only or part in only:
                    results[part] = run(rig, number)
                    say(f"{part}: {json.dumps(results[part])}")
    text = json.dumps(results, indent=2) + "\n"
    sys.stdout.write(text) if str(out) == "-" else out.write_text(text)


def throughput(rig: Rig, number: int) -> dict[str, Any]:
    """Aegis beside the stock agent and its take_events variant: same payments, same policy, same core functions."""
    found: dict[str, Any] = {}
    stream = list(payments(number, 20_000))
    for way, application, share in (("aegis", "aegis_app", 1.0), ("event", "bench.stock", 0.2), ("take", "bench.stock", 0.2)):
        settings = rig.settings(f"through-{way}")
        sent = rig.prefill(settings, stream[: int(number * share)])
        worker = rig.worker(settings, application, BENCH_WAY=way, AEGIS_POLICY=str(POLICY))
        with rig.running(worker):
            found[way] = rig.drain(settings, sent, [worker])
        say(f"  {way}: {found[way]}")
    found["times_the_stock_agent"] = round(found["aegis"]["payments_per_second"] / found["event"]["payments_per_second"], 1)
    return found


def with_bundle(rig: Rig, number: int) -> dict[str, Any]:
    """One worker by rules alone, and one that decides by the demo's bundle beside them: all layers, and what is not allowed explained."""
    found: dict[str, Any] = {}
    with learnt() as bundle:
        for way, environment in (("rules", {}), ("bundle", {"AEGIS_BUNDLE": str(bundle)})):
            settings = rig.settings(f"served-{way}")
            sent = rig.prefill(settings, payments(number, 20_000))
            worker = rig.worker(settings, **environment)
            with rig.running(worker):
                found[way] = rig.drain(settings, sent, [worker])
            verdicts = Counter(verdict(record.value) for record in Logs(settings).read(full_name(Name.DECISIONS, settings)))
            found[way]["not_allowed"] = round(1 - verdicts["allow"] / verdicts.total(), 4)
            say(f"  {way}: {found[way]}")
    return found


@contextmanager
def learnt() -> Iterator[Path]:
    """The demo's bundle."""
    with TemporaryDirectory(prefix="aegis-bench-bundle-") as name:
        bundle = Path(name) / "bundle"
        subprocess.run([sys.executable, "-m", "aegis_app.demo.learning", str(bundle)], check=True)
        yield bundle


def verdict(decision: bytes) -> str:
    return decode_ruling(decision).verdict


def workers(rig: Rig, number: int) -> dict[str, Any]:
    """Two workers that share the partitions, on the same two cores as the broker."""
    settings = rig.settings("pair")
    sent = rig.prefill(settings, payments(number, 20_000))
    pair = [rig.worker(settings) for _ in range(2)]
    with rig.running(*pair):
        return {"two": rig.drain(settings, sent, pair)}


def latency(rig: Rig, number: int) -> dict[str, Any]:
    """From handing a payment to the producer to reading its decision, at steady rates."""
    found = {}
    for rate in (2000, 5000):
        settings = rig.settings(f"latency-{rate}")
        worker = rig.worker(settings)
        with rig.running(worker):
            worker.wait_until_ready()
            seconds = asyncio.run(measure(settings, payments(rate * 20, 20_000), rate))
        spread = statistics.quantiles(seconds, n=1000)
        found[f"{rate}/s"] = {
            "p50_ms": round(spread[499] * 1000, 1),
            "p99_ms": round(spread[989] * 1000, 1),
            "p99_9_ms": round(spread[998] * 1000, 1),
            "payments": len(seconds),
        }
    return found


def many_cards(rig: Rig, number: int) -> dict[str, Any]:
    """The cost of a payment when cards are many: most are met for the first time, and RocksDB is cold."""
    found = {}
    for cards in (10_000, 1_000_000):
        settings = rig.settings(f"cards-{cards}")
        sent = rig.prefill(settings, payments(number, cards))
        worker = rig.worker(settings)
        with rig.running(worker):
            found[f"{cards}"] = rig.drain(settings, sent, [worker])
    return found


def recovery(rig: Rig, number: int) -> dict[str, Any]:
    """A million cards learnt, the disk lost, and the time until the worker is ready again."""
    cards = 1_000_000
    settings = rig.settings("recovery")
    rig.prefill_changelog(settings, cards)
    worker = rig.worker(settings)
    with rig.running(worker):
        begun = time.monotonic()
        worker.wait_until_ready(300)
        seconds = time.monotonic() - begun
        assert worker.get(f"/cards/card-{cards - 1:07d}")[0] == 200
    return {"cards": cards, "seconds_until_ready": round(seconds, 1), "start_without_memory": round(start_alone(rig), 1)}


def takeover(rig: Rig, number: int) -> dict[str, Any]:
    """From the first payment that comes after a worker was stopped and is ready again, until those of all partitions are decided."""
    settings = rig.settings("takeover")
    stream = list(payments(number // 3, 20_000))
    logs, transactions = Logs(settings), full_name(Name.TRANSACTIONS, settings)
    worker = rig.worker(settings)
    with rig.running(worker):
        sent = rig.prefill(settings, stream[:-400])
        rig.drain(settings, sent, [worker])
        worker.stop()
        worker.start("-l", "info").wait_until_ready()
        before = logs.ends(transactions)
        rig.prefill(settings, stream[-400:])
        rig.drain(settings, len(stream), [worker])
    first = min(record.timestamp for record in logs.read(transactions) if record.offset >= before[record.partition])
    last = max(record.timestamp for record in logs.read(full_name(Name.DECISIONS, settings)))
    return {"partitions": len(before), "decided_before": sent, "seconds": round((last - first) / 1000, 2)}


def counted(rig: Rig, number: int) -> dict[str, Any]:
    """What metrics cost where a bundle serves: of each payment, and of each scrape of a worker that has decided some of every kind."""
    number = min(number, 20_000)
    settings = rig.settings("metrics")
    sent = rig.prefill(settings, payments(number, 2000))
    with learnt() as bundle:
        worker = rig.worker(settings, AEGIS_BUNDLE=str(bundle))
        with rig.running(worker):
            rig.drain(settings, sent, [worker])
            found = {"scraping": scraping(worker)}
        return found | {"counting": counting(number // 4, serve(bundle))}


def hold_risk(rig: Rig, number: int) -> dict[str, Any]:
    """A million merchants' risk on its topic, and what it costs a worker to hold it."""
    settings = rig.settings("risk")
    rig.prefill_risk(settings, 1_000_000)
    return risk.measure(rig.environment(settings))


def keep_ledger(rig: Rig, number: int) -> dict[str, Any]:
    """Decisions and labels a second into SQL."""
    return ledger.measure(rig, number // 3)


def start_alone(rig: Rig) -> float:
    settings = rig.settings("alone")
    worker = rig.worker(settings)
    with rig.running(worker):
        begun = time.monotonic()
        worker.wait_until_ready(60)
        return time.monotonic() - begun


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
