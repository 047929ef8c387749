"""Which worker, partition or stage holds payments up, and what runs beside the workers?"""

from typing import Final

from grafana.panels import OBJECTIVE, PER_SECOND, Board, Query, lines, quantile, rate, share

PARTS: Final = ((0.5, "half"), (0.99, "99 in 100"))


def workers() -> Board:
    return (
        Board("workers", "Aegis: workers", "Which worker, partition or stage holds payments up, and what runs beside the workers?")
        .row(
            "What waits",
            8,
            lines(
                "Waiting, by partition",
                "Records not settled yet. One partition alone: a card or producer floods it. All: too few workers, or Kafka is slow.",
                [Query("sum by (topic, partition) (aegis_lag_payments{@})", "{{topic}} {{partition}}")],
                "short",
            ),
            lines(
                "Seconds behind",
                "Most that the oldest record can have waited. Seconds are usual at full load; minutes are a backlog.",
                [Query("max by (topic) (aegis_behind_seconds{@})", "{{topic}}")],
                "s",
                {120.0: "red"},
            ),
            lines(
                "Payments a second",
                "By worker. Shares follow partitions, so an idle worker may just have none.",
                [Query(rate("aegis_payments_total{@}", "instance"), "{{instance}}")],
                PER_SECOND,
                stacked=True,
            ),
        )
        .row(
            "Where the time goes",
            9,
            lines(
                "Stages, 99 in 100 chunks within",
                "Until a chunk is taken up (wait), all of the deciding (judge; of it parse, recall, decide, of that the models' score, and "
                "write), until Kafka has acknowledged it (publish). What comes after, changelog and rocksdb, nobody waits for.",
                [Query(quantile(0.99, "aegis_stage_seconds", "le, stage"), "{{stage}}")],
                "s",
                {OBJECTIVE: "orange"},
            ),
            lines(
                "Stages, seconds a second",
                "How much of each second all chunks together spend in a stage. judge near 1 for a worker means that its core is full; "
                "parse, recall, decide (of that score) and write are parts of it.",
                [Query(rate("aegis_stage_seconds_sum{@}", "stage"), "{{stage}}")],
                "short",
            ),
            lines(
                "Records in a chunk",
                "Mean, and what 95 in 100 stay below; 512 at most. Small when quiet, large when busy or catching up.",
                [
                    Query(share(rate("aegis_chunk_payments_sum{@}"), rate("aegis_chunk_payments_count{@}")), "mean"),
                    Query(quantile(0.95, "aegis_chunk_payments"), "95 in 100"),
                ],
                "short",
            ),
        )
        .row(
            "Each process",
            8,
            lines(
                "Ready",
                "1 while it decides payments. /ready of a worker at 0 says what it waits for.",
                [Query("aegis_ready{@}", "{{instance}}")],
                "short",
            ),
            lines(
                "Partitions",
                "Whose payments it decides; 0 stands by. Should be about even, and come to rest after a start or a stop.",
                [Query("aegis_partitions_owned{@}", "{{instance}}")],
                "short",
                stacked=True,
            ),
            lines(
                "CPU",
                "Cores used. A process of ours uses a little over one at most; near that, add one of its kind.",
                [Query("rate(process_cpu_seconds_total{@}[$__rate_interval])", "{{instance}}")],
                "short",
                {0.8: "orange", 1.0: "red"},
            ),
            lines(
                "Memory of the process",
                "Resident. Should level off; one that climbs for days is a defect.",
                [Query("process_resident_memory_bytes{@}", "{{instance}}")],
                "bytes",
            ),
        )
        .row(
            "What is remembered",
            8,
            lines(
                "Values",
                "Cards remembered, as RocksDB estimates. Idle ones are forgotten after AEGIS_CARD_TTL_DAYS.",
                [Query("sum by (table) (aegis_memory_keys{@})", "{{table}}")],
                "short",
            ),
            lines(
                "Size of RocksDB",
                "Files and what is not written to them yet.",
                [Query("aegis_memory_bytes{@}", "{{instance}} {{table}}")],
                "bytes",
            ),
            lines(
                "Read and written",
                "Values a second. Many reads a payment: more cards are active than are kept at hand, which costs CPU.",
                [
                    Query(rate("aegis_memory_reads_total{@}", "table"), "{{table}} read"),
                    Query(rate("aegis_memory_writes_total{@}", "table"), "{{table}} written"),
                ],
                PER_SECOND,
            ),
            lines(
                "Disk free",
                "Share of the disk with the data directory. Below 10% an alert fires.",
                [Query("aegis_disk_free_bytes{@} / aegis_disk_bytes{@}", "{{instance}}")],
                "percentunit",
            ),
        )
        .row(
            "Merchants and devices",
            8,
            lines(
                "Events waiting",
                "What payments tell of merchants and devices and nobody has learnt yet. Should fall to 0 within seconds when it is quiet.",
                [Query('sum by (topic) (aegis_lag_payments{@, topic=~".*-events"})', "{{topic}}")],
                "short",
            ),
            lines(
                "Events behind",
                "Most that the oldest can have waited. Above some seconds, rules judge by what was known that long ago.",
                [Query('max by (topic) (aegis_behind_seconds{@, topic=~".*-events"})', "{{topic}}")],
                "s",
                {10.0: "orange", 600.0: "red"},
            ),
            lines(
                "Age of risk held",
                "Since each worker last knew that it holds all that is told of merchants and devices. A line that climbs has lost Kafka.",
                [Query('max by (instance, topic) (aegis_broadcast_age_seconds{@, topic=~".*-risk"})', "{{instance}} {{topic}}")],
                "s",
                {60.0: "red"},
            ),
            lines(
                "Risk held",
                "Merchants and devices of which each worker knows. All workers should hold the same.",
                [Query("aegis_risk_entries{@}", "{{instance}} {{topic}}")],
                "short",
            ),
        )
        .row(
            "Gateway",
            8,
            lines(
                "Payments answered a second",
                "By what was answered; fallback: the gateway's own rule, because the decision came late. Worry when they are many.",
                [
                    Query(
                        rate('aegis_gateway_payments_total{job="$job"}', "outcome, fallback") + " > 0",
                        "{{outcome}}, fallback: {{fallback}}",
                    )
                ],
                PER_SECOND,
            ),
            lines(
                "Until the decision",
                "From taking a payment in to its decision: of half, and of 99 in 100 payments. Callers wait for their deadline.",
                [Query(quantile(part, "aegis_gateway_decision_seconds", of='job="$job"'), name) for part, name in PARTS],
                "s",
                {OBJECTIVE: "orange", 1.0: "red"},
            ),
            lines(
                "Requests by status",
                "A second. 4xx are callers' errors, 429 too many at once, 5xx ours.",
                [Query(rate('aegis_gateway_requests_total{job="$job"}', "status") + " > 0", "{{status}}")],
                PER_SECOND,
                stacked=True,
            ),
        )
        .row(
            "Ledger and alerts",
            8,
            lines(
                "Waiting for the ledger and for alerts",
                "Decisions and labels not taken yet. Falls to 0 within seconds when it is quiet; grows while a database is away.",
                [Query('sum by (sink, topic) (aegis_sink_lag_records{job="$job"})', "{{sink}} {{topic}}")],
                "short",
            ),
            lines(
                "Taken a second",
                "Records that the ledger and alerts have taken.",
                [Query(rate('aegis_sink_records_total{job="$job"}', "sink, topic"), "{{sink}} {{topic}}")],
                PER_SECOND,
            ),
            lines(
                "Attempts that failed a minute",
                "To write to the database, or to deliver to a destination. Each is made again; worry when it lasts.",
                [
                    Query("60 * " + rate('aegis_sink_retries_total{job="$job"}', "sink"), "{{sink}}"),
                    Query(
                        "60 * " + rate('aegis_alerts_attempts_failed_total{job="$job"}', "destination, reason"),
                        "{{destination}}: {{reason}}",
                    ),
                ],
                "short",
            ),
            lines(
                "People not told yet",
                "Decisions that each destination is still to be told of. Above 0 for longer than they are grouped: it does not take them.",
                [Query('sum by (destination) (aegis_alerts_waiting{job="$job"})', "{{destination}}")],
                "short",
            ),
        )
        .row(
            "Handovers and trouble",
            8,
            lines(
                "Partitions given",
                "How often in 5 minutes a worker was given partitions: a start, a stop, or a worker that was given up.",
                [Query("increase(aegis_rebalances_total{@}[5m])", "{{instance}}")],
                "short",
            ),
            lines(
                "Memory to read back",
                "Records of changelogs still to be read before a worker decides. Falls to 0 within a minute or so for a million cards.",
                [Query("aegis_recovery_records{@}", "{{instance}}")],
                "short",
            ),
            lines(
                "Read again",
                "Known already, adopted from an earlier owner, or out of order; a second. Peaks at handovers are usual.",
                [
                    Query(rate("aegis_skipped_total{@}"), "known"),
                    Query(rate("aegis_adopted_total{@}"), "adopted"),
                    Query(rate("aegis_jumps_total{@}"), "out of order"),
                ],
                PER_SECOND,
            ),
            lines(
                "Dead letters",
                "Records a second that could not be taken, by reason. 0 is well: each is a ticket, above 1% of the payments a page.",
                [Query(rate("aegis_dead_letters_total{@}", "topic, reason") + " > 0", "{{topic}}: {{reason}}")],
                PER_SECOND,
            ),
        )
    )
