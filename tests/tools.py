"""Programs that tests run and that no wheel brings: in CI they must be there, on a user's machine a test may go without."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from bench.postgres import programs


def tool(*names: str) -> str:
    """Path of a program that has one of these names. Skips the test where it is missing; fails it in CI."""
    for name in names:
        if (found := shutil.which(name)) is not None:
            return found
    return _missing(names[0], "prometheus prometheus-alertmanager")


def postgres_programs() -> Path:
    """Where PostgreSQL's programs are. Skips or fails likewise."""
    found = programs()
    return found if found is not None else _missing("PostgreSQL", "postgresql")


def _missing(name: str, packages: str) -> NoReturn:
    reason = f"{name} is not installed: on Debian and Ubuntu, apt install {packages}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
