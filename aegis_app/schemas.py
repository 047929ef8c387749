"""What others rely on, described from the types: records and settings. The committed copies are in `docs`."""

from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, Final

import msgspec
from prometheus_client.metrics import MetricWrapperBase

from aegis_app import bundles, metrics, policies
from aegis_app.core import encoding
from aegis_app.core.answer import Fallback
from aegis_app.core.decision import Decision
from aegis_app.core.features import GROUPS
from aegis_app.core.intake import Erase, Past
from aegis_app.core.label import Label
from aegis_app.core.lists import Entry
from aegis_app.core.payment import Transaction
from aegis_app.deployment import Founding
from aegis_app.metrics import Bins, Distribution
from aegis_app.settings import PREFIX, Settings
from aegis_app.topics import Name

RECORDS: Final[Mapping[Name, Any]] = {
    Name.TRANSACTIONS: Transaction,
    Name.LABELS: Label,
    Name.DECISIONS: Decision,
    Name.HISTORY: Past | Erase,
    Name.LISTS: Entry,
    Name.POLICIES: policies.Published,
    Name.BUNDLES: bundles.Published,
    Name.FALLBACKS: Fallback,
    Name.DEPLOYMENT: Founding,
}
"""What is on each topic that holds JSON of ours."""


def schema(name: Name) -> dict[str, Any]:
    """JSON Schema (2020-12) of a record's value."""
    made = msgspec.json.schema(RECORDS[name])
    for kind in made["$defs"].values():
        if "description" in kind:
            kind["description"] = cleandoc(kind["description"])  # docstrings are indented, until Python 3.13
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def features_page() -> str:
    """The catalogue of features as a table in Markdown."""
    rows = [
        f"| {group} | `{name}` | {each['unit']} | {each['description']} | {each['null']} | {'yes' if each['labels'] else ''} |"
        for group, kind in GROUPS.items()
        for name, each in msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"].items()
    ]
    return "\n".join(
        [
            "# Features",
            "",
            "How a payment is described to rules and models: by what was known before it, never by what came after. Decisions that are not",
            "`allow`, and a share of the others, carry them (`features`); `aegis features` writes them for a whole file.",
            "",
            "Money is in minor units of the base currency (`AEGIS_BASE_CURRENCY`, by the rates of `AEGIS_RATES`). Windows end at the time",
            "of the payment and leave it out; what they count are attempts of every outcome, but no refunds and reversals. Habit (usual",
            "amounts, hours, places, what is new) is learnt from payments whose verdict was `allow`; a confirmed fraud leaves it when it",
            "becomes known, if it is among the card's last 32 payments. A payment's `attributes` go to models beside them, as they came.",
            "",
            "A rule reads them by group, as `seen.amounts.amount_ratio`; a group is found when it is first asked for.",
            "",
            "| group | feature | unit | meaning | null when | labels |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            *(encoding.__doc__ or "").strip().splitlines(),
            "",
        ]
    )


def metrics_page() -> str:
    """Every series as a table in Markdown."""
    series = [each for each in vars(metrics).values() if isinstance(each, Bins | Distribution | MetricWrapperBase) and not _is_child(each)]
    rows = [_metric_row(each) for each in series]
    return "\n".join(
        [
            "# Metrics",
            "",
            "What a worker exports at `/metrics`, and a sink (ledger, alerts), for Prometheus. Labels come from closed sets, and nothing",
            "about a card, a merchant or a payment is among them. Series of several workers add up; `max` over them is right for ages",
            "and for `_info`. Beside these are the usual `process_` and `python_` ones. What they show is in `grafana/`, when to worry in",
            "`prometheus/alerts.yml`.",
            "",
            "No series counts failed sends of a worker: it stops at the first that Kafka does not take within a minute, and reads the",
            "payments again, so that a counter would go with it. `AegisKafkaAway` says so before, `AegisRestarts` if it happens again and",
            "again. Kafka's own series come from an exporter of yours, see `prometheus/prometheus.yml`; nothing here asks for them.",
            "",
            "| series | kind | labels | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _metric_row(metric: Bins | Distribution | MetricWrapperBase) -> str:
    family = next(iter(metric.describe()))
    labels = metric._labelnames if isinstance(metric, MetricWrapperBase) else metric.labelnames
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return f"| `{name}` | {family.type} | {', '.join(f'`{label}`' for label in labels)} | {family.documentation} |"


def _is_child(metric: Bins | Distribution | MetricWrapperBase) -> bool:
    """Whether it is one of a series' own, with its labels given."""
    return isinstance(metric, MetricWrapperBase) and bool(metric._labelvalues)


def settings_page() -> str:
    """Every setting as a table in Markdown."""
    info = msgspec.inspect.type_info(Settings)
    assert isinstance(info, msgspec.inspect.StructType)
    rows = [f"| `{PREFIX}{field.name.upper()}` | {_default(field.default)} | {_meaning(field.type)} |" for field in info.fields]
    return "\n".join(
        [
            "# Settings",
            "",
            "Environment variables, one set for workers and commands. A misspelt or bad one stops the start and names itself.",
            "Limits of rules are not settings: they stand in the policy file, see `aegis policies show`.",
            "",
            "| setting | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _default(value: Any) -> str:
    if value is None or value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _meaning(kind: msgspec.inspect.Type) -> str:
    """What is said of a type, and its choices where it has some."""
    parts = list(kind.types) if isinstance(kind, msgspec.inspect.UnionType) else [kind]
    said = next(part.extra_json_schema for part in parts if isinstance(part, msgspec.inspect.Metadata)) or {}
    inner = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind
    choices = ": " + ", ".join(map(str, inner.values)) if isinstance(inner, msgspec.inspect.LiteralType) else ""
    return f"{said['description']}{choices}"
