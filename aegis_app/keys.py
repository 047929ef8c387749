"""Keys that let callers in at the gateway: a file with their hashes, never the keys themselves."""

import fcntl
import hmac
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""After so long a key that was made or revoked is one for the gateway too."""
_SHAPE: Final = re.compile(r"aegis_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_NOBODY: Final = "0" * 64


class KeysError(ValueError):
    """The file of keys cannot be used, or there is no such key; the message says what to do."""


class Scope(StrEnum):
    """What a key is good for."""

    SCORE = "score"
    LABEL = "label"
    READ = "read"


class Key(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One key as it is kept."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    """Whose it is; verdicts given with it are signed so."""
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """Of the whole key. It holds 256 bits of chance, so nothing slower is needed."""
    scopes: list[Scope]
    per_second: Annotated[int, Meta(ge=1, le=1_000_000)]
    """Payments, or requests of other kinds, that one gateway takes of it."""
    created_at: datetime
    revoked_at: datetime | None = None


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[Key]


class Made(NamedTuple):
    """A new key, and the only sight of it."""

    key: Key
    secret: str


def create(path: Path, name: str, scopes: list[Scope], per_second: int) -> Made:
    """Make a key and keep its hash in the file at `path`. Raises `KeysError`."""
    identity = secrets.token_hex(4)
    secret = f"aegis_{identity}_{secrets.token_urlsafe(32)}"
    fields = {
        "id": identity,
        "name": name,
        "sha256": sha256(secret.encode()).hexdigest(),
        "scopes": sorted(scopes),
        "per_second": per_second,
        "created_at": datetime.now(UTC),
    }
    try:
        key = msgspec.convert(fields, Key)
    except msgspec.ValidationError as error:
        raise KeysError(f"this is no key: {error}") from None
    _change(path, lambda keys: [*keys, key])
    return Made(key, secret)


def revoke(path: Path, identity: str) -> Key:
    """End a key; it stays in the file, revoked. Raises `KeysError`."""
    now = datetime.now(UTC)

    def without(keys: list[Key]) -> list[Key]:
        if all(key.id != identity for key in keys):
            raise KeysError(f"there is no key {identity} in {path}; see `aegis keys list`")
        return [replace(key, revoked_at=key.revoked_at or now) if key.id == identity else key for key in keys]

    return next(key for key in _change(path, without) if key.id == identity)


def read(path: Path) -> list[Key]:
    """Every key of the file, revoked ones too; none where there is no file. Raises `KeysError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).keys
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeysError(f"AEGIS_KEYS, {path}: {error}") from None


def _change(path: Path, change: Callable[[list[Key]], list[Key]]) -> list[Key]:
    """Replace the file as a whole: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        keys = change(read(path))
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(_File(keys)), indent=2) + b"\n")
        new.replace(path)
    return keys


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def bears(authorization: str | None, token: str) -> bool:
    """Whether a request's `Authorization` header has `token`; as fast where it nearly has."""
    return hmac.compare_digest((authorization or "").encode(errors="replace"), f"Bearer {token}".encode())


class Keyring:
    """The keys of a file, as they are now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[str, Key] = {}
        self._version: tuple[int, int, int] | None = None
        self._looked = -LOOK_SECONDS

    def find(self, presented: str) -> Key | None:
        """The key that `presented` is; `None` for one that is unknown or revoked."""
        self._look()
        shape = _SHAPE.fullmatch(presented)
        key = self._keys.get(shape[1]) if shape is not None else None
        given = sha256(presented.encode(errors="replace")).hexdigest()
        is_right = hmac.compare_digest(given, _NOBODY if key is None else key.sha256)
        return key if is_right and key is not None and key.revoked_at is None else None

    def _look(self) -> None:
        """Read the file where it changed; one that cannot be read leaves the keys as they were."""
        if monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = monotonic()
        version = self._stat()
        if version == self._version:
            return
        try:
            self._keys = {key.id: key for key in read(self._path)}
        except KeysError as error:
            log.error("keys stay as they were: %s", error)
        self._version = version

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
