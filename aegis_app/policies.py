"""The policy in force: that of `AEGIS_POLICY`, or the packaged one."""

from importlib.resources import files
from typing import Final

from aegis_app.core.policy import Policy, PolicyError, parse_policy
from aegis_app.settings import Settings

PACKAGED: Final = "default_policy.toml"


def load_policy(settings: Settings) -> Policy:
    """Raises `PolicyError`."""
    if settings.policy is None:
        return parse_policy(files("aegis_app").joinpath(PACKAGED).read_text("utf-8"), PACKAGED)
    try:
        return parse_policy(settings.policy.read_text("utf-8"), str(settings.policy))
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"AEGIS_POLICY: {error}") from None
