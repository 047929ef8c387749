"""The figures of a back-test. Each is a sum over the tally's cells, and every list is in a fixed order: equal tallies, equal reports."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from itertools import combinations
from statistics import median
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from aegis_app.backtest.tally import Cell, Changed, Finding, Harm, Sum, Tally
from aegis_app.core.decision import MODELS
from aegis_app.core.payment import SEVERITY, Outcome
from aegis_app.core.policy import Policy, State

ALERTS: Final = (Outcome.REVIEW, Outcome.BLOCK)
_FIRST_DAY: Final = date(1970, 1, 1)


class Group(Struct):
    """Payments taken together; those that are neither among frauds nor genuine are not labelled. Money: minor units, by currency."""

    payments: int = 0
    frauds: int = 0
    genuine: int = 0
    money: dict[str, int] = msgspec.field(default_factory=dict)
    fraud_money: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, cell: Cell, found: Sum) -> None:
        self.payments += found.payments
        self.frauds += found.payments if cell.truth.is_fraud is True else 0
        self.genuine += found.payments if cell.truth.is_fraud is False else 0
        self.money[cell.currency] = self.money.get(cell.currency, 0) + found.minor
        if cell.truth.is_fraud is True:
            self.fraud_money[cell.currency] = self.fraud_money.get(cell.currency, 0) + found.minor

    @property
    def labelled(self) -> int:
        return self.frauds + self.genuine


class Flagged(Struct, frozen=True):
    """What a verdict, or several, fell on. Shares are of labelled payments, and `None` where there are none."""

    verdicts: tuple[Outcome, ...]
    caught: Group
    a_day: float
    precision: float | None
    """Frauds among those caught."""
    recall: float | None
    """Those caught among frauds."""
    false_positive_rate: float | None
    """Those caught among genuine payments."""


class RuleFigures(Struct, frozen=True):
    """What a rule was worth."""

    rule: str
    text: str
    state: str
    asks: Outcome | None
    """`None` for what is hit without being a rule of the policy."""
    hits: Group
    precision: float | None
    recall: float | None
    alone: Group
    """Hits where no other rule that is on was hit: what is lost without it, or gained by turning it on."""
    alone_precision: float | None


class Overlap(Struct, frozen=True):
    """Payments that two rules hit."""

    rules: tuple[str, str]
    both: Group


class FraudFigures(Struct, frozen=True):
    """What became of the frauds of a type; `None`: those without one."""

    fraud_type: str | None
    frauds: int
    reviewed: int
    blocked: int
    recall: float
    """Reviewed or blocked."""


class Day(Struct, frozen=True):
    """Alerts of a day, UTC."""

    day: date
    payments: int
    reviewed: int
    blocked: int

    @property
    def alerts(self) -> int:
        return self.reviewed + self.blocked


class Judgement(Struct, frozen=True):
    """Everything about one policy."""

    policy: str
    """Where it came from."""
    version: str
    mode: str
    flagged: tuple[Flagged, ...]
    """Review, block, and the two together."""
    most_alerts_a_day: int
    median_alerts_a_day: float
    blocked_genuine_payments: int
    blocked_genuine_cards: int
    blocked_genuine_customers: int
    """0 where payments name no customers."""
    degraded: int
    """Payments about which a rule failed."""
    rules: tuple[RuleFigures, ...]
    off: tuple[str, ...]
    """Rules that were not asked."""
    overlaps: tuple[Overlap, ...]
    frauds: tuple[FraudFigures, ...]
    days: tuple[Day, ...]


class Change(Struct, frozen=True):
    """Payments whose verdict is `before` under the first policy and `after` under the second; a few of them as examples."""

    before: Outcome
    after: Outcome
    payments: Group
    examples: list[Changed]


class Report(Struct, frozen=True):
    """A back-test of one policy, or of two on the same payments."""

    source: str
    payments: Group
    repeats: int
    """Payments that came before, counted nowhere else."""
    first_day: date
    last_day: date
    labels: int
    labels_of_unknown_payments: int
    refused: int
    """Lines that hold no payment."""
    policies: tuple[Judgement, ...]
    changes: tuple[Change, ...]

    @property
    def days(self) -> int:
        return (self.last_day - self.first_day).days + 1


def report(source: str, tally: Tally, labels: int, policies: Sequence[tuple[str, Policy]]) -> Report:
    """Of a tally that holds payments, made under `policies`, each with its origin, and with the labels of `labels` payments."""
    # By currency, so that money is in the same order whichever process was first.
    cells = sorted(tally.cells.items(), key=lambda counted: counted[0].currency)
    days = range(min(cell.day for cell, _ in cells), max(cell.day for cell, _ in cells) + 1)
    return Report(
        source=source,
        payments=_grouped((None, cell, found) for cell, found in cells)[None],
        repeats=tally.repeats,
        first_day=_date(days[0]),
        last_day=_date(days[-1]),
        labels=labels,
        labels_of_unknown_payments=labels - len(tally.labelled),
        refused=len(tally.refused),
        policies=tuple(
            _judgement(origin, policy, [(cell.findings[place], cell, paid) for cell, paid in cells], tally.harm[place], days)
            for place, (origin, policy) in enumerate(policies)
        ),
        changes=_changes(cells, tally.cases) if len(policies) == 2 else (),
    )


def share(part: int, whole: int) -> float | None:
    """`None` of nothing."""
    return part / whole if whole else None


Key = TypeVar("Key", bound=Hashable)
Cells = Sequence[tuple[Cell, Sum]]
Found = Sequence[tuple[Finding, Cell, Sum]]
"""What a policy found about the payments of each cell."""


def _grouped(cells: Iterable[tuple[Key, Cell, Sum]]) -> dict[Key, Group]:
    groups: dict[Key, Group] = defaultdict(Group)
    for key, cell, found in cells:
        groups[key].add(cell, found)
    return groups


def _judgement(origin: str, policy: Policy, found: Found, harm: Harm, days: range) -> Judgement:
    every = _grouped((None, cell, paid) for _, cell, paid in found)[None]
    by_day = _grouped(((cell.day, finding.verdict), cell, paid) for finding, cell, paid in found)
    each_day = tuple(
        Day(
            _date(day),
            sum(by_day[day, verdict].payments for verdict in Outcome),
            by_day[day, Outcome.REVIEW].payments,
            by_day[day, Outcome.BLOCK].payments,
        )
        for day in days
    )
    reviewed, blocked = (_flagged((verdict,), found, every, len(days)) for verdict in ALERTS)
    return Judgement(
        policy=origin,
        version=policy.version,
        mode=policy.mode,
        flagged=(reviewed, blocked, _flagged(ALERTS, found, every, len(days))),
        most_alerts_a_day=max(day.alerts for day in each_day),
        median_alerts_a_day=median(day.alerts for day in each_day),
        blocked_genuine_payments=blocked.caught.genuine,
        blocked_genuine_cards=len(harm.cards),
        blocked_genuine_customers=len(harm.customers),
        degraded=sum(paid.payments for finding, _, paid in found if finding.degraded),
        rules=_rules(found, policy, every),
        off=tuple(clause.rule.name for clause in policy.clauses if clause.state is State.OFF),
        overlaps=_overlaps(found, policy),
        frauds=_frauds(found),
        days=each_day,
    )


def _flagged(asked: tuple[Outcome, ...], found: Found, every: Group, days: int) -> Flagged:
    caught = _grouped((None, cell, paid) for finding, cell, paid in found if finding.verdict in asked)[None]
    return Flagged(
        verdicts=asked,
        caught=caught,
        a_day=caught.payments / days,
        precision=share(caught.frauds, caught.labelled),
        recall=share(caught.frauds, every.frauds),
        false_positive_rate=share(caught.genuine, every.genuine),
    )


_MODELS: Final = "The models of the bundle: what they ask for by its thresholds."


def _rules(found: Found, policy: Policy, every: Group) -> tuple[RuleFigures, ...]:
    hits = _grouped((name, cell, paid) for finding, cell, paid in found for name in finding.hit)
    alone = _grouped((name, cell, paid) for finding, cell, paid in found for name in finding.hit if {*finding.rules} <= {name})
    clauses = {clause.rule.name: clause for clause, *_ in policy.asked}
    others = {name: None for name in sorted(hits.keys() - clauses.keys())}
    return tuple(
        RuleFigures(
            rule=name,
            text=_MODELS if name == MODELS else "" if clause is None else clause.rule.text,
            state=State.ON if clause is None else clause.state,
            asks=None if clause is None else clause.asks,
            hits=hits[name],
            precision=share(hits[name].frauds, hits[name].labelled),
            recall=share(hits[name].frauds, every.frauds),
            alone=alone[name],
            alone_precision=share(alone[name].frauds, alone[name].labelled),
        )
        for name, clause in (clauses | others).items()
    )


def _overlaps(found: Found, policy: Policy) -> tuple[Overlap, ...]:
    order = {clause.rule.name: place for place, clause in enumerate(policy.clauses)}

    def place(name: str) -> tuple[int, str]:
        return order.get(name, len(order)), name

    both = _grouped((pair, cell, paid) for finding, cell, paid in found for pair in combinations(sorted(finding.hit, key=place), 2))
    return tuple(Overlap(pair, both[pair]) for pair in sorted(both, key=lambda pair: [place(name) for name in pair]))


def _frauds(found: Found) -> tuple[FraudFigures, ...]:
    frauds = [(cell.truth.fraud_type, finding, cell, paid) for finding, cell, paid in found if cell.truth.is_fraud is True]
    groups = _grouped(((kind, finding.verdict), cell, paid) for kind, finding, cell, paid in frauds)
    figures = []
    for kind in sorted({kind for kind, *_ in frauds}, key=lambda kind: (kind is None, kind)):
        allowed, reviewed, blocked = (groups[kind, verdict].payments for verdict in Outcome)
        every = allowed + reviewed + blocked
        figures.append(FraudFigures(kind, every, reviewed, blocked, (reviewed + blocked) / every))
    return tuple(figures)


def _changes(cells: Cells, cases: Mapping[tuple[Outcome, Outcome], list[Changed]]) -> tuple[Change, ...]:
    verdicts = ((cell.findings[0].verdict, cell.findings[1].verdict, cell, paid) for cell, paid in cells)
    groups = _grouped(((before, after), cell, paid) for before, after, cell, paid in verdicts if before is not after)
    order = sorted(groups, key=lambda change: (SEVERITY[change[0]], SEVERITY[change[1]]))
    return tuple(Change(before, after, groups[before, after], cases[before, after]) for before, after in order)


def _date(day: int) -> date:
    return _FIRST_DAY + timedelta(days=day)
