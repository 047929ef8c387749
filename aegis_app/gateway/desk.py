"""What requests share: the way to Kafka and back, keys, the policy in force, the ledger, and the workers."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any, Final, NamedTuple, TypeVar
from uuid import uuid4

import httpx
import msgspec
from msgspec import Struct
from sqlalchemy import Engine

from aegis_app.broadcast import Broadcast
from aegis_app.card_numbers import CardNumberError, CardNumbers
from aegis_app.core.adapter import Unfit, adapt, check_number, left_out, read_flat
from aegis_app.core.answer import Answer
from aegis_app.core.fields import unknown_fields
from aegis_app.core.intake import Refused, check_time, holds_card_number, read_label_value, read_value
from aegis_app.core.label import Label, encode_label
from aegis_app.core.payment import Millis, Outcome, Transaction, encode_transaction
from aegis_app.core.policy import Mode
from aegis_app.gateway import metrics
from aegis_app.gateway.answers import Answers, encode, fallback
from aegis_app.gateway.exchange import BusyError, Exchange, Ticket
from aegis_app.gateway.guard import Guard
from aegis_app.gateway.problems import Problem, refused, unfit
from aegis_app.gateway.unknown import check_fields
from aegis_app.ledger.database import LedgerError, NotMigratedError, connect, ledger_url
from aegis_app.ledger.migrating import check_is_migrated
from aegis_app.policies import InForce, Policies, local_policy
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outgoing
from aegis_app.topics import EXPLAIN, Name
from aegis_app.unknown import Unknown

BEHIND_SECONDS: Final = 10.0
"""Of a Kafka that has not answered for so long, the gateway says that it is not ready."""
LABEL_SECONDS: Final = 10.0
WORKER_SECONDS: Final = 3.0

T = TypeVar("T")
log = logging.getLogger(__name__)


class Told(NamedTuple):
    """What a worker answered."""

    status: int
    answer: Any


class Desk:
    """Made once a process, started before the first request."""

    def __init__(self, settings: Settings) -> None:
        """Raises `SettingsError`, `PolicyError`."""
        self.settings = settings
        self.guard = Guard(settings)
        self.card_numbers = CardNumbers.of(settings)
        self.answers = Answers(settings.review_action)
        self.exchange = Exchange(settings)
        self._unknown = Unknown(metrics.UNKNOWN_FIELDS)
        self._otherwise = local_policy(settings)
        self._policies = Broadcast(settings, Name.POLICIES, Policies)
        self._following: asyncio.Task[None] | None = None
        self._engine: Engine | None = None
        headers = {"Authorization": f"Bearer {settings.web_token}"} if settings.web_token else {}
        self._workers = httpx.AsyncClient(timeout=WORKER_SECONDS, headers=headers, trust_env=False)

    async def start(self) -> None:
        """Raises `MissingTopicError`, and what aiokafka raises."""
        await self._policies.load()
        self._following = asyncio.create_task(self._policies.follow())
        await self.exchange.start()

    async def stop(self) -> None:
        await self.exchange.stop()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            await self._policies.stop()
        await self._workers.aclose()
        if self._engine is not None:
            self._engine.dispose()

    @property
    def in_force(self) -> InForce:
        """The policy."""
        latest = self._policies.held.latest
        return self._otherwise if latest is None else latest

    def waits_for(self) -> list[str]:
        """Why no payments are taken here; empty while they are."""
        self.exchange.check()
        age = self._policies.age
        return [f"Kafka has not answered for {age:.0f} s"] if age > BEHIND_SECONDS else []

    async def decide(self, payments: Sequence[Transaction], begun: float, deadline_ms: int, *, explain: bool = False) -> list[Answer]:
        """Each payment's answer, by `deadline_ms` after `begun`, in the loop's time. Raises `Problem`."""
        headers = [(EXPLAIN, b"")] if explain else []
        records = [(txn.transaction_id, Outgoing(txn.card_id.encode(), encode_transaction(txn), headers)) for txn in payments]
        try:
            tickets = await self.exchange.decide(records, begun + deadline_ms / 1000)
        except BusyError:
            raise busy() from None
        return [self._answer(txn, ticket, deadline_ms, explain=explain) for txn, ticket in zip(payments, tickets, strict=True)]

    def _answer(self, txn: Transaction, ticket: Ticket, deadline_ms: int, *, explain: bool) -> Answer:
        if ticket.decision is not None:
            answer = self.answers.decided(ticket.decision, ticket.source, explain=explain)
        else:
            outcome = self._fallback()
            answer = self.answers.fallback(txn.transaction_id, outcome, ticket.source, deadline_ms)
            self.exchange.fell_back(
                ticket, outcome, Outgoing(txn.card_id.encode(), encode(fallback(txn, answer, datetime.now(UTC), deadline_ms)))
            )
        metrics.ANSWERS.labels(answer.outcome, str(answer.fallback).lower()).inc()
        return answer

    def _fallback(self) -> Outcome:
        if self.settings.gateway_fallback is not None:
            return Outcome(self.settings.gateway_fallback)
        return Outcome.REVIEW if self.in_force.policy.enforces else Outcome.ALLOW

    def mode(self, answer: Answer) -> Mode | None:
        """Of the policy that made `answer`; `None` where that is not the one in force here."""
        policy = self.in_force.policy
        return policy.mode if answer.fallback or answer.policy == policy.version else None

    async def label(self, labels: Sequence[Label]) -> None:
        """Have Kafka hold all of `labels`. Raises `Problem`."""
        records = [Outgoing(label.card_id.encode(), encode_label(label)) for label in labels]
        try:
            held = await self.exchange.label(records, LABEL_SECONDS)
        except BusyError:
            raise busy() from None
        if not held:
            raise Problem(503, "Kafka did not acknowledge in time; send the same again, labels may be repeated", Retry_After="5")

    def payment(self, value: bytes) -> Transaction:
        """Read a payment as a worker would. Raises `Problem`."""
        try:
            known = self._with_token(value)
            txn = read_value(known, token=self.settings.card_id_is_token)
            check_time("timestamp", txn.at, now())
            for name, number in txn.attributes.items():
                check_number(f"attributes.{name}", int(number))
        except Refused as error:
            raise refused(error) from None
        except Unfit as error:
            raise unfit(error) from None
        self._unknown.count(unknown_fields(known))
        return txn

    def flat(self, value: bytes, *, alone: bool) -> Transaction:
        """Read a payment of another system's shape; `alone`, as for `adapt`. Raises `Problem`."""
        settings = self.settings
        try:
            fields = read_flat(value)
            if "card_number" in fields:
                fields["card_id"] = self._token(fields.pop("card_number"), fields.pop("card_key", None))
            moment = datetime.now(UTC)
            token = settings.card_id_is_token
            txn = adapt(fields, currency=settings.base_currency, new_id=new_id, now=moment, token=token, alone=alone)
            check_time("timestamp", txn.at, now())
        except Refused as error:
            raise refused(error) from None
        except Unfit as error:
            raise unfit(error) from None
        self._unknown.count(left_out(fields))
        return txn

    def labelled(self, value: bytes) -> Label:
        """Read a label as a worker would, but for fields that there are not. Raises `Problem`."""
        check_fields(value, Label, *_CardNumber.__struct_fields__)
        try:
            label = read_label_value(self._with_token(value), token=self.settings.card_id_is_token)
            check_time("labelled_at", label.known_at, now())
        except Refused as error:
            raise refused(error) from None
        check_words("note", label.note)
        check_words("labelled_by", label.labelled_by)
        return label

    def _with_token(self, value: bytes) -> bytes:
        """A JSON object whose `card_number`, if it has one, has become its `card_id`. Raises `Problem`."""
        if b"card_number" not in value:
            return value
        try:
            fields = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
            numbers = msgspec.json.decode(value, type=_CardNumber)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Problem(422, "card_number and card_key are texts", "card_number") from None
        if numbers.card_number is not None:
            token = self._token(numbers.card_number, numbers.card_key)
            fields = {name: raw for name, raw in fields.items() if name not in _CardNumber.__struct_fields__}
            fields["card_id"] = msgspec.Raw(msgspec.json.encode(token))
        return msgspec.json.encode(fields)

    def _token(self, number: object, key: object) -> str:
        """The token of a card number. Raises `Problem`."""
        try:
            return self.card_numbers.token(str(number), None if key is None else str(key))
        except CardNumberError as error:
            raise Problem(422, str(error), "card_number") from None

    async def ledger(self, ask: Callable[[Engine], T]) -> T:
        """Ask the ledger, in a thread. Raises `Problem` (503)."""
        try:
            if self._engine is None:
                self._engine = await asyncio.to_thread(_opened, self.settings)
            return await asyncio.to_thread(ask, self._engine)
        except LedgerError as error:
            log.error("%s", error)
            why = "it wants `aegis ledger migrate`" if isinstance(error, NotMigratedError) else "the gateway's log says why"
            raise Problem(503, f"the ledger cannot be read now; {why}", Retry_After="5") from None

    async def worker(self, path: str) -> Told:
        """What the first worker that answers says at `path`. Raises `Problem` (503)."""
        for address in self.settings.workers.split(","):
            try:
                answer = await self._workers.get(address.strip().rstrip("/") + path)
            except httpx.HTTPError:
                continue
            is_json = answer.headers.get("content-type", "").startswith("application/json")
            told = Told(answer.status_code, answer.json() if is_json else None)
            if told.status < 500 and told.status != 401:
                return told
        raise Problem(503, "no worker of AEGIS_WORKERS answers; one may be starting, or wants another AEGIS_WEB_TOKEN", Retry_After="5")


class _CardNumber(Struct, frozen=True):
    card_number: str | None = None
    card_key: str | None = None


def _opened(settings: Settings) -> Engine:
    """The ledger, if it is there and of our schema. Raises `LedgerError`."""
    url = ledger_url(settings)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise NotMigratedError(f"there is no ledger at {url.database}: set AEGIS_LEDGER, run `aegis ledger migrate` and `aegis ledger run`")
    engine = connect(settings, name="aegis-gateway")
    try:
        check_is_migrated(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def new_id() -> str:
    """Of a payment that came without one."""
    return uuid4().hex


def now() -> Millis:
    """When a record sent now is written."""
    return int(time() * 1000)


def check_words(field: str, words: str | None) -> None:
    """Raise `Problem` where free text holds a card number."""
    if words is not None and holds_card_number(words):
        raise Problem(422, "it holds a card number; name its token", field)


def busy() -> Problem:
    """As much is in hand as may be."""
    return Problem(503, "too much is in hand already; try again", Retry_After="1")
