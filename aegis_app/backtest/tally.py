"""What was decided and what was true, counted so that any figure of the report is a sum over it.

Payments that no figure tells apart fall into one cell. Tallies of different cards add up to that of all of them.
"""

from bisect import insort
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from aegis_app.backtest.labels import Truth
from aegis_app.core.decision import MODELS, Reason, Ruling
from aegis_app.core.payment import DAY_MS, Outcome, Transaction
from aegis_app.core.rates import Rates
from models.datasets import Survey

MOST_CASES: Final = 5
"""Examples kept of each change of verdict: the earliest, of different cards."""


class Finding(Struct, frozen=True, gc=False):
    """A ruling, as far as it is counted."""

    verdict: Outcome = Outcome.ALLOW
    rules: tuple[str, ...] = ()
    """That were hit and count; models, where they asked for something, as one of them."""
    shadow_rules: tuple[str, ...] = ()
    degraded: bool = False

    @property
    def hit(self) -> tuple[str, ...]:
        """Every rule that was hit, on or in shadow."""
        return self.rules + self.shadow_rules


class Cell(Struct, frozen=True):
    """Day (UTC, since 1970), truth and currency of payments, and what each policy found."""

    day: int
    truth: Truth
    currency: str
    findings: tuple[Finding, ...]


class Sum(Struct):
    """Payments, and their money in minor units."""

    payments: int = 0
    minor: int = 0

    def add(self, payments: int, minor: int) -> None:
        self.payments += payments
        self.minor += minor


class Changed(Struct, frozen=True):
    """A payment whose verdict differs between the policies, and why."""

    timestamp: datetime
    card_id: str
    transaction_id: str
    amount_minor: int
    currency: str
    truth: Truth
    reasons: tuple[list[Reason], list[Reason]]
    """Under the first policy and under the second; strongest first."""

    @property
    def place(self) -> tuple[datetime, str, str]:
        return self.timestamp, self.card_id, self.transaction_id


class Harm(Struct):
    """Who was blocked for nothing: the cards and, where known, the customers of genuine payments."""

    cards: set[str] = msgspec.field(default_factory=set)
    customers: set[str] = msgspec.field(default_factory=set)


_QUIET: Final = Finding()


class Tally(Struct):
    """Everything that is kept of a back-test; its size grows with days and with what was found, not with payments."""

    cells: dict[Cell, Sum]
    harm: tuple[Harm, ...]
    """For each policy."""
    cases: dict[tuple[Outcome, Outcome], list[Changed]]
    """By verdict under the first policy and under the second, where they differ."""
    repeats: int
    """Payments that came before, with the same transaction_id: answered as then, and counted here only."""
    labelled: set[str]
    """The transaction_ids that labels spoke of."""
    refused: list[tuple[int, str]]
    """Lines that hold no payment, and why."""
    survey: Survey
    """What the payments lacked."""

    @classmethod
    def of(cls, policies: int) -> "Tally":
        """An empty one."""
        return cls({}, tuple(Harm() for _ in range(policies)), {}, 0, set(), [], Survey())

    def count(self, txn: Transaction, truth: Truth, rulings: Sequence[Ruling], rates: Rates) -> None:
        """Take note of a payment, of each policy's ruling, and of its money by `rates`."""
        if rulings[0].duplicate:
            self.repeats += 1
            return
        findings = tuple([_finding(ruling) for ruling in rulings])
        currency, minor = worth(txn, rates)
        cell = Cell(txn.at // DAY_MS, truth, currency, findings)
        found = self.cells.get(cell)
        if found is None:
            found = self.cells[cell] = Sum()
        found.add(1, minor)
        if truth.is_fraud is False:
            for finding, harm in zip(findings, self.harm, strict=True):
                if finding.verdict is Outcome.BLOCK:
                    harm.cards.add(txn.card_id)
                    if txn.customer_id is not None:
                        harm.customers.add(txn.customer_id)
        if len(rulings) == 2 and rulings[0].verdict is not rulings[1].verdict:
            self._keep(rulings[0].verdict, rulings[1].verdict, _case(txn, truth, rulings[0], rulings[1]))

    def merge(self, other: "Tally") -> None:
        """Add what was counted of other cards."""
        for cell, found in other.cells.items():
            self.cells.setdefault(cell, Sum()).add(found.payments, found.minor)
        for ours, theirs in zip(self.harm, other.harm, strict=True):
            ours.cards |= theirs.cards
            ours.customers |= theirs.customers
        for (before, after), cases in other.cases.items():
            for case in cases:
                self._keep(before, after, case)
        self.repeats += other.repeats
        self.labelled |= other.labelled
        self.refused += other.refused
        self.survey.merge(other.survey)

    def _keep(self, before: Outcome, after: Outcome, case: Changed) -> None:
        cases = self.cases.setdefault((before, after), [])
        for other in cases:
            if other.card_id == case.card_id:
                if other.place <= case.place:
                    return
                cases.remove(other)
                break
        insort(cases, case, key=lambda each: each.place)
        del cases[MOST_CASES:]


def worth(txn: Transaction, rates: Rates) -> tuple[str, int]:
    """A payment's money in minor units of the base currency; where there is no rate, of its own, which is never added to any other."""
    minor = rates.to_base(txn.amount_minor, txn.currency)
    return (txn.currency, txn.amount_minor) if minor is None else (rates.base, minor)


def _finding(ruling: Ruling) -> Finding:
    if ruling.verdict is Outcome.ALLOW and not ruling.rules and not ruling.shadow_rules and not ruling.degraded:
        return _QUIET
    models = [MODELS] if any(reason.code == MODELS for reason in ruling.reasons) else []
    return Finding(ruling.verdict, (*ruling.rules, *models), tuple(ruling.shadow_rules), ruling.degraded)


def _case(txn: Transaction, truth: Truth, first: Ruling, second: Ruling) -> Changed:
    return Changed(txn.timestamp, txn.card_id, txn.transaction_id, txn.amount_minor, txn.currency, truth, (first.reasons, second.reasons))
