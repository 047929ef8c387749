"""Dead letters: what could not be taken, as it came, less any card number; and the latch against too many of them."""

from collections import deque
from hashlib import sha256
from typing import Final

from aiokafka.structs import ConsumerRecord
from msgspec import Struct

from aegis_app.core.intake import HIDDEN, Reason, Refused, hide, hide_card_id
from aegis_app.core.payment import looks_like_card_number
from aegis_app.stream.outbox import Headers
from aegis_app.topics import LARGEST_RECORD

ATTEMPTS: Final = "attempts"
REDACTED: Final = "redacted"
CUT: Final = "cut"
ROOM: Final = LARGEST_RECORD - 4096
"""Bytes for key and value, beside headers that we bound ourselves."""


class Letter(Struct, frozen=True):
    """A dead letter. Headers: topic, partition, offset, reason, error, attempts; `redacted` and `cut` where it is no longer whole."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    topic: str
    reason: Reason


def dead_letter(record: ConsumerRecord, refused: Refused) -> Letter:
    """The letter for a record that was refused."""
    key, value = record.key, record.value
    is_card_number = refused.reason is Reason.CARD_NUMBER
    safe_key = None if key is None else HIDDEN if _holds_card_number(key) else hide(key)
    safe_value = None if value is None else hide_card_id(value) if is_card_number else hide(value)
    counted = dict(record.headers).get(ATTEMPTS) or b""
    attempts = int(counted) + 1 if counted.isdigit() and len(counted) < 10 else 1
    headers = [
        ("topic", record.topic.encode()),
        ("partition", b"%d" % record.partition),
        ("offset", b"%d" % record.offset),
        ("reason", refused.reason.encode()),
        ("error", hide(str(refused).encode())[:1024]),
        (ATTEMPTS, b"%d" % attempts),
    ]
    if (safe_key, safe_value) != (key, value):
        headers.append((REDACTED, b"true"))
    safe_key, safe_value, whole = _cut(safe_key, safe_value)
    if whole is not None:
        headers.append((CUT, whole))
    return Letter(safe_key, safe_value, headers, record.topic, refused.reason)


def _holds_card_number(key: bytes) -> bool:
    return looks_like_card_number(key.decode(errors="replace"))


def _cut(key: bytes | None, value: bytes | None) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Key and value as far as Kafka takes them, and what was cut: its size and sha256."""
    if len(key or b"") + len(value or b"") <= ROOM:
        return key, value, None
    whole = f"{len(value or b'')} bytes, sha256 {sha256(value or b'').hexdigest()}".encode()
    key = None if key is None else key[: ROOM // 4]
    return key, None if value is None else value[: ROOM - len(key or b"")], whole


class Latch:
    """Trips when too large a share of a partition's last payments are dead letters: a bad deploy must not drain the topic."""

    def __init__(self, share: float, window: int) -> None:
        self._share = share
        self._window = window
        self._chunks: deque[tuple[int, int]] = deque()
        self._seen = self._dead = 0

    @property
    def sentence(self) -> str:
        return (
            f"{self._dead} of the last {self._seen} payments of a partition are dead letters, more than {self._share:.0%}; "
            "nothing more is read. `aegis dead-letters list` has all but the last of them. Mend the producer; a restart counts anew, "
            f"and stops again after {self._window} payments of the like, unless started with AEGIS_DEAD_LETTER_SHARE=1"
        )

    def trips(self, payments: int, dead: int) -> bool:
        """Count a chunk, and say whether it is one too many."""
        self._chunks.append((payments, dead))
        self._seen += payments
        self._dead += dead
        while self._chunks and self._seen - self._chunks[0][0] >= self._window:
            old_payments, old_dead = self._chunks.popleft()
            self._seen -= old_payments
            self._dead -= old_dead
        return self._seen >= self._window and self._dead > self._share * self._seen
