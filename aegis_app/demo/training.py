"""A bundle, trained on the cardholders' past while they pay on: in a process of its own, which gives way to the others."""

import importlib.util
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aegis_app.bundles import check_manifest, publish, signed
from aegis_app.settings import Settings
from models.bundle import read_manifest

NEEDED: Final = ("tensorflow", "sklearn", "pyarrow", "onnx", "joblib", "jinja2", "matplotlib")


class Training:
    """The process that trains, and what becomes of it."""

    def __init__(self, settings: Settings, directory: Path, environment: dict[str, str]) -> None:
        """`environment` says by which policy, rates and currency; the bundle and a log go to `directory`."""
        self.state = "rules decide alone"
        """For people."""
        self._settings = settings
        self._environment = environment
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int | None:
        """The process's id; `None` where nothing can be trained."""
        if not all(importlib.util.find_spec(name) for name in NEEDED):
            self.state = "rules decide alone: what trains models is not installed"
            return None
        self.state = "models are being trained on their past"
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "training.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "aegis_app.demo.learning", str(self._directory / "bundle")],
                env=os.environ | self._environment | {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._process.pid

    async def look(self) -> None:
        """Publish the bundle once it is there."""
        if self._process is None or self._process.poll() is None:
            return
        status, self._process = self._process.wait(), None
        if status:
            self.state = f"rules decide alone: the training failed, see {self._directory / 'training.log'}"
            return
        path = self._directory.absolute() / "bundle"
        version, checksum = read_manifest(path).version, check_manifest(path, None)
        await publish(
            self._settings, signed(version, checksum, str(path), author="demo", note="trained on their past", at=datetime.now(UTC))
        )
        self.state = f"bundle {version}, trained meanwhile"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
