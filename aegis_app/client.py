"""A client of the gateway: `Client`, and `AsyncClient` with the same methods to await. Wants the extra `gateway`.

Everything it sends is safe to repeat, because a payment is known by its transaction_id and a label by what it says. So what fails on the
way, or is told to come later (429, 502, 503, 504), is tried again, each time after a longer pause; with a deadline, no longer than that.

    with Client("http://127.0.0.1:8080", key) as aegis:
        answer = aegis.decide(payment, deadline_ms=150)
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, Final, Generic, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import stamina
from msgspec import Struct

from aegis_app.core.answer import Answer
from aegis_app.core.label import Label
from aegis_app.core.payment import Transaction

T = TypeVar("T")
Json = dict[str, Any]
ATTEMPTS: Final = 4
SECONDS: Final = 10.0
"""For an answer."""
DEADLINE: Final = "Aegis-Deadline-Ms"
GRACE_SECONDS: Final = 1.0
"""For the answer to a payment, past its deadline."""
LEDGER_SECONDS: Final = 1.0
"""After which a decision that the ledger does not hold is looked for again; then twice and four times as long."""
logging.getLogger("stamina").addHandler(logging.NullHandler())  # attempts are for who keeps a log; nobody else has them printed
_LATER: Final = frozenset({429, 502, 503, 504})


class Fault(Struct, frozen=True):
    """What is wrong with one field."""

    field: str
    detail: str


class AegisError(Exception):
    """The gateway refused, or did not answer."""

    def __init__(self, status: int | None, detail: str, errors: Sequence[Fault] = ()) -> None:
        super().__init__(detail if status is None else f"{status}: {detail}")
        self.status = status
        """`None` where it did not answer."""
        self.detail = detail
        self.errors = errors


class Refusal(Struct, frozen=True):
    """Why one payment of a batch was not taken."""

    status: int
    detail: str
    errors: list[Fault] = []


class Call(Struct, Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[bytes], T]
    content: bytes | None = None
    params: Mapping[str, str] = {}
    seconds: float = SECONDS
    """For which an answer is waited for, where there is no `patience`."""
    patience: float | None = None
    """Seconds for all attempts together; `None` for as long as they take."""
    is_behind: bool = False
    """Whether what is not there (404) may come: the ledger is some seconds behind."""


class Client:
    """Talks to one gateway, or to what stands before several; close it, or use it in a `with` block. All its methods raise `AegisError`;
    an address without http://, or an empty key, is a `ValueError`.

    `attempts`: how often a request is sent, the first time included; 1 for no second time.
    """

    def __init__(self, url: str, key: str, *, attempts: int = ATTEMPTS) -> None:
        self._http = httpx.Client(base_url=_checked(url), headers=_headers(key))
        self._attempts = attempts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def decide(self, txn: Transaction, *, explain: bool = False, deadline_ms: int | None = None) -> Answer:
        """The decision on a payment; past the deadline the fallback, which says so. A gateway that is away is given up by then, and one
        that is silent a second later."""
        return self._send(_decide(txn, explain, deadline_ms))

    def decide_many(
        self, payments: Sequence[Transaction], *, explain: bool = False, deadline_ms: int | None = None
    ) -> list[Answer | Refusal]:
        """Those of up to 1,000 payments, or 50 with `explain`, in their order."""
        return self._send(_decide_many(payments, explain, deadline_ms))

    def label(self, *labels: Label) -> int:
        """Say what payments turned out to be: 1 to 1,000 labels, all or none. Returns how many were accepted."""
        return self._send(_label(labels))

    def judge(self, transaction_id: str, *, is_fraud: bool, note: str | None = None, by: str | None = None) -> Label:
        """Close a review; returns the label that it became. Waits for the ledger, which hears of a decision some seconds later."""
        return self._send(_judge(transaction_id, is_fraud, note, by))

    def decision(self, transaction_id: str, *, card: str | None = None) -> Json:
        """What the ledger holds of a payment: `decision`, `base_minor`, `known`."""
        return self._send(_get(f"/v1/decisions/{quote(transaction_id, safe='')}", card=card))

    def decisions(self, **wanted: str) -> Iterator[Json]:
        """All that the ledger holds, the newest first; narrowed as `GET /v1/decisions` says."""
        after: str | None = None
        while True:
            page = self._send(_get("/v1/decisions", **wanted, after=after))
            yield from page["decisions"]
            after = page["next"]
            if after is None:
                return

    def card(self, card_id: str) -> Json:
        """What is remembered of a card (`memory`), and its latest payments (`history`)."""
        return self._send(_get(f"/v1/cards/{quote(card_id, safe='')}"))

    def rules(self) -> Json:
        """The policy in force."""
        return self._send(_get("/v1/rules"))

    def _send(self, call: Call[T]) -> T:
        begun = monotonic()
        try:
            for attempt in _attempts(call, self._attempts):
                with attempt:
                    return _read(call, self._http.request(call.method, call.path, **_arguments(call, begun)))
        except httpx.HTTPError as error:
            raise _away(error) from error
        raise AssertionError("a retry ends by an answer or an error")


class AsyncClient:
    """The same, to await; use it in an `async with` block."""

    def __init__(self, url: str, key: str, *, attempts: int = ATTEMPTS) -> None:
        self._http = httpx.AsyncClient(base_url=_checked(url), headers=_headers(key))
        self._attempts = attempts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def decide(self, txn: Transaction, *, explain: bool = False, deadline_ms: int | None = None) -> Answer:
        """See `Client`, as with all methods here."""
        return await self._send(_decide(txn, explain, deadline_ms))

    async def decide_many(
        self, payments: Sequence[Transaction], *, explain: bool = False, deadline_ms: int | None = None
    ) -> list[Answer | Refusal]:
        return await self._send(_decide_many(payments, explain, deadline_ms))

    async def label(self, *labels: Label) -> int:
        return await self._send(_label(labels))

    async def judge(self, transaction_id: str, *, is_fraud: bool, note: str | None = None, by: str | None = None) -> Label:
        return await self._send(_judge(transaction_id, is_fraud, note, by))

    async def decision(self, transaction_id: str, *, card: str | None = None) -> Json:
        return await self._send(_get(f"/v1/decisions/{quote(transaction_id, safe='')}", card=card))

    async def decisions(self, **wanted: str) -> AsyncIterator[Json]:
        after: str | None = None
        while True:
            page = await self._send(_get("/v1/decisions", **wanted, after=after))
            for entry in page["decisions"]:
                yield entry
            after = page["next"]
            if after is None:
                return

    async def card(self, card_id: str) -> Json:
        return await self._send(_get(f"/v1/cards/{quote(card_id, safe='')}"))

    async def rules(self) -> Json:
        return await self._send(_get("/v1/rules"))

    async def _send(self, call: Call[T]) -> T:
        begun = monotonic()
        try:
            async for attempt in _attempts(call, self._attempts):
                with attempt:
                    return _read(call, await self._http.request(call.method, call.path, **_arguments(call, begun)))
        except httpx.HTTPError as error:
            raise _away(error) from error
        raise AssertionError("a retry ends by an answer or an error")


def _decide(txn: Transaction, explain: bool, deadline_ms: int | None) -> Call[Answer]:
    read = msgspec.json.Decoder(Answer).decode
    return _payments("/v1/transactions", msgspec.json.encode(txn), read, explain, deadline_ms)


def _decide_many(payments: Sequence[Transaction], explain: bool, deadline_ms: int | None) -> Call[list[Answer | Refusal]]:
    content = msgspec.json.encode({"transactions": payments})
    return _payments("/v1/transactions/batch", content, _read_batch, explain, deadline_ms)


def _payments(path: str, content: bytes, read: Callable[[bytes], T], explain: bool, deadline_ms: int | None) -> Call[T]:
    patience = None if deadline_ms is None else deadline_ms / 1000
    return Call("POST", path, read, content, {"explain": "true"} if explain else {}, SECONDS + 60, patience)


def _label(labels: Sequence[Label]) -> Call[int]:
    return Call("POST", "/v1/labels", lambda value: int(msgspec.json.decode(value)["accepted"]), msgspec.json.encode(labels))


def _judge(transaction_id: str, is_fraud: bool, note: str | None, by: str | None) -> Call[Label]:
    said = {"is_fraud": is_fraud, "note": note, "by": by}
    path = f"/v1/decisions/{quote(transaction_id, safe='')}/verdict"
    return Call("POST", path, msgspec.json.Decoder(Label).decode, msgspec.json.encode(said), is_behind=True)


def _get(path: str, **params: str | None) -> Call[Json]:
    given = {name: value for name, value in params.items() if value is not None}
    return Call("GET", path, msgspec.json.Decoder(Json).decode, params=given)


def _read_batch(value: bytes) -> list[Answer | Refusal]:
    answers: list[Json] = msgspec.json.decode(value)["answers"]
    return [msgspec.convert(each, Refusal) if "status" in each else msgspec.convert(each, Answer) for each in answers]


def _checked(url: str) -> str:
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"the address of the gateway is {url!r}: it begins with http:// or https://")
    return url


def _headers(key: str) -> dict[str, str]:
    if not key.strip():
        raise ValueError("the key is empty: `aegis keys create` makes one")
    return {"Authorization": f"Bearer {key}"}


def _arguments(call: Call[Any], begun: float) -> dict[str, Any]:
    """Of an attempt now, where the first was at `begun`: the deadline is that of all together."""
    headers, seconds = dict[str, str](), call.seconds
    if call.patience is not None:
        left = max(0.001, call.patience - (monotonic() - begun))
        headers[DEADLINE], seconds = str(max(1, int(left * 1000))), left + GRACE_SECONDS
    return {"content": call.content, "params": dict(call.params), "headers": headers, "timeout": seconds}


def _read(call: Call[T], answer: httpx.Response) -> T:
    if answer.is_success:
        return call.read(answer.content)
    try:
        problem = msgspec.json.decode(answer.content, type=Refusal)
    except msgspec.DecodeError:  # of what stands before the gateway
        problem = Refusal(answer.status_code, answer.reason_phrase)
    raise AegisError(answer.status_code, problem.detail, problem.errors)


def _attempts(call: Call[Any], attempts: int) -> Any:
    """With a deadline they all come before it, after pauses of an eighth to a quarter of it."""
    if call.is_behind:
        return stamina.retry_context(on=_may_come, attempts=attempts, timeout=SECONDS, wait_initial=LEDGER_SECONDS)
    if call.patience is None:
        return stamina.retry_context(on=_is_worth_another, attempts=attempts, timeout=None)
    part = call.patience / 8
    return stamina.retry_context(
        on=_is_worth_another, attempts=attempts, timeout=call.patience * 3 / 4, wait_initial=part, wait_jitter=part, wait_max=2 * part
    )


def _is_worth_another(error: Exception) -> bool:
    return isinstance(error, httpx.TransportError) or (isinstance(error, AegisError) and error.status in _LATER)


def _may_come(error: Exception) -> bool:
    return _is_worth_another(error) or (isinstance(error, AegisError) and error.status == 404)


def _away(error: httpx.HTTPError) -> AegisError:
    return AegisError(None, f"the gateway does not answer: {type(error).__name__}")
