"""Programs that tests run and that no wheel brings: in CI they must be there, on a user's machine a test may go without."""

import os
import shutil

import pytest


def tool(*names: str) -> str:
    """Path of a program that has one of these names. Skips the test where it is missing; fails it in CI."""
    for name in names:
        if (found := shutil.which(name)) is not None:
            return found
    reason = f"{names[0]} is not installed: on Debian and Ubuntu, apt install prometheus prometheus-alertmanager"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
