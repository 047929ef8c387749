"""A report as tables of words, the same on the terminal and on the page."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from aegis_app.backtest.report import Change, Group, Judgement, Report
from aegis_app.backtest.tally import Changed
from aegis_app.core.decision import Reason
from aegis_app.core.payment import money

UNKNOWN: Final = "-"
MOST_OVERLAPS: Final = 12
"""Pairs of rules shown, those with the most payments; all are in the JSON."""


class Sheet(Struct, frozen=True):
    """A table; its first `words` columns hold words, the others figures."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


def headline(report: Report) -> list[str]:
    """What was judged, in a few sentences."""
    every = report.payments
    payments = "payment" if every.payments == 1 else "payments"
    days = "day" if report.days == 1 else "days"
    lines = [
        f"{every.payments:,} {payments} on {report.days:,} {days}, {report.first_day} to {report.last_day} (UTC): {amounts(every.money)}"
    ]
    if every.labelled:
        without = every.payments - every.labelled
        lines.append(
            f"{every.frauds:,} are fraud ({amounts(every.fraud_money)}), {every.genuine:,} genuine, of {without:,} nothing is known"
        )
    else:
        lines.append("nothing is known about what is fraud, so there is neither precision nor recall: give --labels")
    if report.repeats:
        lines.append(f"{report.repeats:,} more repeat an earlier transaction_id: answered as then, and counted nowhere below")
    if report.labels_of_unknown_payments:
        lines.append(f"{report.labels_of_unknown_payments:,} of {report.labels:,} labels are about payments that the file does not hold")
    if report.refused:
        lines.append(f"{report.refused:,} lines hold no payment that can be taken")
    return lines


def sheets(report: Report) -> list[Sheet]:
    """Those that have anything to say."""
    names = ("A", "B") if len(report.policies) == 2 else ("",)
    named = list(zip(names, report.policies, strict=True))
    found = [
        _policies(named),
        _verdicts(named),
        _frauds(named),
        *(_rules(name, judgement) for name, judgement in named),
        *(_overlaps(name, judgement) for name, judgement in named),
        _changes(report.changes),
        _examples(report.changes),
    ]
    return [sheet for sheet in found if sheet.rows]


def _policies(named: Sequence[tuple[str, Judgement]]) -> Sheet:
    return Sheet(
        "Policies and alerts",
        "An alert is a payment to review or to block. Verdicts count, whatever the mode.",
        ("", "policy", "version", "mode", "alerts a day", "median", "most", "genuine blocked", "their cards", "customers", "a rule failed"),
        tuple(
            (
                name,
                each.policy,
                each.version,
                each.mode,
                f"{each.flagged[-1].a_day:,.1f}",
                f"{each.median_alerts_a_day:,.1f}",
                f"{each.most_alerts_a_day:,}",
                f"{each.blocked_genuine_payments:,}",
                f"{each.blocked_genuine_cards:,}",
                f"{each.blocked_genuine_customers:,}",
                f"{each.degraded:,}",
            )
            for name, each in named
        ),
        words=4,
    )


def _verdicts(named: Sequence[tuple[str, Judgement]]) -> Sheet:
    return Sheet(
        "Verdicts",
        "Precision: frauds among those caught. Recall: caught among all frauds. False positives: caught among all genuine payments.",
        ("", "verdict", "payments", "a day", "frauds", "genuine", "precision", "recall", "false positives", "money", "fraud money"),
        tuple(
            (
                name,
                " or ".join(flagged.verdicts),
                f"{flagged.caught.payments:,}",
                f"{flagged.a_day:,.1f}",
                *_caught(flagged.caught, flagged.precision),
                percent(flagged.recall),
                percent(flagged.false_positive_rate),
                amounts(flagged.caught.money),
                amounts(flagged.caught.fraud_money),
            )
            for name, each in named
            for flagged in each.flagged
        ),
        words=2,
    )


def _frauds(named: Sequence[tuple[str, Judgement]]) -> Sheet:
    return Sheet(
        "Frauds by type",
        "Recall counts review and block.",
        ("fraud", "", "payments", "reviewed", "blocked", "recall"),
        tuple(
            (
                figures.fraud_type or "of no type",
                name,
                f"{figures.frauds:,}",
                f"{figures.reviewed:,}",
                f"{figures.blocked:,}",
                percent(figures.recall),
            )
            for both in zip(*(each.frauds for _, each in named), strict=True)
            if any(figures.fraud_type is not None for figures in named[0][1].frauds)
            for (name, _), figures in zip(named, both, strict=True)
        ),
        words=2,
    )


def _rules(name: str, judgement: Judgement) -> Sheet:
    off = f" Off, and not asked: {', '.join(judgement.off)}." if judgement.off else ""
    return Sheet(
        f"Rules {name}".rstrip(),
        f"Alone: no other rule that is on was hit. It is what would be lost without the rule, or gained by turning it on.{off}",
        (
            "rule",
            "state",
            "hits",
            "frauds",
            "genuine",
            "precision",
            "recall",
            "money",
            "fraud money",
            "alone",
            "frauds",
            "genuine",
            "precision",
        ),
        tuple(
            (
                each.rule,
                each.state if each.asks is None else f"{each.state}, {each.asks}",
                f"{each.hits.payments:,}",
                *_caught(each.hits, each.precision),
                percent(each.recall),
                amounts(each.hits.money),
                amounts(each.hits.fraud_money),
                f"{each.alone.payments:,}",
                *_caught(each.alone, each.alone_precision),
            )
            for each in judgement.rules
        ),
        words=2,
    )


def _overlaps(name: str, judgement: Judgement) -> Sheet:
    most = sorted(judgement.overlaps, key=lambda overlap: -overlap.both.payments)[:MOST_OVERLAPS]
    hits = {each.rule: each.hits.payments for each in judgement.rules}
    return Sheet(
        f"Overlaps {name}".rstrip(),
        "Payments that two rules hit, and what share that is of each rule's hits.",
        ("rule", "other rule", "both", "of the rule's", "of the other's", "frauds", "genuine"),
        tuple(
            (
                one,
                other,
                f"{each.both.payments:,}",
                percent(each.both.payments / hits[one]),
                percent(each.both.payments / hits[other]),
                f"{each.both.frauds:,}",
                f"{each.both.genuine:,}",
            )
            for each in most
            for one, other in [each.rules]
        ),
        words=2,
    )


def _changes(changes: Sequence[Change]) -> Sheet:
    return Sheet(
        "Changes from A to B",
        "Payments whose verdict differs.",
        ("A", "B", "payments", "frauds", "genuine", "money", "fraud money"),
        tuple(
            (
                each.before,
                each.after,
                f"{each.payments.payments:,}",
                f"{each.payments.frauds:,}",
                f"{each.payments.genuine:,}",
                amounts(each.payments.money),
                amounts(each.payments.fraud_money),
            )
            for each in changes
        ),
        words=2,
    )


def _examples(changes: Sequence[Change]) -> Sheet:
    return Sheet(
        "Examples of changes",
        "The earliest of each, of different cards.",
        ("A", "B", "time", "payment", "card", "amount", "in truth", "why"),
        tuple(
            (
                change.before,
                change.after,
                f"{case.timestamp:%Y-%m-%d %H:%M:%S}",
                case.transaction_id,
                case.card_id,
                money(case.amount_minor, case.currency),
                _truth(case),
                _why(case),
            )
            for change in changes
            for case in change.examples
        ),
        words=8,
    )


def _why(case: Changed) -> str:
    """What each policy found, where it found anything."""
    said = [(name, reasons) for name, reasons in zip("AB", case.reasons, strict=True) if reasons]
    return "; ".join(f"{name}: {_sentences(reasons)}" for name, reasons in said)


def _sentences(reasons: Sequence[Reason]) -> str:
    return ", ".join(f"{reason.code} ({reason.text})" for reason in reasons)


def _truth(case: Changed) -> str:
    match case.truth.is_fraud:
        case None:
            return UNKNOWN
        case False:
            return "genuine"
        case True:
            return case.truth.fraud_type or "fraud"


def _caught(group: Group, precision: float | None) -> tuple[str, str, str]:
    return f"{group.frauds:,}", f"{group.genuine:,}", percent(precision)


def percent(share: float | None) -> str:
    """A share; a small one with more digits, as false positive rates are."""
    if share is None:
        return UNKNOWN
    return f"{share:.1%}" if share == 0 or share >= 0.01 else f"{share:.3%}"


def amounts(minor: Mapping[str, int]) -> str:
    """Money of each currency in turn."""
    return ", ".join(money(minor[currency], currency) for currency in sorted(minor)) or UNKNOWN
