"""A real Prometheus and a real Alertmanager beside a deployment: with the files that we ship, and the flags of docker-compose.yml."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import msgspec

from aegis_app.kafka.ports import free_port
from tests.tools import tool

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def services() -> dict[str, dict[str, Any]]:
    """Those of docker-compose.yml."""
    found: dict[str, dict[str, Any]] = msgspec.yaml.decode((ROOT / "docker-compose.yml").read_bytes())["services"]
    return found


class Monitoring:
    """Looks at `targets` (addresses by the name that prometheus.yml has) every second."""

    def __init__(self, directory: Path, targets: Mapping[str, str], token: str) -> None:
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self.prometheus = f"http://127.0.0.1:{free_port()}"
        self.alertmanager = f"http://127.0.0.1:{free_port()}"
        self._configure(dict(targets), token)

    def _configure(self, addresses: dict[str, str], token: str) -> None:
        secret = self._directory / "token"
        secret.write_text(token)
        addresses |= {"localhost:9090": host(self.prometheus), "alertmanager:9093": host(self.alertmanager)}
        for name in ("prometheus.yml", "rules.yml", "alerts.yml"):
            text = re.sub(r"interval: (15s|30s|5m)", "interval: 1s", (ROOT / "prometheus" / name).read_text())
            text = text.replace('"gateway:6066"]', '"gateway:6066", "alerts:6066"]')  # there is no name service that finds it here
            for ours, theirs in {"/run/secrets/web_token": str(secret), **addresses}.items():
                text = text.replace(ours, theirs)
            (self._directory / name).write_text(text)

    def __enter__(self) -> Self:
        etc, data = self._directory, self._directory / "data"
        places = {"/etc/prometheus/user": ROOT / "prometheus/user", "/etc/prometheus": etc, "/prometheus": data}
        at = {"/etc/alertmanager": ROOT / "prometheus", "/alertmanager": data / "alertmanager"}
        self._start([tool("alertmanager", "prometheus-alertmanager")], "alertmanager", self.alertmanager, at)
        soon = "--rules.alert.resend-delay=1s"  # the first time, it does not know Alertmanager yet
        self._start([tool("prometheus"), soon], "prometheus", self.prometheus, places)
        return self

    def _start(self, command: list[str], name: str, address: str, places: Mapping[str, Path]) -> None:
        for flag in services()[name]["command"]:
            option, _, value = flag.partition("=")
            for ours, theirs in places.items():
                if value.startswith(ours):
                    value = f"{theirs}{value.removeprefix(ours)}"
                    break
            command.append(f"{option}={address if option == '--web.external-url' else value}")
        with (self._directory / f"{name}.log").open("wb") as log:
            command.append(f"--web.listen-address={host(address)}")
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes:
            process.terminate()
            process.wait()

    def ask(self, query: str) -> Sequence[Any]:
        """What Prometheus answers to `query` now; nothing while it does not. Raises where it finds the query wrong."""
        try:
            found: list[Any] = json.loads(get(f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))["data"][
                "result"
            ]
        except urllib.error.HTTPError as error:
            with error:
                if error.code == HTTPStatus.SERVICE_UNAVAILABLE:  # it only starts
                    return []
                raise AssertionError(f"{query}: {error.read().decode()}") from None
        except OSError:
            return []
        return found

    def figure(self, query: str) -> float | None:
        """The first value of the answer; `None` for none."""
        found = self.ask(query)
        return float(found[0]["value"][1]) if found else None

    def alerts(self, receiver: str) -> list[Any]:
        """What Alertmanager holds for a receiver; nothing while it does not answer."""
        try:
            found: list[Any] = json.loads(get(f"{self.alertmanager}/api/v2/alerts?receiver={receiver}"))
        except OSError:
            return []
        return found


def host(address: str) -> str:
    return address.removeprefix("http://")


def get(address: str, headers: Mapping[str, str] = MappingProxyType({})) -> str:
    with urllib.request.urlopen(urllib.request.Request(address, headers=dict(headers)), timeout=10) as answer:
        body: bytes = answer.read()
        return body.decode()


@contextmanager
def started(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """A command of the image, in a session of its own that ends with the block."""
    path = {"PATH": f"{BIN}:{os.environ['PATH']}"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env={**os.environ, **path, **environment}, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
