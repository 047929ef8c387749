"""Every series that a worker exports. Labels come from closed sets only; time is in seconds."""

from collections import Counter as Tallied
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from aegis_app.core.label import Label
from aegis_app.core.screen import Heard, Screened

PAYMENTS: Final = Counter("aegis_payments_total", "Payments decided, repeats included.", ["outcome", "verdict"])
DUPLICATES: Final = Counter("aegis_duplicates_total", "Payments whose transaction_id was decided before.")
CONFLICTS: Final = Counter("aegis_conflicts_total", "Repeated transaction_ids that came with other content.")
UNRATED: Final = Counter("aegis_unrated_total", "Payments in a currency without a rate: their amounts are compared with nothing.")
ERASED: Final = Counter("aegis_erased_total", "Cards forgotten because somebody asked for it.")
DEGRADED: Final = Counter("aegis_degraded_total", "Decisions for which a rule or layer failed.")
STALE: Final = Counter("aegis_stale_total", "Payments decided over 5 minutes after their record was written.")
LEARNT_HISTORY: Final = Counter("aegis_history_learnt_total", "Payments learnt without a decision.")
LABELS: Final = Counter("aegis_labels_total", "Labels taken in, those that changed nothing too.", ["source", "is_fraud"])
LABELS_IGNORED: Final = Counter(
    "aegis_labels_ignored_total",
    "Labels that changed no verdict (repeat, weaker, old), or of which no merchant hears (no_merchant).",
    ["reason"],
)
ADOPTED: Final = Counter("aegis_adopted_total", "Payments learnt from a decision that an earlier owner had published.")
SKIPPED: Final = Counter("aegis_skipped_total", "Records read again that were learnt already.")
JUMPS: Final = Counter("aegis_jumps_total", "Chunks that did not follow on the one before, and were read again.")
DEAD_LETTERS: Final = Counter("aegis_dead_letters_total", "Records that could not be taken.", ["topic", "reason"])
RULE_HITS: Final = Counter("aegis_rule_hits_total", "Rules that were hit.", ["rule", "mode"])
LATENCY: Final = Histogram(
    "aegis_decision_seconds",
    "From the payment's Kafka record to its acknowledged decision, of the chunk's oldest payment.",
    buckets=(0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
CHUNK: Final = Histogram("aegis_chunk_payments", "Records in a chunk.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
LAG: Final = Gauge("aegis_lag_payments", "Records not settled yet.", ["topic", "partition"])
LATCHED: Final = Gauge("aegis_latched", "1 while too many dead letters keep this worker from consuming.")
OWNED: Final = Gauge("aegis_partitions_owned", "Partitions whose cards this worker holds.")
POLICY: Final = Gauge("aegis_policy_info", "The policy in force: always 1.", ["version", "mode"])
BROADCAST_AGE: Final = Gauge("aegis_broadcast_age_seconds", "Since this worker last knew that it held all of a topic.", ["topic"])
BROADCAST_REFUSED: Final = Counter("aegis_broadcast_refused_total", "Records of such a topic that were passed over.", ["topic"])


class Tally:
    """What a chunk of payments adds to the counters, added once: a counter's lock per payment would cost more than the rules."""

    def __init__(self) -> None:
        self.skipped = 0
        self.adopted = 0
        self._outcomes: Tallied[tuple[str, str]] = Tallied()
        self._rules: Tallied[tuple[str, str]] = Tallied()
        self._flags: Tallied[Counter] = Tallied()

    def add(self, screened: Screened) -> None:
        ruling = screened.ruling
        self._outcomes[ruling.outcome, ruling.verdict] += 1
        if ruling.rules and not ruling.duplicate:
            self._rules.update((rule, "on") for rule in ruling.rules)
        if ruling.shadow_rules:
            self._rules.update((rule, "shadow") for rule in ruling.shadow_rules)
        if ruling.duplicate:
            self._flags[DUPLICATES] += 1
        if screened.conflict:
            self._flags[CONFLICTS] += 1
        if screened.seen is not None and screened.seen.amounts.amount is None:
            self._flags[UNRATED] += 1
        if ruling.degraded:
            self._flags[DEGRADED] += 1
        if ruling.stale:
            self._flags[STALE] += 1

    def count(self) -> None:
        """Add the chunk to the counters."""
        SKIPPED.inc(self.skipped)
        ADOPTED.inc(self.adopted)
        for labels, number in self._outcomes.items():
            PAYMENTS.labels(*labels).inc(number)
        for labels, number in self._rules.items():
            RULE_HITS.labels(*labels).inc(number)
        for counter, number in self._flags.items():
            counter.inc(number)


class LabelTally:
    """What a chunk of labels adds to the counters."""

    def __init__(self) -> None:
        self._said: Tallied[tuple[str, str]] = Tallied()
        self._ignored: Tallied[str] = Tallied()

    def add(self, label: Label, heard: Heard) -> None:
        self._said[label.source, str(label.is_fraud).lower()] += 1
        if heard.ignored is not None:
            self._ignored[heard.ignored] += 1
        elif heard.changed is not None and heard.changed.merchant_id is None:
            self._ignored["no_merchant"] += 1

    def count(self) -> None:
        """Add the chunk to the counters."""
        for labels, number in self._said.items():
            LABELS.labels(*labels).inc(number)
        for reason, number in self._ignored.items():
            LABELS_IGNORED.labels(reason).inc(number)
