"""What came of the payments sent: who was stopped, how fast, and whether each was decided once. Pure; times are seconds of any clock."""

from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime
from math import ceil
from typing import Final

from msgspec import Struct

from aegis_app.core.decision import Reason
from aegis_app.core.payment import Outcome, Transaction
from aegis_app.simulate import FRAUDS, Labelled

KINDS: Final = tuple(fraud.__name__ for fraud in FRAUDS)
RECENT: Final = 2000
"""Decisions over which latency is taken: ten seconds' at 200 payments/s."""
ALARMING: Final = {"isolation_forest": 0.995, "autoencoder": 0.995, "supervised": 0.5}
"""From which score a layer is said to see a fraud; of the first two a share of payments that are less unusual."""
RATE_SECONDS: Final = 5.0
BLOCKED_SHOWN: Final = 12


class Answer(Struct, frozen=True):
    """What the demo reads of a record on `decisions`."""

    transaction_id: str
    outcome: Outcome
    reasons: list[Reason] = []
    rules: list[str] = []
    isolation_forest: float | None = None
    autoencoder: float | None = None
    supervised: float | None = None
    bundle: str | None = None

    def flagged(self) -> list[str]:
        """The layers that would have stopped the payment by themselves."""
        scores = {layer: getattr(self, layer) for layer in ALARMING}
        models = [layer for layer, score in scores.items() if score is not None and score >= ALARMING[layer]]
        return ["rules", *models] if self.rules else models


class Stopped(Struct, frozen=True):
    """The latest blocked payment of a card, why, and what it really was."""

    transaction: Transaction
    reasons: list[Reason]
    """Strongest first."""
    fraud: str | None
    times: int = 1
    """Blocked payments of the card, this one included, since it came onto the list."""


class Flagged(Struct, frozen=True):
    """What a layer saw of the payments that models were asked about."""

    layer: str
    frauds: int
    all_frauds: int
    genuine: int
    all_genuine: int


class Count(Struct, frozen=True):
    """Decided payments of one kind."""

    allowed: int = 0
    reviewed: int = 0
    blocked: int = 0

    @property
    def stopped(self) -> int:
        return self.reviewed + self.blocked

    @property
    def payments(self) -> int:
        return self.allowed + self.stopped


class Tally:
    """Counts, the payments under way, and the latest decisions: bounded, however long the demo runs."""

    def __init__(self) -> None:
        self.sent = 0
        self.surplus = 0
        """Decisions about payments that were not under way: decided before, or never sent."""
        self.cards: set[str] = set()
        """Those that paid; payments of others are not the demo's."""
        self.simulated: datetime | None = None
        """Event time of the latest payment sent."""
        self._blocked: dict[str, Stopped] = {}
        """By card; the latest last."""
        self._under_way: dict[str, tuple[Labelled, float]] = {}
        self._counts: Counter[tuple[str | None, Outcome]] = Counter()
        self._flagged: Counter[tuple[str, bool]] = Counter()
        self._scored: Counter[bool] = Counter()
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)

    @property
    def waiting(self) -> int:
        """Payments sent and not decided yet."""
        return len(self._under_way)

    @property
    def decided(self) -> int:
        return self._counts.total()

    def send(self, labelled: Labelled, at: float) -> None:
        """Take note of a payment as it is handed over."""
        self.sent += 1
        self.cards.add(labelled.transaction.card_id)
        self.simulated = labelled.transaction.timestamp
        self._under_way[labelled.transaction.transaction_id] = (labelled, at)

    def decide(self, answer: Answer, at: float) -> None:
        """Take note of a decision as it is seen."""
        found = self._under_way.pop(answer.transaction_id, None)
        if found is None:
            self.surplus += 1
            return
        labelled, since = found
        self._counts[labelled.fraud, answer.outcome] += 1
        self._recent.append((at, at - since))
        if answer.bundle is not None:
            is_fraud = labelled.fraud is not None
            self._scored[is_fraud] += 1
            self._flagged.update((layer, is_fraud) for layer in answer.flagged())
        if answer.outcome is Outcome.BLOCK:
            self._block(labelled, answer.reasons)

    def _block(self, labelled: Labelled, reasons: list[Reason]) -> None:
        """One entry a card, or a single attack would fill the list."""
        card_id = labelled.transaction.card_id
        before = self._blocked.pop(card_id, None)
        times = 1 if before is None or before.fraud != labelled.fraud else before.times + 1
        self._blocked[card_id] = Stopped(labelled.transaction, reasons, labelled.fraud, times)
        if len(self._blocked) > BLOCKED_SHOWN:
            del self._blocked[next(iter(self._blocked))]

    @property
    def blocked(self) -> list[Stopped]:
        """The cards blocked last, the latest first."""
        return list(reversed(self._blocked.values()))

    @property
    def layers(self) -> list[Flagged]:
        """What each layer saw, since models serve; nothing before."""
        if not self._scored:
            return []
        seen, scored = self._flagged, self._scored
        return [Flagged(name, seen[name, True], scored[True], seen[name, False], scored[False]) for name in ("rules", *ALARMING)]

    def of(self, fraud: str | None) -> Count:
        """Decided payments of a kind of fraud; `None` for the genuine ones."""
        return Count(*(self._counts[fraud, outcome] for outcome in Outcome))

    @property
    def all(self) -> Count:
        return total([self.of(kind) for kind in (None, *KINDS)])

    @property
    def frauds(self) -> Count:
        return total([self.of(kind) for kind in KINDS])

    def rate(self, now: float, running: float) -> float:
        """Decisions a second, of late; `running`: for how many seconds payments have been sent."""
        span = min(RATE_SECONDS, running)
        return sum(at > now - span for at, _ in self._recent) / span if span > 0 else 0.0

    def latencies(self, *shares: float) -> list[float | None]:
        """Percentiles of seconds from send to decision, over the latest decisions; `None` before the first."""
        ordered = sorted(taken for _, taken in self._recent)
        return [percentile(ordered, share) for share in shares]


def total(counts: Sequence[Count]) -> Count:
    return Count(sum(each.allowed for each in counts), sum(each.reviewed for each in counts), sum(each.blocked for each in counts))


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The least of `ordered` that is not exceeded by `share` of them (nearest rank); `None` of nothing."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None


def faults(tally: Tally, waited: float) -> list[str]:
    """What is wrong with a run that was let finish; empty where all is well. `waited`: seconds, for the last decisions."""
    found = []
    if tally.waiting:
        found.append(f"{tally.waiting:,} of {tally.sent:,} payments were not decided within {waited:.0f} s of the last one")
    if tally.surplus:
        found.append(f"{tally.surplus:,} of {tally.decided + tally.surplus:,} decisions came a second time")
    if not tally.frauds.stopped:
        found.append(f"none of {tally.frauds.payments:,} fraudulent payments was caught")
    return found


def summary(tally: Tally) -> list[str]:
    """The whole run in a few lines."""
    every, frauds, genuine = tally.all, tally.frauds, tally.of(None)
    p50, p99 = tally.latencies(0.5, 0.99)
    each = ", ".join(f"{words(kind)} {tally.of(kind).stopped:,} of {tally.of(kind).payments:,}" for kind in KINDS)
    return [
        f"{tally.sent:,} payments sent, {tally.decided:,} decided: "
        f"{every.allowed:,} allowed, {every.reviewed:,} for review, {every.blocked:,} blocked",
        f"latency from send to decision, latest {min(RECENT, tally.decided):,}: p50 {briefly(p50)}, p99 {briefly(p99)}",
        f"frauds caught {frauds.stopped:,} of {frauds.payments:,}: {each}",
        f"false alarms {genuine.stopped:,} of {genuine.payments:,} genuine payments ({share(genuine.stopped, genuine.payments)})",
    ]


def words(kind: str) -> str:
    return kind.replace("_", " ")


def briefly(taken: float | None) -> str:
    """Seconds, for people."""
    if taken is None:
        return "-"
    return f"{taken * 1000:.1f} ms" if taken < 0.1 else f"{taken * 1000:,.0f} ms"


def share(part: int, whole: int) -> str:
    """A share for people: the closer to none or all, the more digits."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    digits = 0 if 9.5 <= percent < 99 or part in {0, whole} else 1 if percent >= 0.95 else 2
    return f"{percent:.{digits}f} %"
