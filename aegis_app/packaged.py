"""What comes with the package."""

from importlib.resources import files
from typing import Final

POLICY: Final = "default_policy.toml"


def packaged_policy() -> str:
    """The text of the policy that serves where nobody gave another."""
    return files("aegis_app").joinpath(POLICY).read_text("utf-8")
