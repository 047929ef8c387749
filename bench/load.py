"""Payments at a steady rate, with all that strangers send among them: repeats, conflicts, late ones, and plain rubbish."""

import asyncio
import random
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta

import msgspec
from aiokafka import AIOKafkaProducer

from aegis_app.core.payment import Channel, Kind, Transaction, encode_transaction
from aegis_app.settings import Settings
from aegis_app.topics import Name, full_name

HOT = "hot-card"


class Load(threading.Thread):
    """Sends `rate` payments a second over `cards` cards until told to stop; the same ones for the same seed."""

    def __init__(self, settings: Settings, *, rate: int, cards: int, seed: int) -> None:
        super().__init__(name="load")
        self.sent = 0
        self._settings = settings
        self._rate = rate
        self._cards = cards
        self._random = random.Random(seed)
        self._ending = threading.Event()
        self._burst = 0
        self._recent: deque[Transaction] = deque(maxlen=2000)
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
        topic = full_name(Name.TRANSACTIONS, self._settings)
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
