"""What openapi.json says of bodies and answers, from the types that read and write them."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import FastAPI

from aegis_app.core.answer import Answer, Fallback
from aegis_app.core.decision import Decision
from aegis_app.core.label import Label
from aegis_app.core.payment import Transaction
from aegis_app.gateway.answers import Checked, Predicted
from aegis_app.gateway.problems import MEDIA, TITLES, ProblemDetails
from aegis_app.ledger.queries import Verdict

JSON: Final = "application/json"
MOST: Final = 1000
"""Payments, labels or decisions at once."""
TYPES: Final = (Answer, Checked, Decision, Fallback, Label, Predicted, ProblemDetails, Transaction, Verdict)
Schema = Mapping[str, Any]


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": MOST}


def record(**properties: Schema) -> Schema:
    """An object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def closed(schema: Schema) -> Schema:
    """The same, where a further field is refused."""
    return {**schema, "additionalProperties": False}


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


NOTHING: Final[Schema] = {}
OBJECT: Final[Schema] = {"type": "object"}
TEXT: Final[Schema] = {"type": "string"}
PAYMENT: Final[Schema] = {"anyOf": [ref("Transaction"), ref("PaymentByCardNumber")]}
LABEL: Final[Schema] = {"anyOf": [ref("Label"), ref("LabelByCardNumber")]}
LABELS: Final[Schema] = {"anyOf": [*LABEL["anyOf"], array(LABEL, 1)]}
ENTRY: Final[Schema] = record(
    decision=ref("Decision"), base_minor=nullable({"type": "integer"}), known=nullable(ref("Verdict")), fallback=nullable(ref("Fallback"))
)
JUDGEMENT: Final[Schema] = {
    "type": "object",
    "required": ["is_fraud"],
    "properties": {
        "is_fraud": {"type": "boolean"},
        "fraud_type": {"type": "string", "minLength": 1, "maxLength": 64},
        "note": {"type": "string", "maxLength": 1000},
        "by": {"type": "string", "minLength": 1, "maxLength": 64, "description": "who judged; the key's name where not given"},
        "card_id": {"type": "string", "description": "where several cards came with this transaction_id"},
    },
    "additionalProperties": False,
}
FLAT: Final[Schema] = {
    "type": "object",
    "required": ["amount"],
    "properties": {
        "transaction_id": {"type": "string", "minLength": 1, "maxLength": 64, "description": "a new one where it is missing"},
        "user_id": {"type": "string", "minLength": 1, "maxLength": 64, "description": "the card; or card_id"},
        "merchant_id": {"type": "string", "minLength": 1, "maxLength": 64},
        "amount": {"type": "number", "minimum": 0, "description": "whole units of `currency`, or of the base currency"},
        "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "timestamp": {"type": "string", "format": "date-time", "description": "UTC without an offset; now where it is missing"},
    },
    "additionalProperties": {"type": ["number", "boolean", "string", "null"], "description": "numbers become attributes, for models"},
}
FLAT_OF_CARD: Final[Schema] = {**FLAT, "anyOf": [{"required": [name]} for name in ("user_id", "card_id", "card_number")]}
AT: Final = "2026-03-04T12:00:00Z"
EXAMPLE_PAYMENT: Final = {
    "transaction_id": "t-1001",
    "card_id": "tok_83f1",
    "amount_minor": 150000,
    "currency": "EUR",
    "timestamp": AT,
    "channel": "online",
    "merchant_id": "m-17",
    "merchant_category": "5732",
    "country": "FR",
}
EXAMPLE_FLAT: Final = {"transaction_id": "t-1002", "user_id": "u-77", "merchant_id": "m-17", "amount": 1500.0, "timestamp": AT}
EXAMPLE_LABEL: Final = {
    "transaction_id": "t-1001",
    "card_id": "tok_83f1",
    "merchant_id": "m-17",
    "timestamp": AT,
    "is_fraud": True,
    "labelled_at": "2026-03-09T08:00:00Z",
    "source": "chargeback",
}
EXAMPLE_ANSWER: Final = {
    "transaction_id": "t-1001",
    "outcome": "review",
    "action": "hold",
    "verdict": "review",
    "score": 0.5,
    "probability": None,
    "reasons": [{"code": "amount_spike", "text": "1,500.00 EUR; this card's usual is 25.00 EUR"}],
    "rules": ["amount_spike"],
    "policy": "0f3a9c1d2b4e",
    "bundle": None,
    "lists": None,
    "decided_at": "2026-03-04T12:00:00.012Z",
    "duplicate": False,
    "conflict": False,
    "degraded": False,
    "stale": False,
    "fallback": False,
    "recorded": True,
    "source": "3:41",
    "decision": "/v1/decisions/t-1001",
    "explanation": None,
}


def takes(schema: Schema, example: Any) -> dict[str, Any]:
    """Of a route that reads its body itself."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema, "example": example}}}}


def answers(
    schema: Schema, *problems: int, keyed: bool = True, media: str = JSON, example: Any = None, more: Schema = NOTHING
) -> dict[int | str, dict[str, Any]]:
    """A route's answers: the good one, `more` of it in other types, the problems of all routes, and its own `problems`."""
    content: dict[str, Any] = {"schema": schema} | ({} if example is None else {"example": example})
    known: dict[int | str, dict[str, Any]] = {200: {"description": "Done", "content": {media: content, **more}}}
    usual = (401, 403, 413, 429) if keyed else (413,)
    return known | {status: _problem(status) for status in (*usual, *problems)}


def _problem(status: int) -> dict[str, Any]:
    known: dict[str, Any] = {"description": TITLES[status], "content": {MEDIA: {"schema": ref("ProblemDetails")}}}
    if status in {429, 503}:
        known["headers"] = {"Retry-After": {"description": "seconds", "schema": TEXT}}
    return known


def install(app: FastAPI) -> None:
    """Serve an openapi.json with our own types in it."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            components = made().setdefault("components", {})
            components["schemas"] = {**components.get("schemas", {}), **_types()}
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "a key of `aegis keys create`"}}
        return made()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way


def _types() -> dict[str, Any]:
    _, types = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    types["Label"] = closed(types["Label"])
    return types | {
        "PaymentByCardNumber": _by_number(types["Transaction"], "PaymentByCardNumber"),
        "LabelByCardNumber": _by_number(types["Label"], "LabelByCardNumber"),
    }


def _by_number(schema: Schema, title: str) -> Schema:
    properties = {name: value for name, value in schema["properties"].items() if name != "card_id"}
    by_number = {
        "card_number": {"type": "string", "description": "12 to 19 digits; spaces and hyphens do not matter"},
        "card_key": {"type": "string", "description": "id of the key that makes the token; where not given, the first"},
    }
    return {
        **schema,
        "title": title,
        "description": "The same where AEGIS_CARD_KEY is set: the card number becomes a token here, and goes no further.",
        "required": [*(name for name in schema["required"] if name != "card_id"), "card_number"],
        "properties": properties | by_number,
    }
