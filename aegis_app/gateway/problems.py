"""What goes wrong, in one shape: RFC 9457, with the field at fault."""

import re
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from msgspec import Meta, Struct
from starlette.exceptions import HTTPException

from aegis_app.core.adapter import Unfit
from aegis_app.core.intake import Reason, Refused, hide_text

MEDIA: Final = "application/problem+json"


class Fault(Struct, frozen=True):
    """What is wrong with one field."""

    field: Annotated[str, Meta(description="its name; in an array behind its place, as `[3].amount_minor`")]
    detail: str


class ProblemDetails(Struct, frozen=True, omit_defaults=True):
    """RFC 9457."""

    type: Annotated[str, Meta(description="names the kind of problem: `urn:aegis:problem:…`")]
    title: str
    status: int
    detail: str
    errors: Annotated[list[Fault], Meta(description="fields at fault")] = []


TITLES: Final = {
    400: "The request cannot be read",
    401: "No valid key",
    403: "The key is not good for this",
    404: "There is no such thing",
    405: "This cannot be done here",
    408: "The request took too long to arrive",
    409: "The request does not say which",
    413: "The request is too large",
    422: "The request cannot be taken",
    429: "Too many requests of this key",
    500: "Something is wrong with the gateway",
    503: "This cannot be done now",
}


class Problem(Exception):
    """Answered as it stands. Its text never holds a card number."""

    def __init__(self, status: int, detail: str, field: str | None = None, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = headers

    def details(self) -> ProblemDetails:
        name = HTTPStatus(self.status).phrase.lower().replace(" ", "-")
        title = TITLES.get(self.status, HTTPStatus(self.status).phrase)
        errors = [] if self.field is None else [Fault(self.field, self.detail)]
        return ProblemDetails(f"urn:aegis:problem:{name}", title, self.status, self.detail, errors)

    def response(self) -> Response:
        headers = {name.replace("_", "-"): value for name, value in self.headers.items()}
        return Response(msgspec.json.encode(self.details()), self.status, headers, MEDIA)

    def within(self, place: str) -> "Problem":
        """The same, of an element of an array."""
        return Problem(self.status, self.detail, place if self.field is None else f"{place}.{self.field}", **self.headers)


def refused(error: Refused) -> Problem:
    """What intake says, with the field that it names."""
    said, _, place = str(error).partition(" - at `$.")
    missing = _MISSING.search(said)
    names = (place.rstrip("`"), "" if missing is None else missing[1])
    field = ".".join(filter(None, names)) or next((name for name in ("card_id", "timestamp", "labelled_at") if said.startswith(name)), None)
    return Problem(400 if error.reason in _UNREADABLE else 422, said, field)


_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_UNREADABLE: Final = (Reason.EMPTY, Reason.MALFORMED)


def unfit(error: Unfit) -> Problem:
    """What the adapter says."""
    return Problem(422, error.message, error.field)


def install(app: FastAPI) -> None:
    """Have everything that goes wrong answered in this shape."""

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()[0]
        field = ".".join(map(str, found["loc"][1:]))
        return Problem(422, hide_text(str(found["msg"])), field or None).response()

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return Problem(500, "nobody expected this; the gateway's log says what happened").response()

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        headers: dict[str, Any] = dict(error.headers or {})
        detail = {404: "there is nothing at this path; see /docs", 405: "this path has other methods; see /docs"}
        return Problem(error.status_code, detail.get(error.status_code, str(error.detail)), **headers).response()
