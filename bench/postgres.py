"""A PostgreSQL of one's own, from the programs that Debian installs: for tests and measurements."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from aegis_app.kafka.ports import free_port

DEBIAN = Path("/usr/lib/postgresql")
START_SECONDS = 120.0
SERVER_USER = "postgres" if os.geteuid() == 0 else None
"""The server refuses to run as root."""


def programs() -> Path | None:
    """Directory of the newest PostgreSQL's programs; `None` where there is none."""
    found = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    here = found[-1] if found else None if on_path is None else Path(on_path).resolve()
    return None if here is None else here.parent


class Postgres:
    """A server on loopback, with an empty database for whoever asks; `durable` syncs to the disk, as in production."""

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        self._programs = programs
        self._durable = durable
        self.port = 0
        # Not below pytest's directories, which are root's alone.
        self._directory = Path(tempfile.mkdtemp(prefix="aegis-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if SERVER_USER is not None:
            shutil.chown(self._directory, SERVER_USER)
        try:
            data = str(self._directory / "data")
            self._run("initdb", "--pgdata", data, "--auth=trust", "--username=aegis", "--encoding=UTF8", "--no-sync")
            self.port = free_port()
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> Self:
        """The same server again, where it was."""
        sync = [] if self._durable else ["-c", "fsync=off"]
        places = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._directory / "data", "-p", str(self.port), *places, *sync],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                user=SERVER_USER,
                group=SERVER_USER,
            )
        deadline = time.monotonic() + START_SECONDS
        while self._run("pg_isready", "--host=127.0.0.1", f"--port={self.port}", check=False) != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self._directory / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends sessions and transactions first, SIGQUIT is as good as a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()

    def database(self, name: str) -> str:
        """URL of a new, empty database."""
        self._run("createdb", "--host=127.0.0.1", f"--port={self.port}", "--username=aegis", name)
        return f"postgresql://aegis@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, user=SERVER_USER, group=SERVER_USER)
        if check and done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr}")
        return done.returncode
