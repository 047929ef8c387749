"""What is ours as a child process, started as a user would: for the demo, the tests and the benchmarks."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec


class WorkerError(RuntimeError):
    """A process did not do what it was asked to; the message ends with the last lines of its log."""


class Process:
    """A process of ours with a port, in a session of its own, so that a Ctrl-C reaches its parent alone."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, port: int, environment: Mapping[str, str], ready: str = "/ready"
    ) -> None:
        """`directory` holds its log; `environment` is added to the present one; `ready`: the path that answers 200 once it works."""
        self.name = name
        self.directory = directory
        self.port = port
        self.log = directory / f"{name}.log"
        self._command = [sys.executable, "-m", *command]
        self.environment: dict[str, str] = os.environ | environment
        """All that it is started with."""
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the process while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def returncode(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def start(self, *arguments: str, **environment: str) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *arguments],
                env=self.environment | environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def wait_until_ready(self, seconds: float = 60) -> Self:
        """Return once it says so. Raises `WorkerError` where the process ends, or time does."""
        deadline = time.monotonic() + seconds
        waits: Any = "its web server"
        while time.monotonic() < deadline:
            if self.pid is None:
                raise WorkerError(f"the {self.name} ended with status {self.returncode}: {self.last_words()}")
            status, answer = self.get(self._ready)
            if status == 200:
                return self
            waits = answer
            time.sleep(0.1)
        raise WorkerError(f"the {self.name} was not ready within {seconds:.0f} s; it waits for {waits}: {self.last_words()}")

    def get(self, path: str) -> tuple[int, Any]:
        """Status and answer of one of its views; status 0 where it does not answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parsed(error.read())
        except OSError as error:
            return 0, str(error)

    def signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, seconds: float = 25) -> int:
        """End it cleanly; by force where that takes too long. Returns its exit status."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def last_words(self, lines: int = 12) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(it said nothing)"


class Worker(Process):
    """`faust -A aegis_app worker`."""

    def __init__(self, directory: Path, port: int, environment: Mapping[str, str], application: str = "aegis_app") -> None:
        """`directory` holds its data too."""
        own = {"AEGIS_DATADIR": str(directory / "data"), "AEGIS_WEB_PORT": str(port)}
        super().__init__("worker", ["faust", "-A", application, "worker"], directory, port, {**environment, **own})


class Gateway(Process):
    """`aegis gateway`."""

    def __init__(self, directory: Path, port: int, environment: Mapping[str, str]) -> None:
        own = {"AEGIS_GATEWAY_PORT": str(port)}
        super().__init__("gateway", ["aegis_app", "gateway"], directory, port, {**environment, **own})


class Ledger(Process):
    """`aegis ledger run`."""

    def __init__(self, directory: Path, port: int, environment: Mapping[str, str]) -> None:
        super().__init__("ledger", ["aegis_app", "ledger", "run", "--port", str(port)], directory, port, environment, ready="/health")


def _parsed(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode(errors="replace")
