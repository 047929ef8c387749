"""Payments at a steady rate, and labels: with all that strangers send among them, repeats, conflicts, late ones, and plain rubbish."""

import asyncio
import random
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta

import msgspec
from aiokafka import AIOKafkaProducer

from aegis_app.core.label import Label, Source, encode_label
from aegis_app.core.payment import Channel, Kind, Transaction, encode_transaction
from aegis_app.settings import Settings
from aegis_app.topics import Name, full_name

HOT = "hot-card"
LABELS = 0.02
"""For each payment so many labels."""
MOST_HOT_LABELS = 20
"""Fewer than a card keeps verdicts: those that it forgot cannot be recounted."""


class Load(threading.Thread):
    """Sends `rate` payments a second over `cards` cards until told to stop; the same ones for the same seed."""

    def __init__(self, settings: Settings, *, rate: int, cards: int, seed: int) -> None:
        super().__init__(name="load")
        self.sent = 0
        self.labels = 0
        self._settings = settings
        self._rate = rate
        self._cards = cards
        self._random = random.Random(seed)
        self._ending = threading.Event()
        self._burst = 0
        self._recent: deque[Transaction] = deque(maxlen=2000)
        self._said: deque[Label] = deque(maxlen=500)
        self._hot_labels = 0
        self._start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=20)

    def burst(self, payments: int) -> None:
        """Send that many payments of one card as fast as they go."""
        self._burst += payments

    def stop(self) -> None:
        """Return once everything is acknowledged."""
        self._ending.set()
        self.join()

    def run(self) -> None:
        asyncio.run(self._send())

    async def _send(self) -> None:
        topic, labels = (full_name(name, self._settings) for name in (Name.TRANSACTIONS, Name.LABELS))
        producer = AIOKafkaProducer(
            **self._settings.connection(), acks="all", enable_idempotence=True, linger_ms=2, request_timeout_ms=60_000
        )
        await producer.start()
        begun = time.monotonic()
        steady = 0
        try:
            while not self._ending.is_set():
                due = int((time.monotonic() - begun) * self._rate)
                for _ in range(min(due - steady, self._rate)):
                    key, value = self._record(f"c{self._random.randrange(self._cards):05d}")
                    await producer.send(topic, key=key, value=value)
                    steady += 1
                    if (said := self._label()) is not None:
                        await producer.send(labels, key=said[0], value=said[1])
                while self._burst:
                    self._burst -= 1
                    key, value = self._record(HOT)
                    await producer.send(topic, key=key, value=value)
                await asyncio.sleep(0.002)
        finally:
            await producer.flush()
            await producer.stop()

    def _record(self, card_id: str) -> tuple[bytes, bytes]:
        self.sent += 1
        chance = self._random.random()
        if chance < 0.005:
            return card_id.encode(), b'{"transaction_id": "broken'
        if chance < 0.025 and self._recent:
            again = self._random.choice(self._recent)
            if chance < 0.01:
                again = msgspec.structs.replace(again, amount_minor=again.amount_minor + 1)
            return again.card_id.encode(), encode_transaction(again)
        txn = self._payment(card_id, late=chance > 0.97)
        self._recent.append(txn)
        return card_id.encode(), encode_transaction(txn)

    def _label(self) -> tuple[bytes, bytes] | None:
        """Now and then something about a payment of late, before or after it is decided; or again, or else than before."""
        draw = self._random
        if draw.random() >= LABELS or not self._recent:
            return None
        txn = self._recent[-1 - int(draw.random() ** 2 * len(self._recent))]
        if txn.channel is not Channel.ONLINE or (txn.card_id == HOT and self._hot_labels == MOST_HOT_LABELS):
            return None  # of a place taken out of habit, the order in which label and payments were heard would show in decisions
        self.labels += 1
        if draw.random() < 0.02:
            return txn.card_id.encode(), b'{"transaction_id": "broken'
        said = self._said_anew() if draw.random() < 0.2 and self._said else self._said_about(txn)
        return said.card_id.encode(), encode_label(said)

    def _said_about(self, txn: Transaction) -> Label:
        self._hot_labels += txn.card_id == HOT
        said = Label(
            transaction_id=txn.transaction_id,
            card_id=txn.card_id,
            merchant_id=txn.merchant_id,
            timestamp=txn.timestamp,
            is_fraud=self._random.random() < 0.7,
            labelled_at=txn.timestamp + timedelta(minutes=self._random.randrange(1, 600)),
            source=self._random.choice(list(Source)),
        )
        if txn.card_id != HOT:  # its payments leave the ring soon, and a recount cannot tell what was put back before
            self._said.append(said)
        return said

    def _said_anew(self) -> Label:
        """A repeat, or a change of mind."""
        said = self._random.choice(self._said)
        if self._random.random() < 0.3:
            return said
        later = said.labelled_at + timedelta(minutes=self._random.randrange(-60, 60 * 24))
        return msgspec.structs.replace(said, is_fraud=self._random.random() < 0.5, labelled_at=max(later, said.timestamp))

    def _payment(self, card_id: str, *, late: bool) -> Transaction:
        draw = self._random
        at = self._start + timedelta(seconds=self.sent * 0.7) - timedelta(minutes=draw.randrange(600) if late else 0)
        return Transaction(
            transaction_id=f"t{self.sent}",
            card_id=card_id,
            amount_minor=0 if draw.random() < 0.02 else round(draw.lognormvariate(7.5, 1.2)),
            currency="EUR" if draw.random() < 0.95 else "USD",
            timestamp=at,
            kind=Kind.REFUND if draw.random() < 0.02 else Kind.PURCHASE,
            channel=Channel.CHIP if draw.random() < 0.6 else Channel.ONLINE,
            merchant_id=f"m{draw.randrange(500)}",
            device_id=None if draw.random() < 0.5 else f"d{draw.randrange(20)}",
            country=draw.choice(["FR", "FR", "FR", "DE", "ES", "US"]),
            latitude=48 + draw.random(),
            longitude=2 + (60 if draw.random() < 0.01 else draw.random()),
        )
