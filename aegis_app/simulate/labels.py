"""What people say about payments afterwards, and when: the labels of life, which are late, incomplete and at times wrong."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from heapq import heappop, heappush
from itertools import count
from math import exp, log
from random import Random
from typing import Final
from zlib import crc32

import msgspec
from msgspec import Struct

from aegis_app.core.label import Label, Source
from aegis_app.core.payment import Millis, Outcome
from aegis_app.simulate.arrivals import Labelled
from aegis_app.simulate.chance import normal, uniforms
from aegis_app.simulate.places import DAY_MS, HOUR_MS
from aegis_app.simulate.register import EPOCH

WRONG: Final = 0.03
"""Share of analysts' verdicts."""
NEVER_CLAIMED: Final = 0.05
"""Share of frauds that nobody notices, or claims."""
CLAIM_DAYS: Final = 25.0
"""The median from payment to chargeback."""
MOST_CLAIM_DAYS: Final = 120.0
"""What the networks give a holder; one chargeback in a hundred would come later, and comes then."""
_CLAIM_SPREAD: Final = log(MOST_CLAIM_DAYS / CLAIM_DAYS) / normal(0.99)
REVIEW_HOURS: Final = (0.2, 12.0)
"""How soon an analyst has looked at a payment."""
BLOCKED_SEEN: Final = 0.3
"""Share of blocked payments that an analyst looks at, because somebody called; nobody ever says what the others were."""
SUSPECTED: Final = {True: 0.3, False: 0.002}
"""Share of frauds, and of genuine payments, that the bank's people review where no decisions are given."""


class Desk:
    """Analysts and holders: sees payments in order of arrival, and says what is said about them in order of time.

    Memory grows with the frauds of four months.
    """

    def __init__(self, seed: int, stopped: dict[str, Outcome] | None = None) -> None:
        """`stopped` are the payments that were sent for review or blocked, by id; `None`: it is not known what was decided."""
        self._seed = seed
        self._stopped = None if stopped is None else dict(stopped)
        self._random = Random(f"suspicion {seed}")
        self._serial = count()
        self._pending: list[tuple[Millis, int, Label]] = []

    @property
    def unheard_of(self) -> int:
        """Payments that were stopped, but not seen so far."""
        return len(self._stopped) if self._stopped is not None else 0

    def until(self, at: Millis) -> Iterator[Label]:
        """What is said before `at`."""
        while self._pending and self._pending[0][0] < at:
            yield heappop(self._pending)[2]

    def rest(self) -> Iterator[Label]:
        """All that is still to be said."""
        while self._pending:
            yield heappop(self._pending)[2]

    def see(self, payment: Labelled) -> None:
        """Take note of a payment."""
        is_fraud, outcome = payment.fraud is not None, self._outcome(payment)
        if outcome is Outcome.ALLOW and not is_fraud:
            return
        mistake, review, seen, claim, days, *_ = uniforms(b"label", self._seed, crc32(payment.transaction.transaction_id.encode()))
        if outcome is Outcome.REVIEW or (outcome is Outcome.BLOCK and seen < BLOCKED_SEEN):
            soonest, latest = REVIEW_HOURS
            verdict = is_fraud is not (mistake < WRONG)
            self._say(payment, verdict, Source.ANALYST, (soonest + review * (latest - soonest)) * HOUR_MS)
            if verdict:
                return
        if is_fraud and outcome is not Outcome.BLOCK and claim >= NEVER_CLAIMED:
            after = min(CLAIM_DAYS * exp(_CLAIM_SPREAD * normal(days)), MOST_CLAIM_DAYS)
            self._say(payment, True, Source.CHARGEBACK, after * DAY_MS)

    def _outcome(self, payment: Labelled) -> Outcome:
        if self._stopped is not None:
            return self._stopped.pop(payment.transaction.transaction_id, Outcome.ALLOW)
        return Outcome.REVIEW if self._random.random() < SUSPECTED[payment.fraud is not None] else Outcome.ALLOW

    def _say(self, payment: Labelled, verdict: bool, source: Source, after_ms: float) -> None:
        txn, at = payment.transaction, payment.arrived + round(after_ms)
        label = Label(
            transaction_id=txn.transaction_id,
            card_id=txn.card_id,
            merchant_id=txn.merchant_id,
            timestamp=txn.timestamp,
            is_fraud=verdict,
            fraud_type=payment.fraud if verdict else None,  # none too where an analyst takes a genuine payment for fraud
            labelled_at=EPOCH + timedelta(milliseconds=at),
            source=source,
            amount_minor=txn.amount_minor,
            currency=txn.currency,
            device_id=txn.device_id,
            country=txn.country,
        )
        heappush(self._pending, (at, next(self._serial), label))


class _Decided(Struct, frozen=True, gc=False):
    transaction_id: str
    outcome: Outcome


def read_stopped(lines: Iterable[bytes]) -> dict[str, Outcome]:
    """Of decisions, a line of JSON each: the payments that were not simply allowed. Raises `ValueError` that names the line."""
    decode = msgspec.json.Decoder(_Decided).decode
    stopped: dict[str, Outcome] = {}
    for number, line in enumerate(lines, start=1):
        try:
            decided = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"line {number}: {error}") from None
        if decided.outcome is not Outcome.ALLOW:
            stopped[decided.transaction_id] = decided.outcome
    return stopped
