"""Every series that a gateway exports. Labels come from closed sets; time is in seconds. docs/gateway.md lists them."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector, disable_created_metrics

from aegis_app.core.payment import Outcome

REGISTRY: Final = CollectorRegistry()
"""Its own: what workers export is no business of a gateway's."""
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

SECONDS: Final = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

REQUESTS: Final = Counter("aegis_gateway_requests_total", "Requests answered.", ["route", "status"], registry=REGISTRY)
REQUEST_SECONDS: Final = Histogram(
    "aegis_gateway_request_seconds", "From a request's headers to the end of its answer.", ["route"], buckets=SECONDS, registry=REGISTRY
)
ANSWERS: Final = Counter(
    "aegis_gateway_payments_total", "Payments answered; fallback: without a decision.", ["outcome", "fallback"], registry=REGISTRY
)
DECISION_SECONDS: Final = Histogram(
    "aegis_gateway_decision_seconds",
    "From taking a payment in to its decision, also where it came too late.",
    buckets=SECONDS,
    registry=REGISTRY,
)
LATE: Final = Counter(
    "aegis_gateway_late_total",
    "Decisions that came after their payment's fallback was answered: what they decided, and whether that is what was answered.",
    ["outcome", "as_answered"],
    registry=REGISTRY,
)
UNDECIDED: Final = Counter(
    "aegis_gateway_undecided_total",
    "Payments answered by fallback whose decision did not come while one could be waited for.",
    registry=REGISTRY,
)
UNSENT: Final = Counter(
    "aegis_gateway_unsent_total", "Records that Kafka did not acknowledge in time; it may hold them all the same.", registry=REGISTRY
)
UNKNOWN_FIELDS: Final = Counter(
    "aegis_gateway_unknown_fields_total",
    "Payments with fields that are not known, and so not used: misspelt ones perhaps, which the log names.",
    registry=REGISTRY,
)
WAITING: Final = Gauge("aegis_gateway_waiting", "Payments waited for or to be sent.", registry=REGISTRY)
READY: Final = Gauge("aegis_gateway_ready", "1 while /ready says so.", registry=REGISTRY)


def begin() -> None:
    """Export 0 of what has not happened yet."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client's
    for outcome in Outcome:
        for flag in ("true", "false"):
            ANSWERS.labels(outcome, flag)
            LATE.labels(outcome, flag)
