"""Does it stop the right payments, and what would another rule have done?"""

from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.panels import PER_SECOND, Board, Query, bars, growth, heat, lines, rate, share


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
        Board("detection", "Aegis: detection quality", "Does it stop the right payments, and what would another rule have done?")
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
                Query(growth("aegis_score_bucket{@}", "le"), "{{le}}", now=True, form=PromQueryFormat.HEATMAP),
                "short",
                colour="purple",
            ),
            heat("Scores over time", "A band that appears or vanishes is a change of policy, or of what comes.", "aegis_score", "short"),
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
                "Labels that changed nothing an hour",
                "Repeats, weaker than what is known, or too old are usual. Many without a merchant: payments do not name theirs.",
                [Query("3600 * " + rate("aegis_labels_ignored_total{@}", "reason"), "{{reason}}")],
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
