"""Kill workers, stop brokers, freeze processes, under load; then prove from the logs that nothing was lost, doubled or mislearnt.

python -m bench.chaos --help
"""

import asyncio
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import msgspec
import rocksdict
from msgspec import Struct

from aegis_app import admin
from aegis_app.core.card import Card, decode_card, encode_card, id_hash, skip
from aegis_app.core.decision import Receipt, Ruling, decode_ruling
from aegis_app.core.features import OF_OTHERS
from aegis_app.core.intake import Refused, read_label, read_payment
from aegis_app.core.label import Label
from aegis_app.core.merchant import encode_merchant
from aegis_app.core.merchant_events import Credited
from aegis_app.core.policy import Policy, parse_policy
from aegis_app.core.risk import risk
from aegis_app.core.rules import RULES
from aegis_app.core.screen import LABELS, TRANSACTIONS, adopt, learn_label, screen
from aegis_app.core.terms import Terms
from aegis_app.core.tidings import credited, tidings_of_verdict
from aegis_app.core.verdicts import unpack, verdict_on
from aegis_app.kafka import Kafka, jars
from aegis_app.kafka.ports import free_port
from aegis_app.process import Worker
from aegis_app.settings import Settings, settings
from aegis_app.stream.memory import PRIVATE
from aegis_app.stream.owner import SOURCE
from aegis_app.topics import Name, changelog, full_name
from bench.load import Load
from bench.logs import Logs
from bench.parties import OnLog

PARTITIONS: Final = 4
FAULTS: Final = ("kill", "kill", "kill", "term", "kill", "scale", "kill", "broker")
TRIES: Final = 3
"""Of a kill, until it meets payments that are decided and not committed."""
NEVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
Offset = tuple[int, int]
Said = list[tuple[Any, Label]]
"""Records of `labels`, read."""


class Fault(Struct, frozen=True):
    """What was done, and the payments that were decided but not committed at that moment: proof that it hit."""

    name: str
    in_flight: int


class Finding(Struct, kw_only=True):
    """What the logs show afterwards: as many payments as were sent, and no fault."""

    sent: int
    labels_sent: int
    payments: int = 0
    labels: int = 0
    taken_out: int = 0
    """Frauds that left habit."""
    dead_letters: int = 0
    missing: int = 0
    copies: int = 0
    equal_copies: int = 0
    contradicting: int = 0
    unexplained: int = 0
    """Decisions that differ from what memory and policy at that point give."""
    memories: dict[str, int] = {}
    """How many there are, by table: those of merchants and devices are recounted from every payment and verdict."""
    wrong_events: int = 0
    """What merchants and devices were told of a payment or verdict, or were not, other than what its card knew gives."""
    events_told_again: int = 0
    late_credits: int = 0
    """Of frauds told again after a fault, to merchants that could not learn them any more: no fault (bench/parties.py)."""
    late_labels: int = 0
    """The frauds of which these are."""
    wrong_on_changelog: int = 0
    wrong_on_disk: int = 0
    wrong_risk: int = 0
    """Merchants and devices about which workers are told something else than what is remembered."""
    adopted: int = 0
    skipped: int = 0

    @property
    def faultless(self) -> bool:
        return (self.payments, self.labels) == (self.sent, self.labels_sent) and not (
            self.missing
            or self.copies
            or self.contradicting
            or self.unexplained
            or self.wrong_events
            or self.wrong_on_changelog
            or self.wrong_on_disk
            or self.wrong_risk
        )


class Chaos:
    """Two workers, four partitions, a load, and a seeded list of faults."""

    def __init__(self, kafka: Kafka, directory: Path, *, rate: int, seed: int) -> None:
        self.kafka = kafka
        self.settings = Settings(broker=kafka.address, partitions=PARTITIONS, app_id="chaos", topic_prefix="chaos-")
        self.logs = Logs(self.settings)
        self.faults: list[Fault] = []
        self.workers: list[Worker] = []
        self._directory = directory
        self._random = random.Random(seed)
        self._counters: dict[int, dict[str, float]] = {}
        self._policies = self._write_policies()
        self.load = Load(self.settings, rate=rate, cards=5000, seed=seed)

    def _write_policies(self) -> list[Path]:
        paths = []
        for number, (mode, most) in enumerate((("enforce", 4), ("enforce", 3), ("observe", 5))):
            path = self._directory / f"policy{number}.toml"
            path.write_text(
                f'mode = "{mode}"\n[rules.velocity_1h]\nstate = "on"\nasks = "review"\nmost = {most}\n'
                f'[rules.impossible_travel]\nstate = "on"\nasks = "block"\n[rules.card_testing]\nstate = "on"\nasks = "block"\n'
                # How far a worker had heard of other cards stands on no log.
                + "".join(f'[rules.{rule.name}]\nstate = "off"\n' for rule in RULES if rule.of_others)
            )
            paths.append(path)
        return paths

    def start_worker(self, worker: Worker) -> None:
        """With a policy drawn anew: decisions that stand must not change with it."""
        worker.start("-l", "info", AEGIS_POLICY=str(self._random.choice(self._policies)))

    def new_worker(self) -> Worker:
        number = len(self.workers)
        worker = Worker(
            self._directory / f"worker{number}",
            free_port(),
            {
                "AEGIS_BROKER": self.settings.broker,
                "AEGIS_APP_ID": self.settings.app_id,
                "AEGIS_TOPIC_PREFIX": self.settings.topic_prefix,
                "AEGIS_PARTITIONS": str(PARTITIONS),
                "AEGIS_SESSION_TIMEOUT_SECONDS": "8",
            },
        )
        self.workers.append(worker)
        self.start_worker(worker)
        return worker

    def run(self, faults: list[str]) -> Finding:
        asyncio.run(admin.create(self.settings))
        for _ in range(2):
            self.new_worker().wait_until_ready()
        self.load.start()
        self.pause(4)
        kills = [number for number, fault in enumerate(faults) if fault == "kill"]
        try:
            for number, fault in enumerate(faults):
                for _ in range(TRIES):
                    self.inflict(fault, hot=number in kills[len(kills) // 2 :][:1])
                    say(f"{number + 1}/{len(faults)} {fault}: {self.faults[-1].in_flight} in flight; {self.load.sent} sent")
                    if fault != "kill" or self.faults[-1].in_flight:
                        break
        finally:
            self.load.stop()
        self.await_settled()
        return self.judge()

    @property
    def kills(self) -> int:
        """Those that met work in flight: the others prove nothing."""
        return sum(fault.name == "kill" and fault.in_flight > 0 for fault in self.faults)

    def inflict(self, fault: str, *, hot: bool) -> None:
        victim = self._random.choice([worker for worker in self.workers if worker.pid is not None])
        self.await_working(victim)
        if hot:
            self.load.burst(5000)
            time.sleep(0.3)
        if fault == "kill":
            victim.kill()
            self.note(fault)
            self.pause(self._random.uniform(0.5, 4))
            self.start_worker(victim)
        elif fault == "term":
            status = victim.stop()
            self.note(f"{fault} (status {status})")
            self.start_worker(victim)
        elif fault == "scale":
            extra = self.new_worker()
            self.pause(6)
            extra.stop()
            self.note(fault)
            self.workers.remove(extra)
        elif fault == "broker":
            self.kafka.kill() if self._random.random() < 0.5 else self.kafka.stop()
            time.sleep(1)
            self.kafka.start()
            self.note(fault)
        elif fault == "freeze":
            victim.signal(signal.SIGSTOP)
            self.note(fault)
            self.pause(30)
            victim.signal(signal.SIGCONT)
        self.pause(self._random.uniform(4, 7))
        for worker in self.workers:
            if worker.pid is None:
                say(f"worker {worker.port} had ended with status {worker.returncode}: {worker.last_words(2)}")
                self.start_worker(worker)

    def note(self, name: str) -> None:
        committed = self.logs.committed(full_name(Name.TRANSACTIONS, self.settings))
        tail = self.logs.read(full_name(Name.DECISIONS, self.settings), last=5000)
        decided = {_source(record) for record in tail}
        self.faults.append(Fault(name, sum(offset >= committed.get(partition, 0) for partition, offset in decided)))

    def await_working(self, worker: Worker, seconds: float = 30) -> None:
        """Wait until `worker` settles chunks: a fault that meets an idle one proves nothing."""
        first: float | None = None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and worker.pid is not None:
            status, text = worker.get("/metrics")
            settled = counters(text).get("aegis_chunk_payments_count", 0.0) if status == 200 else None
            if first is not None and settled is not None and settled > first:
                return
            first = settled if first is None else first
            time.sleep(0.05)

    def pause(self, seconds: float) -> None:
        """Wait, and read the workers' counters meanwhile: they end with them."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for worker in self.workers:
                if worker.pid is not None:
                    status, text = worker.get("/metrics")
                    if status == 200:
                        self._counters[worker.pid or 0] = counters(text)
            time.sleep(0.3)

    def await_settled(self, seconds: float = 120) -> None:
        """Wait until all is settled. Raises `TimeoutError` after `seconds` in which nothing was."""
        # What the first two lead to is on the others once they are settled.
        for name in (Name.TRANSACTIONS, Name.LABELS, Name.MERCHANT_EVENTS, Name.DEVICE_EVENTS):
            topic, before, deadline = full_name(name, self.settings), dict[int, int](), 0.0
            while (ends := self.logs.ends(topic)) != (committed := self.logs.committed(topic)):
                if committed != before:
                    before, deadline = committed, time.monotonic() + seconds
                elif time.monotonic() > deadline:
                    raise TimeoutError(f"{topic} not settled, and nothing for {seconds:.0f} s: {ends}, committed {committed}")
                self.pause(1)
        self.pause(1)
        for worker in self.workers:
            worker.stop()

    def judge(self) -> Finding:
        """Fold every payment offline with the recorded outcomes, and compare everything."""
        say("reading the logs")
        settings = self.settings
        finding = Finding(
            sent=self.load.sent,
            labels_sent=self.load.labels,
            adopted=int(sum(each.get("aegis_adopted_total", 0) for each in self._counters.values())),
            skipped=int(sum(each.get("aegis_skipped_total", 0) for each in self._counters.values())),
        )
        rulings: dict[Offset, list[bytes]] = defaultdict(list)
        for record in self.logs.read(full_name(Name.DECISIONS, settings)):
            rulings[_source(record)].append(record.value)
        letters = self.letters(Name.TRANSACTIONS)
        terms = {policy.version: Terms(policy=policy, feature_share=0.01) for policy in self._read_policies()}
        early, late = self.labels(finding, self.on_changelog("cards"))
        cards: dict[str, Card] = {}
        merchants, devices = (OnLog(self.logs.read(full_name(name, settings))) for name in (Name.MERCHANT_EVENTS, Name.DEVICE_EVENTS))
        labelled = {label.card_id for _, label in (*early, *late)}
        self.hear(cards, early, merchants, devices)
        for record in self.logs.read(full_name(Name.TRANSACTIONS, settings)):
            finding.payments += 1
            source = (record.partition, record.offset)
            try:
                txn = read_payment(record.value, record.key, record.timestamp, token=False)
            except Refused:
                finding.dead_letters += 1
                finding.missing += source not in letters
                finding.contradicting += source in rulings
                continue
            standing = [decode_ruling(value) for value in rulings.get(source, ())]
            if not standing:
                finding.missing += 1
                continue
            ruling = standing[0]
            equal = sum(_essence(other) == _essence(ruling) for other in standing[1:])
            finding.copies += len(standing) - 1
            finding.equal_copies += equal
            finding.contradicting += len(standing) - 1 - equal
            card = cards.get(txn.card_id)
            expected = screen(card, txn, terms[ruling.policy], Receipt(record.timestamp, ruling.decided_at), record.offset)
            finding.unexplained += not _is_explained(ruling, expected.ruling, labelled=txn.card_id in labelled)
            adopted = adopt(card, txn, terms[ruling.policy], ruling, record.timestamp, record.offset)
            cards[txn.card_id] = adopted.card
            place = TRANSACTIONS, record.partition, record.offset
            merchants.check(place, adopted.tidings.merchants, is_sure=txn.card_id not in labelled)
            devices.check(place, adopted.tidings.devices, is_sure=txn.card_id not in labelled)
        self.hear(cards, late, merchants, devices)
        for record, label in (*early, *late):
            card = cards[label.card_id]
            if record.offset > card.seen[LABELS]:
                cards[label.card_id] = skip(card, LABELS, record.offset)
        finding.taken_out = sum(verdict.is_out for card in cards.values() for verdict in unpack(card.verdicts))
        finding.wrong_events = sum(told.wrong + told.surplus() for told in (merchants, devices))
        finding.events_told_again = merchants.repeated + devices.repeated
        finding.late_credits, finding.late_labels = merchants.late.total(), len(merchants.late)
        memories = {"cards": {name.encode(): encode_card(card) for name, card in cards.items()}}
        for topic, table, told in ((Name.MERCHANT_RISK, "merchants", merchants), (Name.DEVICE_RISK, "devices", devices)):
            parties = told.memories()
            memories[table] = {name.encode(): encode_merchant(party) for name, party in parties.items()}
            last = {record.key: record.value for record in self.logs.read(full_name(topic, settings))}
            finding.wrong_risk += differences({name.encode(): risk(party) for name, party in parties.items()}, last)
        for table, memory in memories.items():
            finding.memories[table] = len(memory)
            finding.wrong_on_changelog += differences(memory, self.on_changelog(table))
            finding.wrong_on_disk += sum(1 for key, value in self.on_disk(table) if memory.get(key) != value)
        return finding

    def labels(self, finding: Finding, on_changelog: dict[bytes, bytes]) -> tuple[Said, Said]:
        """Labels as they stand on the log: those whose payments memory took out of habit, and the others.

        When a label was heard between two payments is on no log. It makes no difference while the ring holds the payment; later it does,
        and that shows in the mark alone. So the ones count as heard before all payments, and the others after.
        """
        early: Said = []
        late: Said = []
        letters = self.letters(Name.LABELS)
        for record in self.logs.read(full_name(Name.LABELS, self.settings)):
            finding.labels += 1
            try:
                label = read_label(record.value, record.key, record.timestamp, token=False)
            except Refused:
                finding.dead_letters += 1
                finding.missing += (record.partition, record.offset) not in letters
                continue
            raw = on_changelog.get(record.key)
            verdict = None if raw is None else verdict_on(decode_card(raw).verdicts, id_hash(label.transaction_id))
            (early if verdict is not None and verdict.is_out else late).append((record, label))
        return early, late

    def hear(self, cards: dict[str, Card], said: Said, merchants: OnLog, devices: OnLog) -> None:
        """Let cards hear labels, and compare what is sent on."""
        for record, label in said:
            heard = learn_label(cards.get(label.card_id), label, record.offset)
            cards[label.card_id] = heard.card
            if heard.changed is not None:
                news = tidings_of_verdict(heard.changed, label.card_id, record.offset)
                place = LABELS, record.partition, record.offset
                merchants.check(place, [(name, event) for name, event in news.merchants if not isinstance(event, Credited)], is_sure=True)
                merchants.check_credits(place, credited(heard.changed, label.card_id, record.offset))
                devices.check(place, news.devices, is_sure=True)

    def letters(self, name: Name) -> set[Offset]:
        """Partition and offset of each record of a topic that became a dead letter."""
        found = (dict(record.headers) for record in self.logs.read(full_name(Name.DEAD_LETTERS, self.settings)))
        topic = full_name(name, self.settings).encode()
        return {(int(headers["partition"]), int(headers["offset"])) for headers in found if headers["topic"] == topic}

    def _read_policies(self) -> list[Policy]:
        return [parse_policy(path.read_text()) for path in self._policies]

    def on_changelog(self, table: str) -> dict[bytes, bytes]:
        values: dict[bytes, bytes] = {}
        for record in self.logs.read(changelog(table, self.settings)):
            if not record.key.startswith(PRIVATE):
                values[record.key] = record.value
        return values

    def on_disk(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Values of the partitions that each worker held last: those whose database has reached the changelog's end."""
        ends = self.logs.ends(changelog(table, self.settings))
        for worker in self.workers:
            yield from stored(worker.directory, table, ends)


def stored(directory: Path, table: str, ends: dict[int, int]) -> Iterator[tuple[bytes, bytes]]:
    for partition, end in ends.items():
        for path in directory.glob(f"data/**/{table}-{partition}.db"):
            options = rocksdict.Options(raw_mode=True)
            database = rocksdict.Rdict(str(path), options=options)
            if int(database.get(PRIVATE + b"offset") or -1) == end - 1:
                items: Iterator[Any] = iter(database.items())
                yield from ((key, value) for key, value in items if not key.startswith(PRIVATE))
            database.close()


def differences(one: dict[bytes, bytes], other: dict[bytes, bytes]) -> int:
    return sum(one.get(key) != other.get(key) for key in one.keys() | other.keys())


def counters(text: Any) -> dict[str, float]:
    """Counters without labels, from Prometheus' text format."""
    lines = (line.split() for line in str(text).splitlines() if line and not line.startswith("#"))
    return {line[0]: float(line[1]) for line in lines if len(line) == 2 and "{" not in line[0]}


def _source(record: Any) -> Offset:
    partition, offset = dict(record.headers)[SOURCE].split(b":")
    return int(partition), int(offset)


def _essence(ruling: Ruling) -> Ruling:
    """A ruling without what the clock adds, and without what its worker had heard of other cards."""
    features = None if ruling.features is None else {name: value for name, value in ruling.features.items() if name not in OF_OTHERS}
    return msgspec.structs.replace(ruling, decided_at=NEVER, stale=False, risk=None, features=features)


def _is_explained(ruling: Ruling, expected: Ruling, *, labelled: bool) -> bool:
    """Which labels were heard before a decision stands on no log: for their cards, what habit shows in without effect is left aside."""
    if labelled:
        ruling, expected = (msgspec.structs.replace(each, features=None, shadow_rules=[]) for each in (ruling, expected))
    return _essence(ruling) == _essence(expected)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def script(kills: int, seed: int, *, freeze: bool) -> list[str]:
    """Faults in a seeded order, `kills` of them kill -9."""
    faults: list[str] = []
    draw = random.Random(seed)
    while faults.count("kill") < kills:
        cycle = list(FAULTS)
        draw.shuffle(cycle)
        for fault in cycle:
            if faults.count("kill") < kills:
                faults.append(fault)
    return [*faults, "freeze"] if freeze else faults


@click.command()
@click.option("--kills", default=20, show_default=True, help="kill -9 of a worker; other faults come between them")
@click.option("--rate", default=3000, show_default=True, help="payments a second")
@click.option("--seed", default=1, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="leave logs and data in this new directory")
@click.option("--freeze/--no-freeze", default=True, show_default=True, help="end with SIGSTOP for 30 s and revival")
def main(kills: int, rate: int, seed: int, keep: Path | None, freeze: bool) -> None:
    """Example: python -m bench.chaos --kills 5 --seed 7"""
    with TemporaryDirectory(prefix="aegis-chaos-") as name:
        directory = Path(name) if keep is None else keep
        with Kafka(directory / "kafka", jars(settings())) as kafka:
            chaos = Chaos(kafka, directory, rate=rate, seed=seed)
            try:
                finding = chaos.run(script(kills, seed, freeze=freeze))
            finally:
                for worker in chaos.workers:
                    worker.kill()
    print(msgspec.json.format(msgspec.json.encode({"faults": chaos.faults, "finding": finding}), indent=2).decode())
    if chaos.kills < kills:
        say(f"{chaos.kills} of {kills} kills met work in flight: the others prove nothing")
    # After a revival, a decision may stand twice where both say the same.
    allowed = msgspec.structs.replace(finding, copies=finding.copies - finding.equal_copies) if freeze else finding
    sys.exit(0 if allowed.faultless and chaos.kills == kills else 1)


if __name__ == "__main__":
    main()
