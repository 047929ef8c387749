"""Every series that a worker or a sink exports. Labels come from closed sets only; time is in seconds, money in whole units of the base
currency.

Updated once a chunk: a counter's lock for each payment would cost more than the rules. docs/metrics.md is written from here.
"""

from bisect import bisect_right
from collections import Counter as Tallied
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from aegis_app.core.intake import Reason
from aegis_app.core.label import Label, Source
from aegis_app.core.lists import ListName
from aegis_app.core.payment import GIVES_BACK, Outcome, Transaction, exponent
from aegis_app.core.rules import RULES
from aegis_app.core.scores import Scored
from aegis_app.core.screen import Heard, Screened
from aegis_app.core.verdicts import Ignored

if TYPE_CHECKING:
    from models.serving import Serving

BESIDE: Final = ("aegis_sink_", "aegis_alerts_")
"""How the names of series begin that processes beside the workers export."""
SHARED: Final = "aegis_broadcast_"
"""Those of whoever holds a compacted topic."""


class _Part(CollectorRegistry):
    def __init__(self, *, beside: bool) -> None:
        super().__init__()
        self._beside = beside

    def collect(self) -> Iterable[Metric]:
        for family in REGISTRY.collect():
            if family.name in _WRITTEN:
                continue
            if not family.name.startswith("aegis_") or family.name.startswith(SHARED) or family.name.startswith(BESIDE) is self._beside:
                yield family


def exported(*, beside: bool = False) -> bytes:
    """What a worker exports, or a process `beside` them: each its own, or one would look like the other, and never ready."""
    ours = generate_latest(_Part(beside=beside))
    return ours if beside else b"".join([ours, DRIFT.written(), EXPECTED.written()])


class Distribution(Collector):
    """A histogram that takes the values of a whole chunk at once."""

    def __init__(self, name: str, documentation: str, labelnames: Iterable[str] = (), *, buckets: tuple[float, ...]) -> None:
        self.name = name
        self.documentation = documentation
        self.labelnames = tuple(labelnames)
        self._bounds = buckets
        self._names = [*map(floatToGoString, buckets), "+Inf"]
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        if not self.labelnames:
            self.observe(())
        REGISTRY.register(self)

    def observe(self, values: Iterable[float], *labels: str) -> None:
        """Count all of `values`."""
        ordered = sorted(values)
        counts = self._counts.setdefault(labels, [0] * len(self._names))
        below = 0
        for place, bound in enumerate((*self._bounds, inf)):
            upto = bisect_right(ordered, bound, below)
            counts[place] += upto - below
            below = upto
        self._sums[labels] = self._sums.get(labels, 0.0) + sum(ordered)

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for labels, counts in self._counts.items():
            family.add_metric(labels, [*zip(self._names, accumulate(counts), strict=True)], self._sums[labels])
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self.name, self.documentation, labels=self.labelnames)


class Bins(Collector):
    """A number for each bin of each feature of a bundle: thousands, written as text here, because the library takes 14 µs for each.

    Its numbers are in `exported` alone; the registry knows its name.
    """

    labelnames = ("bundle", "feature", "bin")

    def __init__(self, name: str, kind: str, documentation: str) -> None:
        self._family = Metric(name.removesuffix("_total"), documentation, kind)
        self._name = name
        self._head = f"# HELP {name} {documentation}\n# TYPE {name} {kind}\n"
        self._text = self._head.encode()
        REGISTRY.register(self)

    def set(self, bundle: str, numbers: Mapping[str, Sequence[float]]) -> None:
        """Those of each feature; the last is of what is null."""
        lines = [self._head]
        for feature, each in numbers.items():
            head = f'{self._name}{{bundle="{bundle}",feature="{_escaped(feature)}",bin="'
            lines += [f'{head}{place}"}} {number}\n' for place, number in enumerate(each[:-1])]
            lines.append(f'{head}null"}} {each[-1]}\n')
        self._text = "".join(lines).encode()

    def clear(self) -> None:
        self._text = self._head.encode()

    def written(self) -> bytes:
        return self._text

    def describe(self) -> Iterable[Metric]:
        return [self._family]

    def collect(self) -> Iterable[Metric]:
        return [self._family]


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


RULES_LAYER: Final = "rules"
ENSEMBLE: Final = "ensemble"
EXPLANATION: Final = "explanation"
LAYERS: Final = ("isolation_forest", "autoencoder", "supervised")
"""Of models: they give a score, and may fail. So do rules; explanations only fail, and the score of all is that of the ensemble."""
SECONDS: Final = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

PAYMENTS: Final = Counter("aegis_payments_total", "Payments decided, repeats included.", ["outcome", "verdict"])
AMOUNT: Final = Counter(
    "aegis_amount_total",
    "Money of the payments decided, in whole units of the base currency; without repeats, refunds, and currencies that have no rate.",
    ["outcome", "verdict"],
)
SCORE: Final = Distribution(
    "aegis_score",
    "Scores of payments, 0 to 1, 1 being fraud, by layer: rules where no models were asked; else each layer of the bundle, and ensemble, "
    "which is all of them and the rules. Without repeats, and without those of which a layer could not tell.",
    ["layer"],
    buckets=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
)
RULE_HITS: Final = Counter("aegis_rule_hits_total", "Payments that hit a rule; repeats left out.", ["rule", "mode"])
LIST_HITS: Final = Counter(
    "aegis_list_hits_total", "Payments whose card, merchant, device, country or payee is on a list; repeats left out.", ["list"]
)
CONTROLS: Final = Counter(
    "aegis_controls_total",
    "Payments whose outcome chance made, so that verdicts can be measured (control_share of the policy).",
    ["outcome"],
)
DEGRADED: Final = Counter(
    "aegis_degraded_total",
    "Decisions for which a layer failed; or, as layer explanation, that could not be explained by the models, which changes no outcome.",
    ["layer"],
)
DUPLICATES: Final = Counter("aegis_duplicates_total", "Payments whose transaction_id was decided before.")
CONFLICTS: Final = Counter("aegis_conflicts_total", "Repeated transaction_ids that came with other content.")
LATE: Final = Counter("aegis_late_total", "Payments older, by their own time, than another of their card that came before.")
STALE: Final = Counter("aegis_stale_total", "Payments decided over 5 minutes after their record was written.")
UNRATED: Final = Counter("aegis_unrated_total", "Payments in a currency without a rate: their amounts are compared with nothing.")
UNKNOWN_FIELDS: Final = Counter(
    "aegis_unknown_fields_total",
    "Payments with fields that are not known, and so not used: misspelt ones perhaps, which the log names. Of each chunk the first payment "
    "is looked at, so that of a busy topic this is a sample.",
)
DEAD_LETTERS: Final = Counter("aegis_dead_letters_total", "Records that could not be taken.", ["topic", "reason"])
LEARNT_HISTORY: Final = Counter("aegis_history_learnt_total", "Payments learnt without a decision.")
ERASED: Final = Counter("aegis_erased_total", "Cards forgotten because somebody asked for it.")
LABELS: Final = Counter("aegis_labels_total", "Labels taken in, those that changed nothing too.", ["source", "is_fraud"])
NO_MERCHANT: Final = "no_merchant"
NOT_HELD: Final = "not_held"
LABELS_IGNORED: Final = Counter(
    "aegis_labels_ignored_total",
    "Labels that changed no verdict (repeat, weaker, old), of which no merchant hears (no_merchant), or that confirm a fraud which is not "
    "among its card's last 32 payments, so that habit keeps it, or is still to learn it (not_held).",
    ["reason"],
)
LABELS_CORRECTED: Final = Counter("aegis_labels_corrected_total", "Labels that turned an earlier verdict round.", ["source", "is_fraud"])

LATENCY: Final = Distribution(
    "aegis_decision_seconds", "From a payment's Kafka record to its decision, acknowledged by Kafka; of each payment.", buckets=SECONDS
)
STAGE: Final = Histogram(
    "aegis_stage_seconds",
    "Parts of that way, of each chunk: wait (its oldest record, until taken up), judge (of it parse, recall, decide by rules and models, "
    "of that score: the models, where there are any; write what is to be sent), publish (until Kafka has acknowledged the decisions); "
    "then, while nobody waits, tell (what merchants and devices hear), changelog and rocksdb.",
    ["stage"],
    buckets=(0.0005, *SECONDS[:12]),
)
WAIT, JUDGE, PUBLISH, TELL, CHANGELOG, ROCKSDB = map(STAGE.labels, ("wait", "judge", "publish", "tell", "changelog", "rocksdb"))
PARTS: Final = {part: STAGE.labels(part) for part in ("parse", "recall", "decide", "write")}
"""Of `JUDGE`."""
SCORING: Final = STAGE.labels("score")
"""Of what it takes to decide."""
CHUNK: Final = Histogram("aegis_chunk_payments", "Records in a chunk.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
LAG: Final = Gauge("aegis_lag_payments", "Records not settled yet; absent while Kafka does not answer.", ["topic", "partition"])
BEHIND: Final = Gauge(
    "aegis_behind_seconds",
    "Most that the oldest record can have waited, where any waits, else 0; absent while that cannot be told.",
    ["topic", "partition"],
)
IDLE: Final = Gauge("aegis_stuck_seconds", "Since there was last nothing to do, or something got done.")
ADOPTED: Final = Counter("aegis_adopted_total", "Payments learnt from a decision that an earlier owner had published.")
SKIPPED: Final = Counter("aegis_skipped_total", "Records read again that were learnt already.")
JUMPS: Final = Counter("aegis_jumps_total", "Chunks that did not follow on the one before, and were read again.")
LATCHED: Final = Gauge("aegis_latched", "1 while too many dead letters keep this worker from consuming.")

READY: Final = Gauge("aegis_ready", "1 while payments are decided here, or this worker stands by, as /ready says.")
KAFKA: Final = Gauge("aegis_kafka_answers", "1 while Kafka answers this worker's questions about its logs.")
OWNED: Final = Gauge("aegis_partitions_owned", "Partitions of payments that this worker was given; 0 for one that stands by.")
PARTITIONS: Final = Gauge("aegis_partitions", "Partitions of payments that there are, for all workers together.")
REBALANCES: Final = Counter("aegis_rebalances_total", "Times that this worker was given partitions.")
RECOVERY: Final = Gauge("aegis_recovery_records", "Records of changelogs still to be read back before payments are decided here.")

READS: Final = Counter("aegis_memory_reads_total", "Values read from RocksDB because they were not at hand.", ["table"])
WRITES: Final = Counter("aegis_memory_writes_total", "Values written to RocksDB and the changelog.", ["table"])
KEYS: Final = Gauge("aegis_memory_keys", "Values remembered here, as RocksDB estimates.", ["table"])
BYTES: Final = Gauge("aegis_memory_bytes", "Size of RocksDB's files and of what it holds in memory.", ["table"])
DISK_FREE: Final = Gauge("aegis_disk_free_bytes", "Free where the data directory is.")
DISK: Final = Gauge("aegis_disk_bytes", "Size of the disk where the data directory is.")

WORKER: Final = Gauge("aegis_worker_info", "The software and what it was started with: always 1.", ["version", "base_currency", "rates"])
POLICY: Final = Gauge("aegis_policy_info", "The policy in force: always 1.", ["version", "mode"])
BUNDLE: Final = Gauge("aegis_bundle_info", "The bundle that serves: always 1; absent while rules decide alone.", ["version"])
BUNDLE_UNTIL: Final = Gauge(
    "aegis_bundle_until_seconds",
    "End of the payments it was trained and measured on, seconds since 1970; absent likewise.",
    ["version"],
)
BUNDLE_REFUSED: Final = Gauge("aegis_bundle_refused", "1 while the bundle that was published last cannot serve here.")
DRIFT: Final = Bins(
    "aegis_drift_payments_total",
    "counter",
    "Payments asked about, by feature, layer or score of the bundle, and by the bin of its value: 0 to 9 as in training, or null.",
)
EXPECTED: Final = Bins("aegis_drift_expected_ratio", "gauge", "Share of payments in that bin when the bundle was trained.")
_WRITTEN: Final = frozenset(family.name for each in (DRIFT, EXPECTED) for family in each.describe())
LISTED: Final = Gauge("aegis_list_entries", "Entries held of each list, those that expired included.", ["list"])
RISKS: Final = Gauge("aegis_risk_entries", "Merchants, or devices, whose risk this worker holds.", ["topic"])
BROADCAST_AGE: Final = Gauge("aegis_broadcast_age_seconds", "Since this worker last knew that it held all of a topic.", ["topic"])
BROADCAST_REFUSED: Final = Counter("aegis_broadcast_refused_total", "Records of such a topic that were passed over.", ["topic"])

SINK_LAG: Final = Gauge(
    "aegis_sink_lag_records", "Records that a sink has not taken yet; absent while Kafka does not answer.", ["sink", "topic", "partition"]
)
SINK_BEHIND: Final = Gauge(
    "aegis_sink_behind_seconds",
    "Most that the oldest record which a sink has not taken can have waited, 0 where none waits; absent while that cannot be told.",
    ["sink", "topic", "partition"],
)
SINK_RECORDS: Final = Counter("aegis_sink_records_total", "Records that a sink has taken.", ["sink", "topic"])
SINK_BATCH: Final = Histogram(
    "aegis_sink_batch_seconds", "Until a sink has taken a batch, with all attempts.", ["sink"], buckets=SECONDS[2:]
)
SINK_AWAY: Final = Gauge("aegis_sink_away", "1 while that to which a sink hands records does not answer.", ["sink"])
SINK_RETRIES: Final = Counter("aegis_sink_retries_total", "Attempts of a sink that failed and are made again.", ["sink"])
SINK_UNREADABLE: Final = Counter("aegis_sink_unreadable_total", "Records that a sink cannot read and passes over.", ["sink", "topic"])

NOT_RAISED: Final = ("duplicate", "redriven", "stale", "replayed", "snoozed")
ALERTS_RAISED: Final = Counter("aegis_alerts_raised_total", "Decisions that a destination is to be told of.", ["destination"])
ALERTS_NOT_RAISED: Final = Counter(
    "aegis_alerts_not_raised_total", "Decisions other than `allow` of which nobody is told, whatever the routes say.", ["reason"]
)
ALERTS_DELIVERED: Final = Counter("aegis_alerts_delivered_total", "Messages that a destination has taken.", ["destination"])
ALERTS_TOLD: Final = Counter("aegis_alerts_told_total", "Decisions in these messages.", ["destination"])
ALERTS_SECONDS: Final = Histogram(
    "aegis_alerts_seconds",
    "From the first decision in a message until its destination has taken it, the time in which decisions are grouped included.",
    ["destination"],
    buckets=(0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 90.0, 120.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0),
)
ALERTS_ATTEMPTS_FAILED: Final = Counter(
    "aegis_alerts_attempts_failed_total",
    "Attempts to deliver that failed: no (good) answer in time, or the message refused.",
    ["destination", "reason"],
)
ALERTS_FAILED: Final = Counter("aegis_alerts_failed_total", "Decisions put onto `alerts-failed`: nobody was told of them.", ["destination"])
ALERTS_WAITING: Final = Gauge("aegis_alerts_waiting", "Decisions that a destination is still to be told of.", ["destination"])
ALERTS_OLDEST: Final = Gauge("aegis_alerts_oldest_seconds", "For how long the oldest of them has waited; 0 for none.", ["destination"])
ALERTS_SHUT: Final = Gauge(
    "aegis_alerts_shut", "1 while a destination is given a rest, because attempt after attempt failed.", ["destination"]
)


def begin(topics: Iterable[str], broadcasts: Iterable[str], tables: Iterable[str]) -> None:
    """Export 0 of what has not happened yet, or Prometheus would miss the first time that it does.

    `topics` are those whose records can become dead letters, `broadcasts` those that every worker holds.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client's
    for outcome in Outcome:
        for verdict in Outcome:
            PAYMENTS.labels(outcome, verdict)
            AMOUNT.labels(outcome, verdict)
    for rule in RULES:
        RULE_HITS.labels(rule.name, "on")
        RULE_HITS.labels(rule.name, "shadow")
    for name in ListName:
        LIST_HITS.labels(name)
    for outcome in (Outcome.ALLOW, Outcome.REVIEW):
        CONTROLS.labels(outcome)
    for layer in (RULES_LAYER, *LAYERS, ENSEMBLE):
        SCORE.observe((), layer)
    for table in tables:
        READS.labels(table)
        WRITES.labels(table)
    for layer in (RULES_LAYER, *LAYERS, EXPLANATION):
        DEGRADED.labels(layer)
    for topic in topics:
        for reason in Reason:
            DEAD_LETTERS.labels(topic, reason)
    for topic in broadcasts:
        BROADCAST_REFUSED.labels(topic)
    for source in Source:
        for is_fraud in ("true", "false"):
            LABELS.labels(source, is_fraud)
            LABELS_CORRECTED.labels(source, is_fraud)
    for why in (*Ignored, NO_MERCHANT, NOT_HELD):
        LABELS_IGNORED.labels(why)


def show_bundle(serving: "Serving | None", *, is_refused: bool) -> None:
    """Export which bundle serves, and what came to it."""
    BUNDLE.clear()
    BUNDLE_UNTIL.clear()
    DRIFT.clear()
    EXPECTED.clear()
    BUNDLE_REFUSED.set(is_refused)
    if serving is None:
        return
    manifest = serving.manifest
    BUNDLE.labels(manifest.version).set(1)
    BUNDLE_UNTIL.labels(manifest.version).set(manifest.windows[-1].end.timestamp())
    counts = serving.drift.counts()
    DRIFT.set(manifest.version, counts)
    EXPECTED.set(manifest.version, {feature: manifest.histograms[feature].shares for feature in counts})


def published(written: Iterable[int], sent: float, acknowledged: float) -> None:
    """Time a chunk whose outputs Kafka holds. `written`: its records' times, in milliseconds; the others are in seconds, since 1970."""
    PUBLISH.observe(max(0.0, acknowledged - sent))
    LATENCY.observe(max(0.0, acknowledged - at / 1000) for at in written)


_OF_LIST: Final = {f"{name}_list": name for name in ListName}
"""The list behind a reason code."""


class Tally:
    """What a chunk of payments adds, added once. `currency`: the base currency."""

    def __init__(self, currency: str) -> None:
        self.skipped = 0
        self.adopted = 0
        self._minor = 10 ** exponent(currency)
        self._decided: dict[tuple[str, str], list[int]] = {}
        """By outcome and verdict: payments, and their money in minor units."""
        self._scored: list[Scored] = []
        self._scores: dict[str, list[float]] = defaultdict(list)
        self._rules: Tallied[tuple[str, str]] = Tallied()
        self._listed: Tallied[str] = Tallied()
        self._controls: Tallied[str] = Tallied()
        self._flags: Tallied[Counter] = Tallied()
        self._failed: Tallied[str] = Tallied()

    def add(self, screened: Screened, txn: Transaction) -> None:
        ruling = screened.ruling
        key = ruling.outcome, ruling.verdict
        decided = self._decided.get(key)  # once: members of an enum hash in Python code
        if decided is None:
            decided = self._decided[key] = [0, 0]
        decided[0] += 1
        if ruling.stale:
            self._flags[STALE] += 1
        if screened.seen is None:
            self._flags[DUPLICATES] += 1
            if ruling.conflict:
                self._flags[CONFLICTS] += 1
            return
        amount = screened.seen.amounts.amount
        if amount is None:
            self._flags[UNRATED] += 1
        elif txn.kind not in GIVES_BACK:
            decided[1] += amount
        if ruling.score is not None:
            self._scores[RULES_LAYER if screened.scored is None else ENSEMBLE].append(ruling.score)
        if screened.scored is not None:
            self._scored.append(screened.scored)
        if ruling.rules:
            self._rules.update((rule, "on") for rule in ruling.rules)
        if ruling.shadow_rules:
            self._rules.update((rule, "shadow") for rule in ruling.shadow_rules)
        if ruling.reasons:
            self._listed.update({_OF_LIST[reason.code] for reason in ruling.reasons if reason.code in _OF_LIST})
        if ruling.control_probability is not None:
            self._controls[ruling.outcome] += 1
        if screened.seen.late:
            self._flags[LATE] += 1
        if ruling.degraded and any(reason.code == "rule_failed" for reason in ruling.reasons):
            self._failed[RULES_LAYER] += 1
        if screened.unexplained:
            self._failed[EXPLANATION] += 1

    def count(self) -> None:
        """Add the chunk to the series."""
        SKIPPED.inc(self.skipped)
        ADOPTED.inc(self.adopted)
        for decided, (number, minor) in self._decided.items():
            PAYMENTS.labels(*decided).inc(number)
            AMOUNT.labels(*decided).inc(minor / self._minor)
        for hit, number in self._rules.items():
            RULE_HITS.labels(*hit).inc(number)
        for name, number in self._listed.items():
            LIST_HITS.labels(name).inc(number)
        for outcome, number in self._controls.items():
            CONTROLS.labels(outcome).inc(number)
        for counter, number in self._flags.items():
            counter.inc(number)
        self._failed.update(layer for scored in self._scored if scored.failures for layer, _ in scored.failures)
        for layer in LAYERS if self._scored else ():
            self._scores[layer] += [score for scored in self._scored if (score := scored.layers.get(layer)) is not None]
        for layer, number in self._failed.items():
            DEGRADED.labels(layer).inc(number)
        for layer, scores in self._scores.items():
            SCORE.observe(scores, layer)


class LabelTally:
    """What a chunk of labels adds to the counters."""

    def __init__(self) -> None:
        self._said: Tallied[tuple[str, str]] = Tallied()
        self._corrected: Tallied[tuple[str, str]] = Tallied()
        self._ignored: Tallied[str] = Tallied()

    def add(self, label: Label, heard: Heard) -> None:
        said = label.source, str(label.is_fraud).lower()
        self._said[said] += 1
        if heard.corrected:
            self._corrected[said] += 1
        if heard.not_held:
            self._ignored[NOT_HELD] += 1
        if heard.ignored is not None:
            self._ignored[heard.ignored] += 1
        elif heard.changed is not None and heard.changed.merchant_id is None is label.merchant_id:
            self._ignored[NO_MERCHANT] += 1

    def count(self) -> None:
        """Add the chunk to the counters."""
        for labels, number in self._said.items():
            LABELS.labels(*labels).inc(number)
        for labels, number in self._corrected.items():
            LABELS_CORRECTED.labels(*labels).inc(number)
        for reason, number in self._ignored.items():
            LABELS_IGNORED.labels(reason).inc(number)
