"""Does it stop the right payments, and what would another rule have done?"""

from typing import Final

from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.ledger import COUNTS, SO_FAR, listing, weeks
from grafana.panels import PER_SECOND, WHOLE, Board, Query, Sql, bars, figure, growth, heat, lines, rate, share

QUARTER: Final = "day > (SELECT max(day) FROM decisions) - 91"
MATURE: Final = f"is_mature AND {QUARTER}"
EVERY_FRAUD: Final = f"nullif((SELECT sum(frauds) FROM cohorts WHERE {QUARTER}), 0)"
VERDICTS: Final = f"""
SELECT verdict, count(*) AS payments, count(*) FILTER (WHERE is_fraud) AS frauds,
    count(*) FILTER (WHERE NOT is_fraud) AS "false alarms", count(*) FILTER (WHERE is_fraud IS NULL) AS unknown,
    count(*) FILTER (WHERE is_fraud)::float / nullif(count(is_fraud), 0) AS precision,
    count(*) FILTER (WHERE is_fraud)::float / {EVERY_FRAUD} AS recall, sum(amount) FILTER (WHERE is_fraud)::float AS "fraud money"
FROM judged WHERE verdict <> 'allow' AND kind NOT IN ('refund', 'reversal') AND {QUARTER} GROUP BY verdict ORDER BY verdict
"""
RULES: Final = f"""
SELECT rule, mode, sum(hits) AS hits, sum(frauds) AS frauds, sum(false_alarms) AS "false alarms", sum(unknown) AS unknown,
    sum(frauds)::float / nullif(sum(frauds + false_alarms), 0) AS precision, sum(frauds)::float / {EVERY_FRAUD} AS recall,
    sum(fraud_money)::float AS "fraud money"
FROM rule_days WHERE {QUARTER} GROUP BY rule, mode ORDER BY sum(hits) DESC
"""
UNITS: Final = {"precision": "percentunit", "recall": "percentunit", "fraud money": "short"}


def by_week(*columns: str) -> str:
    """Sums of columns of cohorts, by week; those of a week with a day that is too young are `so far`."""
    names = dict(zip(columns, COUNTS, strict=True))
    kinds = {"": "bool_and(is_mature)", SO_FAR: "NOT bool_and(is_mature)"}
    sums = [
        f'CASE WHEN {when} THEN sum({column})::float END AS "{name}{kind}"'
        for column, name in names.items()
        for kind, when in kinds.items()
    ]
    week = "date_trunc('week', day)"
    return f"SELECT to_char({week}, 'YYYY-MM-DD') AS week, {', '.join(sums)} FROM cohorts WHERE {QUARTER} GROUP BY {week} ORDER BY {week}"


def hits(mode: str) -> str:
    """How often each rule was hit in the time selected, most first."""
    found = growth(f'aegis_rule_hits_total{{@, mode="{mode}"}}', "rule")
    return f"sort_desc({found} > 0)"


def hits_per_1000(mode: str) -> str:
    found = rate(f'aegis_rule_hits_total{{@, mode="{mode}"}}', "rule")
    return f"1000 * {share(found, rate('aegis_payments_total{@}'), of_each=True)} > 0"


def share_of_payments(series: str) -> str:
    return share(rate(series), rate("aegis_payments_total{@}"))


def detection() -> Board:
    return (
        Board("detection", "Aegis: detection quality", "Does it stop the right payments, and what would another rule have done?", "5m")
        .row(
            "How well, over the last quarter's payments of which the end is known (from the ledger)",
            4,
            figure(
                "Fraud caught",
                "Of frauds, those that were flagged. Of days old enough for chargebacks alone; none while none is.",
                Sql(f"SELECT sum(caught)::float / nullif(sum(frauds), 0) FROM cohorts WHERE {MATURE}"),
                "percentunit",
                decimals=1,
            ),
            figure(
                "Fraud money caught",
                "The same, by money: what the fraudsters did not get, if flags are acted on.",
                Sql(f"SELECT sum(caught_money)::float / nullif(sum(fraud_money), 0) FROM cohorts WHERE {MATURE}"),
                "percentunit",
                decimals=1,
            ),
            figure(
                "Flags that were right",
                "Of flagged payments whose end is known, those that were fraud. Low: reviewers and customers pay for it.",
                Sql(f"SELECT sum(caught)::float / nullif(sum(caught + false_alarms), 0) FROM cohorts WHERE {MATURE}"),
                "percentunit",
                decimals=1,
            ),
            figure(
                "False alarms for each fraud caught",
                "Genuine payments that were flagged. What is bearable depends on the cost of a review; above 10 is much.",
                Sql(f"SELECT sum(false_alarms)::float / nullif(sum(caught), 0) FROM cohorts WHERE {MATURE}"),
                "short",
                {10.0: "orange", 30.0: "red"},
                decimals=1,
            ),
            figure(
                "Fraud missed, $currency",
                "Money of frauds that were allowed without a flag.",
                Sql(f"SELECT sum(missed_money)::float FROM cohorts WHERE {MATURE}"),
                "short",
            ),
        )
        .row(
            "By week of payment, the last quarter (from the ledger)",
            10,
            weeks(
                "Flags and frauds",
                "Payments caught, missed and flagged in vain. Light: weeks too young for chargebacks, where missed ones are still to come.",
                Sql(by_week("caught", "missed", "false_alarms")),
                "short",
            ),
            weeks(
                "Money of flags and frauds, $currency",
                "The same by money. Worry when missed money grows faster than the money caught.",
                Sql(by_week("caught_money", "missed_money", "false_alarm_money")),
                "short",
            ),
        )
        .row(
            "What was asked for, the last quarter (from the ledger)",
            5,
            listing(
                "Blocks and reviews by what they turned out to be",
                "Precision is of payments whose end is known, recall of all known frauds. Blocks should be right far more often than "
                "reviews; blocked payments get no chargeback, so many of them stay unknown.",
                Sql(VERDICTS),
                UNITS,
            ),
        )
        .row(
            "Rule by rule, the last quarter (from the ledger)",
            10,
            listing(
                "Rules by what their hits turned out to be",
                "Precision is of hits whose end is known, recall of all known frauds. Shadow rules stand beside live ones: one "
                "that is precise is worth switching on.",
                Sql(RULES),
                UNITS,
            ),
        )
        .row(
            "Rules, in the time selected",
            11,
            bars(
                "Rules that have effect",
                "Payments that hit each. One hit far more than before is a policy, a producer or an attack.",
                Query(hits("on"), "{{rule}}", now=True),
                "short",
                colour="orange",
            ),
            bars(
                "Rules in shadow",
                "Payments that would have hit each. Before switching one on, let `aegis backtest` say what it would catch.",
                Query(hits("shadow"), "{{rule}}", now=True),
                "short",
                colour="blue",
            ),
        )
        .row(
            "Rules over time",
            9,
            lines(
                "Hits per 1,000 payments: rules that have effect",
                "Steady is well. A step at an annotation is the policy's; without one, look at what comes.",
                [Query(hits_per_1000("on"), "{{rule}}")],
                "short",
            ),
            lines(
                "Hits per 1,000 payments: rules in shadow",
                "The same for rules without effect.",
                [Query(hits_per_1000("shadow"), "{{rule}}")],
                "short",
            ),
        )
        .row(
            "Lists, and what passed by chance",
            8,
            lines(
                "Payments on a list, per 1,000",
                "Denied ones are blocked, watched ones reviewed, allowed ones spared models and review rules. A step is somebody's entry.",
                [
                    Query(
                        f"1000 * {share(rate('aegis_list_hits_total{@}', 'list'), rate('aegis_payments_total{@}'), of_each=True)}",
                        "{{list}}",
                    )
                ],
                "short",
            ),
            lines(
                "Decided by chance, per 1,000",
                "Let through or sent to review by control_share of the policy, so that verdicts can be measured. 0 while that is 0.",
                [
                    Query(
                        f"1000 * {share(rate('aegis_controls_total{@}', 'outcome'), rate('aegis_payments_total{@}'), of_each=True)}",
                        "{{outcome}}",
                    )
                ],
                "short",
            ),
        )
        .row(
            "Scores and verdicts",
            9,
            bars(
                "Scores, in the time selected",
                "Payments by score, up to the value named, 1 being fraud. Without models, rules alone give a few fixed scores.",
                Query(growth(WHOLE, "le"), "{{le}}", now=True, form=PromQueryFormat.HEATMAP),
                "short",
                colour="purple",
            ),
            heat("Scores over time", "A band that appears or vanishes is a change of policy, of models, or of what comes.", WHOLE, "short"),
            lines(
                "Share to block, beside its usual",
                "Of an hour's payments, those that policy asks to block; and the mean of 7 days. Worry at three times or a third of it.",
                [
                    Query('aegis:block_share:rate1h{job="$job"}', "of the hour"),
                    Query('aegis:block_share:usual{job="$job"}', "usual"),
                ],
                "percentunit",
            ),
        )
        .row(
            "What payments turned out to be",
            8,
            lines(
                "Labels an hour",
                "Taken in, by who says so and whether it is fraud. They come days or weeks after their payments; worry when they stop.",
                [Query("3600 * " + rate("aegis_labels_total{@}", "source, is_fraud") + " > 0", "{{source}}, fraud: {{is_fraud}}")],
                "short",
            ),
            lines(
                "Labels that changed little, or a verdict, an hour",
                "Repeats, weaker than what is known, too old, or frauds that habit cannot let go any more (not_held) are usual. "
                "Many without a merchant: payments do not name theirs. Many corrected: those who label disagree.",
                [
                    Query("3600 * " + rate("aegis_labels_ignored_total{@}", "reason"), "{{reason}}"),
                    Query("3600 * " + rate("aegis_labels_corrected_total{@}"), "corrected"),
                ],
                "short",
            ),
        )
        .row(
            "What rules could not see",
            8,
            lines(
                "Payments out of order, repeated or without a rate",
                "Shares of the payments. Late ones count right, but habit knows less; those without a rate are compared with no amount. "
                "Worry above a few percent.",
                [
                    Query(share_of_payments("aegis_late_total{@}"), "late"),
                    Query(share_of_payments("aegis_unrated_total{@}"), "no rate"),
                    Query(share_of_payments("aegis_duplicates_total{@}"), "repeats"),
                    Query(share_of_payments("aegis_stale_total{@}"), "stale"),
                ],
                "percentunit",
            ),
            lines(
                "Repeats that contradict",
                "Payments a second whose transaction_id came before with other content. Each is a producer's defect, or somebody trying.",
                [Query(rate("aegis_conflicts_total{@}"), "conflicts")],
                PER_SECOND,
            ),
        )
    )
