"""Which versions decide, do all workers agree, and does any layer fail?"""

from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.panels import PER_SECOND, Board, Query, figure, growth, lines, rate, rows, share


def models() -> Board:
    return (
        Board("models", "Aegis: what decides", "Which versions decide, do all workers agree, and does any layer fail?")
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
                "Kinds of policy",
                "With different policies, workers decide differently. 1 is well, 2 for minutes in an upgrade (AegisVersionsDiffer).",
                Query("count(group by (version, mode) (aegis_policy_info{@}))"),
                "short",
                {2.0: "orange"},
            ),
            figure(
                "Kinds of software and rates",
                "As for policies: 1 is well.",
                Query("count(group by (version, rates) (aegis_worker_info{@}))"),
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
