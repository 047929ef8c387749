"""Payments in, decisions out; in our own shape, and in those that others' clients send."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import Struct

from aegis_app.core.answer import Answer
from aegis_app.core.payment import Transaction
from aegis_app.gateway.answers import checked, predicted
from aegis_app.gateway.desk import Desk
from aegis_app.gateway.guard import LARGEST_BATCH, LARGEST_BODY, body
from aegis_app.gateway.problems import Problem, ProblemDetails
from aegis_app.gateway.routes import desk, json
from aegis_app.gateway.schema import (
    EXAMPLE_ANSWER,
    EXAMPLE_FLAT,
    EXAMPLE_PAYMENT,
    FLAT,
    FLAT_OF_CARD,
    MOST,
    PAYMENT,
    answers,
    array,
    closed,
    record,
    ref,
    takes,
)
from aegis_app.gateway.unknown import check_fields, check_query
from aegis_app.keys import Key, Scope

DEADLINE: Final = "aegis-deadline-ms"
LONGEST_MS: Final = 60_000
MOST_EXPLAINED: Final = 50
"""Payments of a batch: to ask models why takes a worker half a millisecond each, in which it decides nothing else."""
router: Final = APIRouter()

_DEADLINE: Final = {
    "name": "Aegis-Deadline-Ms",
    "in": "header",
    "description": "longest wait for the decision; AEGIS_GATEWAY_DEADLINE_MS where not given",
    "schema": {"type": "integer", "minimum": 1, "maximum": LONGEST_MS},
}
_EXPLAIN: Final = {"name": "explain", "in": "query", "schema": {"type": "boolean"}, "description": "adds `explanation`"}
_KEY: Final[dict[str, Any]] = {"security": [{"key": []}]}


class _Batch(Struct, forbid_unknown_fields=True):
    transactions: list[msgspec.Raw]


def _route(schema: Any, example: Any, *parameters: Any) -> dict[str, Any]:
    return takes(schema, example) | _KEY | {"parameters": [_DEADLINE, *parameters]}


@router.post(
    "/v1/transactions",
    openapi_extra=_route(PAYMENT, EXAMPLE_PAYMENT, _EXPLAIN),
    responses=answers(ref("Answer"), 400, 408, 422, 503, example=EXAMPLE_ANSWER),
    tags=["payments"],
)
async def decide(request: Request) -> Response:
    """Have a payment decided. A repeat of a transaction_id gets the recorded decision.

    Past the deadline the answer is the fallback, and says so; the payment is decided all the same.
    """
    begun, at = asyncio.get_running_loop().time(), desk(request)
    key = at.guard.admit(request, Scope.SCORE)
    deadline, explain = _deadline(request, at), _explain(request)
    await at.guard.charge(key, 1)
    txn = at.payment(await body(request, LARGEST_BODY))
    (answer,) = await at.decide([txn], begun, deadline, explain=explain)
    return json(answer)


@router.post(
    "/v1/transactions/batch",
    openapi_extra=_route(closed(record(transactions=array(PAYMENT, 1))), {"transactions": [EXAMPLE_PAYMENT]}, _EXPLAIN),
    responses=answers(record(answers=array({"anyOf": [ref("Answer"), ref("ProblemDetails")]})), 400, 408, 422, 503),
    tags=["payments"],
)
async def decide_batch(request: Request) -> Response:
    """Have up to 1,000 payments decided, under one deadline; up to 50 with `explain`.

    Answers are in their order; one that cannot be taken gets its problem.
    """
    begun, at = asyncio.get_running_loop().time(), desk(request)
    key = at.guard.admit(request, Scope.SCORE)
    deadline, explain = _deadline(request, at), _explain(request)
    found = _elements(await body(request, LARGEST_BATCH))
    if explain and len(found) > MOST_EXPLAINED:
        raise Problem(422, f"a batch of {len(found):,} cannot be explained: at most {MOST_EXPLAINED}, or leave it out", "explain")
    await at.guard.charge(key, len(found))
    read = [_payment(at, raw, f"transactions[{place}]") for place, raw in enumerate(found)]
    decided = iter(await at.decide([each for each in read if isinstance(each, Transaction)], begun, deadline, explain=explain))
    return json({"answers": [next(decided) if isinstance(each, Transaction) else each for each in read]})


def _elements(value: bytes) -> list[msgspec.Raw]:
    try:
        found = msgspec.json.decode(value, type=_Batch).transactions
    except msgspec.ValidationError:
        check_fields(value, _Batch)
        raise Problem(422, "it is an array of payments", "transactions") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "the body is no JSON") from None
    if not 1 <= len(found) <= MOST:
        raise Problem(422, f"a batch holds 1 to {MOST:,} payments", "transactions")
    return found


def _payment(at: Desk, raw: msgspec.Raw, place: str) -> Transaction | ProblemDetails:
    try:
        return at.payment(bytes(raw))
    except Problem as problem:
        return problem.within(place).details()


@router.post(
    "/predict",
    openapi_extra=_route(FLAT, EXAMPLE_FLAT | {"V1": -1.36, "V2": 0.07}),
    responses=answers(ref("Predicted"), 400, 408, 422, 503),
    tags=["compatibility"],
)
async def predict(request: Request) -> Response:
    """For clients that send one flat object with numeric features; without a card the payment is judged alone. The same path, and the same
    meaning of `action`."""
    txn, answer, _ = await _flat(request, alone=True)
    return json(predicted(answer, desk(request).mode(answer), alone=txn.card_id == txn.transaction_id))


@router.post(
    "/api/check-fraud",
    openapi_extra=_route(FLAT_OF_CARD, EXAMPLE_FLAT),
    responses=answers(ref("Checked"), 400, 408, 422, 503),
    tags=["compatibility"],
)
async def check_fraud(request: Request) -> Response:
    """For clients that send a user and an amount in whole units. The same path, and the same meaning of `action`."""
    _, answer, begun = await _flat(request, alone=False)
    return json(checked(answer, desk(request).mode(answer), perf_counter() - begun))


async def _flat(request: Request, *, alone: bool) -> tuple[Transaction, Answer, float]:
    """The payment, the answer, and when the request came, by `perf_counter`."""
    begun, clock, at = asyncio.get_running_loop().time(), perf_counter(), desk(request)
    key: Key = at.guard.admit(request, Scope.SCORE)
    check_query(request)
    deadline = _deadline(request, at)
    await at.guard.charge(key, 1)
    txn = at.flat(await body(request, LARGEST_BODY), alone=alone)
    (answer,) = await at.decide([txn], begun, deadline)
    return txn, answer, clock


PLAIN: Final[Mapping[str, Callable[[Request], Awaitable[Response]]]] = {
    "/v1/transactions": decide,
    "/v1/transactions/batch": decide_batch,
    "/predict": predict,
    "/api/check-fraud": check_fraud,
}
"""The same routes for a router that looks at nothing but the path: FastAPI's way to a function costs as much as all that these do, and
they read requests themselves. What it declares of them above is for openapi.json."""


def _deadline(request: Request, at: Desk) -> int:
    given = request.headers.get(DEADLINE)
    if given is None:
        return at.settings.gateway_deadline_ms
    if not (given.isascii() and given.isdecimal() and len(given) < 10 and 1 <= int(given) <= LONGEST_MS):
        raise Problem(422, f"it is a number of milliseconds from 1 to {LONGEST_MS:,}", "Aegis-Deadline-Ms")
    return int(given)


def _explain(request: Request) -> bool:
    check_query(request, "explain")
    given = request.query_params.get("explain", "false").lower()
    if given not in {"true", "false"}:
        raise Problem(422, "it is `true` or `false`", "explain")
    return given == "true"
