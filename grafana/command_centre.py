"""Is it working, and what is it stopping?"""

from typing import Final

from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.ledger import listing, places, scatter
from grafana.panels import (
    ANY_IS_BAD,
    PER_SECOND,
    WAITS,
    WHOLE,
    Board,
    Query,
    Sql,
    bars,
    figure,
    growth,
    heat,
    lines,
    quantile,
    rate,
    rows,
    share,
)

LATEST: Final = """
SELECT decided_at AS decided, verdict, outcome, amount, currency, merchant_id AS merchant, country, score, why,
    card_id AS card, transaction_id AS transaction
FROM flagged ORDER BY decided_at DESC LIMIT 50
"""
AMOUNTS: Final = """
SELECT decided_at AS time, CASE WHEN verdict = 'review' THEN amount END AS review, CASE WHEN verdict = 'block' THEN amount END AS block
FROM flagged WHERE $__timeFilter(decided_at) AND amount > 0 ORDER BY decided_at LIMIT 5000
"""
PLACES: Final = """
SELECT latitude, longitude, amount, verdict, merchant_id AS merchant, decided_at AS decided
FROM flagged WHERE $__timeFilter(decided_at) AND latitude IS NOT NULL ORDER BY decided_at DESC LIMIT 5000
"""
LATENCY: Final = "aegis_decision_seconds"
FLAGGED: Final = 'aegis_payments_total{@, verdict!="allow"}'
FLAGGED_MONEY: Final = 'aegis_amount_total{@, verdict!="allow"}'
PAYMENTS: Final = "aegis_payments_total{@}"
LISTED: Final = "aegis_list_hits_total{@}"
HITS: Final = 'aegis_rule_hits_total{@, mode="on"}'


def command_centre() -> Board:
    return (
        Board("command-centre", "Aegis: command centre", "Is it working, and what is it stopping?")
        .row(
            "Is it working?",
            4,
            figure(
                "Down, or not deciding",
                "Processes that Prometheus cannot reach, and workers that wait for memory, partitions, an operator. 0 is well.",
                Query("sum(up{@} == bool 0) + (sum(aegis_ready{@} == bool 0) or vector(0))"),
                "short",
                ANY_IS_BAD,
            ),
            figure(
                "Mode",
                "What the policy in force does: observe lets every payment through and only says what it would do; enforce does it.",
                Query("group by (mode) (aegis_policy_info{@})", "{{mode}}"),
                "short",
                by_name=True,
            ),
            figure(
                "Payments a second",
                "Decided, repeats included. Worry when it is far from what the hour of day usually brings.",
                Query(rate(PAYMENTS)),
                PER_SECOND,
                decimals=1,
            ),
            figure(
                "99 in 100 decided within",
                "From the payment's Kafka record to its acknowledged decision. The objective is 50 ms; after a second nobody waits.",
                Query(quantile(0.99, LATENCY)),
                "s",
                WAITS,
            ),
            figure(
                "Waiting",
                "Payments not settled yet. A few hundred are usual at full load; worry when it grows (runbook: AegisLagGrowing).",
                Query("sum(aegis_lag_payments{@})"),
                "short",
                {5000.0: "orange", 100_000.0: "red"},
            ),
            figure(
                "Alerts",
                "That fire now. docs/runbook.md has a section for each.",
                Query('count(ALERTS{alertstate="firing", alertname=~"Aegis.*", job="$job"}) or vector(0)'),
                "short",
                ANY_IS_BAD,
            ),
        )
        .row(
            "What is it stopping? (in the time selected)",
            4,
            figure(
                "Payments",
                "Decided in the time selected, repeats included.",
                Query(growth(PAYMENTS)),
                "short",
            ),
            figure(
                "Flagged",
                "Policy asked for review or block, whether or not it is enforced.",
                Query(growth(FLAGGED)),
                "short",
            ),
            figure(
                "Share flagged",
                "Of the payments decided. Under 1% is usual; far more keeps reviewers and customers busy.",
                Query(share(growth(FLAGGED), growth(PAYMENTS))),
                "percentunit",
                {0.02: "orange", 0.05: "red"},
                decimals=2,
            ),
            figure(
                "Blocked, $currency",
                "Money of payments that were blocked. Always 0 while the policy observes: see what it would block beside.",
                Query(growth('aegis_amount_total{@, outcome="block"}')),
                "short",
            ),
            figure(
                "Would block, $currency",
                "Money of payments for which policy asks to block, whether or not it is enforced.",
                Query(growth('aegis_amount_total{@, verdict="block"}')),
                "short",
            ),
            figure(
                "For review, $currency",
                "Money of payments for which policy asks for review, whether or not it is enforced.",
                Query(growth('aegis_amount_total{@, verdict="review"}')),
                "short",
            ),
        )
        .row(
            "Payments",
            8,
            lines(
                "Payments a second by verdict",
                "What policy asks. A change of shape without a change of traffic is a policy, a producer, or an attack.",
                [Query(rate(PAYMENTS, "verdict"), "{{verdict}}")],
                PER_SECOND,
                stacked=True,
            ),
            lines(
                "Share flagged",
                "Of the payments decided, by what policy asks. Worry at a step that no policy explains.",
                [Query(share(rate(FLAGGED, "verdict"), rate(PAYMENTS), of_each=True), "{{verdict}}")],
                "percentunit",
            ),
            lines(
                "Money flagged an hour, $currency",
                "At the pace of the moment, by what policy asks.",
                [Query("3600 * " + rate(FLAGGED_MONEY, "verdict"), "{{verdict}}")],
                "short",
            ),
        )
        .row(
            "Why, and how fast",
            9,
            bars(
                "Rules and lists hit",
                "Payments in the time selected that hit a rule which has effect, or are on a list: deny, watch, allow.",
                Query(f"sort_desc(topk(10, {growth(HITS, 'rule')} or {growth(LISTED, 'list')}))", "{{rule}}{{list}}", now=True),
                "short",
                colour="orange",
            ),
            heat("Scores", "How many payments got which score, 1 being fraud; rules alone give few different ones.", WHOLE, "short"),
            lines(
                "Time to a decision",
                "From record to acknowledged decision: of half, 95 and 99 in 100 payments. Lines: the objective, 50 ms, and a second.",
                [Query(quantile(part, LATENCY), name) for part, name in ((0.5, "half"), (0.95, "95 in 100"), (0.99, "99 in 100"))],
                "s",
                WAITS,
            ),
        )
        .row(
            "The latest, from the ledger",
            11,
            listing(
                "Latest flagged payments, and why",
                "The 50 decided last of those that policy did not simply allow. Empty while nobody runs `aegis ledger run`.",
                Sql(LATEST),
                {"amount": "short", "score": "percentunit"},
            ),
        )
        .row(
            "What was flagged in the time selected, from the ledger",
            11,
            scatter(
                "Amounts flagged, $currency",
                "Each point is a payment that was flagged, at the time of its decision. A level line of equal amounts is somebody testing.",
                Sql(AMOUNTS, over_time=True),
                "short",
            ),
            places(
                "Where flagged payments took place",
                "Those whose position is known, the larger the dearer. Worry at a new cluster: one shop, one machine, one town.",
                Sql(PLACES),
            ),
        )
        .row(
            "What needs somebody",
            7,
            rows(
                "Alerts that fire",
                "Empty is well. A page wakes somebody, a ticket is for the day; docs/runbook.md says what to do.",
                [Query('ALERTS{alertstate="firing", alertname=~"Aegis.*", job="$job"}', now=True, form=PromQueryFormat.TABLE)],
                hidden=["alertstate"],
            ),
            lines(
                "Not read, or not decided in full",
                "Records a second that became dead letters, and decisions for which a layer failed. Both should be 0.",
                [
                    Query(rate("aegis_dead_letters_total{@}", "reason") + " > 0", "dead letter: {{reason}}"),
                    Query(rate("aegis_degraded_total{@}", "layer"), "failed: {{layer}}"),
                ],
                PER_SECOND,
            ),
        )
    )
