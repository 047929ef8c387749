"""What the ledger holds, and what is said about it: decisions, cards, verdicts, labels."""

import csv
import io
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote, urlencode

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from msgspec import Meta, Struct

from aegis_app.core.label import Label, Source
from aegis_app.core.payment import Outcome, looks_like_card_number
from aegis_app.gateway.desk import Desk, check_words
from aegis_app.gateway.guard import LARGEST_BATCH, LARGEST_BODY, admitted, body
from aegis_app.gateway.problems import Problem
from aegis_app.gateway.routes import desk, json
from aegis_app.gateway.schema import (
    ENTRY,
    EXAMPLE_LABEL,
    JUDGEMENT,
    LABELS,
    MOST,
    OBJECT,
    TEXT,
    answers,
    array,
    nullable,
    record,
    ref,
    takes,
)
from aegis_app.gateway.unknown import check_fields
from aegis_app.keys import Key, Scope
from aegis_app.ledger import queries
from aegis_app.ledger.queries import Entry, Place, Wanted

COLUMNS: Final = (
    "transaction_id",
    "card_id",
    "timestamp",
    "amount_minor",
    "currency",
    "merchant_id",
    "kind",
    "channel",
    "country",
    "outcome",
    "verdict",
    "score",
    "rules",
    "decided_at",
)
CSV: Final = "text/csv"
HISTORY: Final = 100
"""Payments of a card."""
router: Final = APIRouter()
_KEY: Final[dict[str, Any]] = {"security": [{"key": []}]}
Reader = Annotated[Key, Depends(admitted(Scope.READ))]
Payer = Annotated[Key, Depends(admitted(Scope.READ, Scope.SCORE))]
Judge = Annotated[Key, Depends(admitted(Scope.LABEL))]
Text = Annotated[str | None, Query(min_length=1, max_length=64)]


class _Judgement(Struct, frozen=True):
    is_fraud: bool
    fraud_type: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    note: Annotated[str, Meta(max_length=1000)] | None = None
    by: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    card_id: str | None = None


@router.get(
    "/v1/decisions",
    openapi_extra=_KEY,
    responses=answers(record(decisions=array(ENTRY), next=nullable(TEXT)), 422, 503, more={CSV: {"schema": TEXT}}),
    tags=["ledger"],
)
async def decisions(
    request: Request,
    key: Reader,
    outcome: Outcome | None = None,
    verdict: Outcome | None = None,
    card: Text = None,
    merchant: Text = None,
    rule: Text = None,
    reviewed: Annotated[bool | None, Query(description="whether anybody said what it turned out to be")] = None,
    since: Annotated[datetime | None, Query(description="payments of then and later, by their own time")] = None,
    until: Annotated[datetime | None, Query(description="payments before")] = None,
    after: Annotated[str | None, Query(max_length=1000, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    format: Literal["json", "csv"] = "json",
) -> Response:
    """Decisions, the newest payment first, a page at a time. `format=csv` has the next page in its `Link` header."""
    _check_card("card", card)
    wanted = Wanted(
        outcome=outcome,
        verdict=verdict,
        card_id=card,
        merchant_id=merchant,
        rule=rule,
        reviewed=reviewed,
        since=_utc(since),
        until=_utc(until),
    )
    page = await desk(request).ledger(partial(queries.page, wanted=wanted, after=_place(after), limit=limit))
    following = None if page.next is None else page.next.encode()
    if format == "json":
        return json({"decisions": page.entries, "next": following})
    again = urlencode(
        [*((name, value) for name, value in request.query_params.multi_items() if name != "after"), ("after", following or "")]
    )
    link = {} if following is None else {"Link": f'</v1/decisions?{again}>; rel="next"'}
    return Response(_csv(page.entries), media_type=CSV, headers=link)


@router.get(
    "/v1/decisions/{transaction_id:path}",
    openapi_extra=_KEY,
    responses=answers(ENTRY, 404, 409, 422, 503),
    tags=["ledger"],
)
async def decision(request: Request, key: Payer, transaction_id: str, card: Text = None) -> Response:
    """The decision of one payment, and what it turned out to be. `card` says which where several came with this id."""
    return json(await _one(desk(request), transaction_id, card, "card"))


@router.post(
    "/v1/decisions/{transaction_id:path}/verdict",
    openapi_extra=_KEY | takes(JUDGEMENT, {"is_fraud": True, "note": "the customer did not make it", "by": "ana"}),
    responses=answers(ref("Label"), 400, 404, 408, 409, 422, 503),
    tags=["labels"],
)
async def verdict(request: Request, key: Judge, transaction_id: str) -> Response:
    """Close a review: what an analyst found becomes a label, which the card and its merchant learn. Answers with that label."""
    at = desk(request)
    judged = _judgement(await body(request, LARGEST_BODY))
    check_words("note", judged.note)
    check_words("by", judged.by)
    about = (await _one(at, transaction_id, judged.card_id, "card_id")).decision
    label = Label(
        transaction_id=about.transaction_id,
        card_id=about.card_id,
        merchant_id=about.merchant_id,
        timestamp=about.timestamp,
        is_fraud=judged.is_fraud,
        fraud_type=judged.fraud_type,
        labelled_at=max(datetime.now(UTC), about.timestamp),
        source=Source.ANALYST,
        labelled_by=judged.by or key.name,
        note=judged.note,
        amount_minor=about.amount_minor,
        currency=about.currency,
        device_id=about.device_id,
        country=about.country,
    )
    await at.label([label])
    return json(label)


@router.post(
    "/v1/labels",
    openapi_extra=_KEY | takes(LABELS, [EXAMPLE_LABEL]),
    responses=answers(record(accepted={"type": "integer"}), 400, 408, 422, 503),
    tags=["labels"],
)
async def labels(request: Request, key: Judge) -> Response:
    """Take in one label, or an array of up to 1,000: all of them, or none where one cannot be taken. They may be repeated."""
    at = desk(request)
    value = await body(request, LARGEST_BATCH)
    found = _several(value)
    if found is None:
        read = [at.labelled(value)]
    else:
        await at.guard.charge(key, len(found) - 1)
        read = [_labelled(at, raw, place) for place, raw in enumerate(found)]
    await at.label(read)
    return json({"accepted": len(read)})


@router.get(
    "/v1/cards/{card_id:path}",
    openapi_extra=_KEY,
    responses=answers(
        record(card_id=TEXT, memory=nullable(OBJECT), history=nullable(array(ENTRY)), history_missing=nullable(TEXT)), 404, 422, 503
    ),
    tags=["ledger"],
)
async def card(request: Request, key: Reader, card_id: str) -> Response:
    """What the worker that holds it remembers of a card (null for nothing), and its latest 100 payments of the ledger.

    `history` is null, and `history_missing` says why, where the ledger cannot be read.
    """
    at = desk(request)
    _check_card("card_id", card_id)
    told = await at.worker(f"/cards/{quote(card_id, safe='')}")
    memory = told.answer if told.status == 200 else None
    history, missing = None, None
    try:
        history = (await at.ledger(partial(queries.page, wanted=Wanted(card_id=card_id), limit=HISTORY))).entries
    except Problem as problem:
        if memory is None:
            raise
        missing = problem.detail
    if memory is None and not history:
        raise Problem(404, "nothing is known of this card")
    return json({"card_id": card_id, "memory": memory, "history": history, "history_missing": missing})


async def _one(at: Desk, transaction_id: str, card_id: str | None, field: str) -> Entry:
    """`field` is where the request may say `card_id`."""
    _check_card(field, card_id)
    found = await at.ledger(partial(queries.find, transaction_id=transaction_id, card_id=card_id))
    if not found:
        raise Problem(404, "the ledger holds no decision of this transaction_id; it is some seconds behind at times")
    if len(found) > 1:
        raise Problem(409, "several cards came with this transaction_id: say which card", field)
    return found[0]


def _check_card(field: str, card_id: str | None) -> None:
    if card_id is not None and looks_like_card_number(card_id):
        raise Problem(422, "this looks like a card number; ask for its token", field)


def _utc(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def _place(after: str | None) -> Place | None:
    try:
        return None if after is None else Place.decode(after)
    except ValueError as error:
        raise Problem(422, str(error), "after") from None


def _judgement(value: bytes) -> _Judgement:
    check_fields(value, _Judgement)
    try:
        return msgspec.json.decode(value, type=_Judgement)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$.")
        raise Problem(422, said, place.rstrip("`") or None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "the body is no JSON") from None


def _several(value: bytes) -> list[msgspec.Raw] | None:
    """The elements of an array; `None` where it is none."""
    if not value.lstrip().startswith(b"["):
        return None
    try:
        found = msgspec.json.decode(value, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "the body is no JSON") from None
    if not 1 <= len(found) <= MOST:
        raise Problem(422, f"1 to {MOST:,} labels at once")
    return found


def _labelled(at: Desk, raw: msgspec.Raw, place: int) -> Label:
    try:
        return at.labelled(bytes(raw))
    except Problem as problem:
        raise problem.within(f"[{place}]") from None


def _csv(entries: list[Entry]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*COLUMNS, "is_fraud", "labelled_by", "fallback"])
    for entry in entries:
        known = ("", "") if entry.known is None else (entry.known.is_fraud, entry.known.labelled_by)
        answered = None if entry.fallback is None else entry.fallback.outcome
        writer.writerow([*(_cell(getattr(entry.decision, name)) for name in COLUMNS), *map(_cell, (*known, answered))])
    return out.getvalue()


def _cell(value: Any) -> str:
    """Text that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, list):
        value = " ".join(map(str, value))
    text = value.isoformat() if isinstance(value, datetime) else str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text}" if text[:1] in {"=", "+", "@", "\t", "\r"} or (text[:1] == "-" and isinstance(value, str)) else text
