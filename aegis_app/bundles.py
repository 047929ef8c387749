"""The `bundles` topic: read by workers, written by commands; and the bundle that serves here.

The latest on the topic is in force, and may say that none is to serve; while the topic is empty, that of `AEGIS_BUNDLE`. One that cannot be
loaded leaves the one before it in service.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from aiokafka.structs import ConsumerRecord
from msgspec import Meta, Struct

from aegis_app.broadcast import UnreadableError, read_once
from aegis_app.core.intake import holds_card_number
from aegis_app.logs import log
from aegis_app.published import Publications
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name
from models.bundle import MANIFEST, BundleError, decode_manifest, put

if TYPE_CHECKING:
    from models.serving import Serving


LOOK_SECONDS: Final = 0.5
AGAIN_SECONDS: Final = 30.0
"""Until one that could not be loaded is tried again: where it lies may only be away for a while."""
PATIENCE: Final = aiohttp.ClientTimeout(total=120, sock_connect=10, sock_read=30)
"""With a download."""
LARGEST: Final = 256 << 20
"""Bytes of a bundle that is downloaded, all files together."""
NONE: Final = "none"
"""Stands for a version where no bundle is to serve."""
BACK: Final = 5
"""Most bundles that a start goes back over to find one that can be loaded."""


class Published(Struct, frozen=True, kw_only=True):
    """A bundle as on the `bundles` topic (key: its version), or that none is to serve (key: `none`). Unknown fields are ignored."""

    version: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{12}$")] | None, Meta(description="of the bundle: the hash of what serves; null for none")
    ] = None
    checksum: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None,
        Meta(description="sha256 of its manifest.json, which names those of the other files; null for none"),
    ] = None
    source: Annotated[
        Annotated[str, Meta(min_length=1, max_length=2000)] | None,
        Meta(description="its directory, as a path or an address (http, https) that every worker can read; null for none"),
    ] = None
    author: Annotated[str, Meta(min_length=1, max_length=100, description="who published it")]
    note: Annotated[str, Meta(min_length=1, max_length=500, description="why")]
    at: Annotated[datetime, Meta(tz=True, description="when")]

    @property
    def key(self) -> str:
        return NONE if self.version is None else self.version


class Release(Struct, frozen=True):
    """A bundle that was published."""

    offset: int
    published: Published

    @property
    def version(self) -> str:
        return self.published.key

    @property
    def published_as(self) -> str:
        return self.published.key

    def source(self, topic: str) -> dict[str, Any]:
        """Where it comes from, for people."""
        by = self.published
        return {"from": topic, "offset": self.offset, "source": by.source, "author": by.author, "note": by.note, "at": by.at}


class Releases(Publications[Release]):
    """What the records of the topic amount to."""

    def __init__(self) -> None:
        super().__init__(Name.BUNDLES, _read)


def _read(record: ConsumerRecord) -> tuple[str, Release | None]:
    try:
        key = record.key.decode()
        if record.value is None:
            return key, None
        published = msgspec.json.decode(record.value, type=Published)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UnreadableError("it names no bundle") from None
    if len({each is None for each in (published.version, published.checksum, published.source)}) > 1:
        raise UnreadableError("it names half a bundle")
    if published.key != key:
        raise UnreadableError("its key is not the version of its bundle")
    return key, Release(record.offset, published)


async def read(settings: Settings) -> Releases:
    """What is on the topic. Raises `KafkaError`, `MissingTopicError`."""
    releases = Releases()
    releases.apply(await read_once(settings, Name.BUNDLES))
    return releases


async def publish(settings: Settings, published: Published) -> Release:
    """Put a bundle in force for every worker. Raises `KafkaError`."""
    async with Outbox(settings.connection()) as outbox:
        record = Outgoing(published.key.encode(), msgspec.json.encode(published))
        ((offset, _),) = await outbox.publish(full_name(Name.BUNDLES, settings), 0, [record])
    return Release(offset, published)


def signed(version: str | None, checksum: str | None, source: str | None, *, author: str, note: str, at: datetime) -> Published:
    """What is to be published; all three `None`: that no bundle is to serve. Raises `BundleError` where a worker could not read it."""
    if holds_card_number(note) or holds_card_number(author):
        raise BundleError("author or note holds a card number; name its token")
    fields = {"version": version, "checksum": checksum, "source": source, "author": author, "note": note, "at": at}
    try:
        return msgspec.convert(fields, Published)
    except msgspec.ValidationError as error:
        raise BundleError(f"{error}: author, note and source are some words, at most 100, 500 and 2,000 characters") from None


def is_address(source: str) -> bool:
    """Whether a source is to be downloaded. Raises `BundleError` for one that nobody could."""
    parts = urlsplit(source)
    if "://" not in source:
        return False
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise BundleError(f"{source}: a bundle lies at a path, or at an address that begins with http:// or https://")
    if parts.username is not None or parts.query or parts.fragment:
        raise BundleError(
            "the address of a bundle is that of a directory: no user, password, query or fragment, which everybody would read"
        )
    return True


async def obtain(source: str, checksum: str | None, shelf: Path) -> Path:
    """The directory of a bundle; one at an address is downloaded into `shelf`, unless it is there. Nothing unchecked is used.

    Raises `BundleError` where its manifest does not have this checksum (`None`: whatever it has), or a file of it not that of the manifest.
    """
    if not is_address(source):
        there = Path(source)
    elif checksum is None or not (there := shelf / checksum).exists():
        return await _download(source.rstrip("/") + "/", checksum, shelf)
    await asyncio.to_thread(check_manifest, there, checksum)  # where it lies may be slow
    return there


def check_manifest(directory: Path, checksum: str | None) -> str:
    """The checksum of a bundle. Raises `BundleError` where it is not `checksum`."""
    try:
        found = sha256((directory / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{directory / MANIFEST}: {error.strerror}; can this worker read it?") from None
    if checksum not in {None, found}:
        raise BundleError(f"{directory / MANIFEST} is not what was published: its checksum differs")
    return found


async def _download(address: str, checksum: str | None, shelf: Path) -> Path:
    try:
        async with aiohttp.ClientSession(timeout=PATIENCE, raise_for_status=True) as session:
            files = await _files(session, address, checksum)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise BundleError(f"{address} cannot be downloaded: {str(error) or type(error).__name__}") from None
    there = shelf / sha256(files[MANIFEST]).hexdigest()
    await asyncio.to_thread(put, there, files)
    return there


async def _files(session: aiohttp.ClientSession, address: str, checksum: str | None) -> dict[str, bytes]:
    """All files of a bundle, each checked before the next is asked for."""
    text = await _get(session, address + MANIFEST, LARGEST)
    if checksum not in {None, sha256(text).hexdigest()}:
        raise BundleError(f"{address}{MANIFEST} is not what was published: its checksum differs")
    files = {MANIFEST: text}
    for name, wanted in decode_manifest(text, address + MANIFEST).checksums.items():
        files[name] = await _get(session, address + quote(name), LARGEST - sum(map(len, files.values())))
        if sha256(files[name]).hexdigest() != wanted:
            raise BundleError(f"{address}{name} is not what was written: its checksum differs")
    return files


async def _get(session: aiohttp.ClientSession, address: str, most: int) -> bytes:
    async with session.get(address) as answer:
        content = bytearray()
        async for part in answer.content.iter_chunked(1 << 20):
            content += part
            if len(content) > most:
                raise BundleError(f"{address}: a bundle has at most {LARGEST >> 20} MiB")
        return bytes(content)


class Shelf:
    """The bundle that serves here. `releases` gives what is published; `local` serves while nothing is."""

    def __init__(self, settings: Settings, releases: Callable[[], Releases], local: "Serving | None") -> None:
        self.serving: Serving | None = None
        """`None`: rules decide alone."""
        self.release: Release | None = None
        """What `serving` was published as; `None` where it is the local one."""
        self.refused: str | None = None
        """Why the one in force does not serve here; `None` while it does."""
        self._settings = settings
        self._releases = releases
        self._local = local
        self._directory = settings.datadir / "bundles"
        self._tried: Release | None = None
        self._again = 0.0

    @property
    def origin(self) -> dict[str, Any]:
        """Where what serves comes from, for people."""
        if self.release is not None:
            return self.release.source(full_name(Name.BUNDLES, self._settings))
        return {"from": "nowhere: rules decide alone" if self.serving is None else "AEGIS_BUNDLE"}

    async def load(self) -> None:
        """Begin with the latest that can be loaded."""
        past = self._releases().past
        for release in list(_newest_of_each(past))[:BACK]:
            if await self._take_up(release):
                return
        self._serve(None if past else self._local, None)

    async def follow(self) -> None:
        """Keep up with what is published, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            latest = self._releases().latest
            if latest is None and (self.release is not None or self.refused is not None):
                self._serve(self._local, None)
            elif latest is not None and latest != self.release and (latest != self._tried or monotonic() >= self._again):
                await self._take_up(latest)

    async def _take_up(self, release: Release) -> bool:
        """Let a bundle serve, between two chunks of payments; whether it does."""
        version, source = release.published.version, release.published.source
        if source is None:
            self._serve(None, release)
            return True
        try:
            if self.serving is None or self.serving.version != version:
                path = await obtain(source, release.published.checksum, self._directory)
                serving = await asyncio.to_thread(self._loaded, path, version)
            else:
                serving = self.serving
        except Exception as error:  # whatever is wrong with a bundle must not stop the worker
            if self._tried != release:
                log.error("Bundle %s is refused%s: %s", version, "" if self.serving is None else ", what served before serves on", error)
            self._tried, self._again = release, monotonic() + AGAIN_SECONDS
            if release == self._releases().latest:
                self.refused = f"bundle {version} is refused: {error}"
            return False
        self._serve(serving, release)
        return True

    def _loaded(self, path: Path, version: str | None) -> "Serving":
        """Off the event loop. Keeps of what was downloaded only this."""
        try:
            serving = _tried(path, self._settings)
        except BundleError:
            if path.parent == self._directory:
                shutil.rmtree(path)  # to be downloaded again: a disk may have changed it
            raise
        if serving.version != version:
            raise BundleError(f"{path} is bundle {serving.version}, and {version} was published")
        for other in self._directory.glob("*"):
            if other != path:
                shutil.rmtree(other, ignore_errors=True)
        return serving

    def _serve(self, serving: "Serving | None", release: Release | None) -> None:
        self.serving, self.release = serving, release
        latest = self._releases().latest
        if release == latest:
            self.refused = None
        if serving is None:
            log.info("No bundle serves: rules decide alone")
        else:
            log.info("Bundle %s serves: %s", serving.version, self.origin)


def _newest_of_each(past: list[Release]) -> Iterator[Release]:
    """The latest release of each version, the newest first."""
    versions: set[str] = set()
    for each in reversed(past):
        if each.version not in versions:
            versions.add(each.version)
            yield each


def local_bundle(settings: Settings) -> "Serving | None":
    """What serves while nothing is published. Raises `BundleError`."""
    if settings.bundle is None:
        return None
    try:
        return _tried(settings.bundle, settings)
    except BundleError as error:
        raise BundleError(f"AEGIS_BUNDLE: {error}") from None


def examined(source: str, settings: Settings) -> "tuple[Serving, str]":
    """A bundle at a path or an address, loaded and tried as a worker would, and its checksum. Raises `BundleError`."""
    with tempfile.TemporaryDirectory(prefix="aegis-bundle-") as name:
        path = asyncio.run(obtain(source, None, Path(name)))
        return _tried(path, settings), check_manifest(path, None)


def _tried(path: Path, settings: Settings) -> "Serving":
    from models.serving import serve  # ONNX Runtime and XGBoost: 80 MB that a worker without a bundle can do without

    serving = serve(path, settings.base_currency)
    serving.check()
    return serving
