"""What `make` says where it cannot begin."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tools import tool

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("python", "line"),
    [
        ("exit 1", "Aegis needs Python 3.11, 3.12 or 3.13, and none runs here: install one, or name it: make PYTHON=/path/to/python"),
        (
            'case "$2" in *venv*) exit 1; esac',
            "Aegis needs Python's venv module, which ./python lacks: on Debian and Ubuntu, apt install python-venv",
        ),
    ],
    ids=["another Python", "no venv"],
)
@pytest.mark.parametrize("target", ["demo", "test"])
def test_what_is_missing_is_said_in_one_line(tmp_path: Path, target: str, python: str, line: str) -> None:
    for path in (ROOT / "Makefile", ROOT / "setup.cfg", ROOT / "pyproject.toml", ROOT / "requirements" / "dev.txt"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\n{python}\n")
    stand_in.chmod(0o755)

    done = subprocess.run(
        [tool("make"), "--no-print-directory", target, "PYTHON=./python"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    ours = [said for said in done.stderr.splitlines() if not said.startswith("make")]
    assert (done.returncode, ours, done.stdout) == (2, [line], "")
