"""Which versions decide, do all workers agree, and do their models still fit?"""

from typing import Final

from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.ledger import listing
from grafana.panels import PER_SECOND, Board, Query, Sql, bars, figure, growth, lines, quantile, rate, rows, share

DAY: Final = 24 * 3600.0
KINDS: Final = " or ".join(
    f'label_replace(count(group by ({labels}) ({series}{{@}})), "of", "{series}", "", "")'
    for series, labels in (
        ("aegis_policy_info", "version, mode"),
        ("aegis_bundle_info", "version"),
        ("aegis_worker_info", "version, rates"),
    )
)
MISSING: Final = share(
    'sum by (feature) (aegis:drift:payments24h{job="$job", bin="null"})', 'sum by (feature) (aegis:drift:payments24h{job="$job"})'
)
CALIBRATION: Final = """
SELECT to_char(width_bucket(probability::numeric, 0, 1, 10) / 10.0, 'FM0.0') AS "up to", count(*) AS payments,
    avg(probability) AS said, avg(is_fraud::int) AS "turned out"
FROM judged WHERE probability IS NOT NULL AND is_fraud IS NOT NULL AND day > (SELECT max(day) FROM decisions) - 91
GROUP BY width_bucket(probability::numeric, 0, 1, 10) ORDER BY width_bucket(probability::numeric, 0, 1, 10)
"""


def models() -> Board:
    return (
        Board("models", "Aegis: what decides", "Which versions decide, do all workers agree, and do their models still fit?")
        .row(
            "In force",
            4,
            figure(
                "Policy",
                "Version in force, as in every decision. `aegis policies history` says who published it and why.",
                Query("group by (version) (aegis_policy_info{@})", "{{version}}"),
                "short",
                by_name=True,
            ),
            figure(
                "Bundle",
                "Models that serve, as in every decision; none: rules and lists decide alone. See `aegis bundles history`.",
                Query("group by (version) (aegis_bundle_info{@})", "{{version}}"),
                "short",
                by_name=True,
            ),
            figure(
                "Payments unseen by the models",
                "Since the end of those that they were trained and measured on. Above four months an alert fires.",
                Query("time() - min(aegis_bundle_until_seconds{@})"),
                "s",
                {60 * DAY: "orange", 120 * DAY: "red"},
            ),
            figure(
                "Kinds of worker",
                "Of policy, bundle, software and rates, whichever has most. 1 is well, 2 for minutes in an upgrade (AegisVersionsDiffer).",
                Query(f"max({KINDS})"),
                "short",
                {2.0: "orange"},
            ),
            figure(
                "Degraded, share of payments",
                "Decided while a layer failed, in the time selected. Anything above 0 is a defect in a rule or a model.",
                Query(share(growth("aegis_degraded_total{@}"), growth("aegis_payments_total{@}"))),
                "percentunit",
                {0.000001: "orange", 0.001: "red"},
                decimals=3,
            ),
            figure(
                "Age of what is held",
                "How long ago the worker furthest behind knew that it held all lists and policies. Seconds are well.",
                Query("max(aegis_broadcast_age_seconds{@})"),
                "s",
                {10.0: "orange", 60.0: "red"},
            ),
        )
        .row(
            "Scores",
            9,
            lines(
                "Scores by layer, 99 in 100 below",
                "Each layer's, and of all together (ensemble, or rules). A level that moves for days: payments changed.",
                [Query(quantile(0.99, "aegis_score", "le, layer"), "{{layer}}")],
                "percentunit",
            ),
            lines(
                "Payments scored by layer",
                "Shares of the payments. Below 100%: the layer fails, or cannot tell because inputs are missing.",
                [Query(share(rate("aegis_score_count{@}", "layer"), rate("aegis_payments_total{@}"), of_each=True), "{{layer}}")],
                "percentunit",
            ),
            listing(
                "Probabilities said, and what became of them (from the ledger, the last quarter)",
                "Payments by calibrated probability. The last two columns should be alike; far apart: train anew, or calibrate.",
                Sql(CALIBRATION),
                {"said": "percentunit", "turned out": "percentunit"},
            ),
        )
        .row(
            "Drift, against the payments of the training",
            10,
            bars(
                "Features that moved most",
                "Population stability index of a day's payments, 10,000 at least: above 0.1 look, above 0.25 an alert fires. While memory "
                "is young, all move.",
                Query('sort_desc(topk(12, aegis:drift:psi{job="$job"}))', "{{feature}}", now=True),
                "short",
                colour="orange",
            ),
            lines(
                "Features that moved most, over time",
                "The same. A step is a producer, a bundle or a policy; a slope is the world.",
                [Query('topk(5, aegis:drift:psi{job="$job"})', "{{feature}}")],
                "short",
                {0.1: "orange", 0.25: "red"},
            ),
            bars(
                "Inputs that are missing most",
                "Share of a day's payments for which a feature is not known. Worry where it was known before.",
                Query(f"sort_desc(topk(12, {MISSING}))", "{{feature}}", now=True),
                "percentunit",
                colour="purple",
            ),
        )
        .row(
            "By worker",
            8,
            rows(
                "Policy and software",
                "What each worker decides by. All rows should say the same, but for the worker's name.",
                [
                    Query("aegis_policy_info{@}", now=True, form=PromQueryFormat.TABLE),
                ],
            ),
            rows(
                "Software, currency and rates",
                "What each worker was started with. An empty version of rates: only amounts in the base currency are compared.",
                [Query("aegis_worker_info{@}", now=True, form=PromQueryFormat.TABLE)],
            ),
        )
        .row(
            "Over time",
            8,
            lines(
                "Layers that fail",
                "Decisions a second for which a layer failed. Should be 0; policy's on_failure says what happens to them.",
                [Query(rate("aegis_degraded_total{@}", "layer"), "{{layer}}")],
                PER_SECOND,
            ),
            lines(
                "Entries of lists",
                "Held by each worker, expired ones included. Worry above a million: each change then takes tens of milliseconds.",
                [Query("max by (list) (aegis_list_entries{@})", "{{list}}")],
                "short",
            ),
            lines(
                "Age of what is held",
                "By topic, of the worker furthest behind. Seconds are well; a line that climbs has lost Kafka.",
                [Query("max by (topic) (aegis_broadcast_age_seconds{@})", "{{topic}}")],
                "s",
                {60.0: "red"},
            ),
            lines(
                "Records passed over",
                "Policies and entries of lists that workers could not read, in the time selected so far. Should be 0.",
                [Query("sum by (topic) (aegis_broadcast_refused_total{@}) or sum(aegis_ready{@}) * 0", "{{topic}}")],
                "short",
            ),
        )
    )
