"""How pages of reports are made: each stands alone, with everything in it, and all look alike."""

from importlib.resources import files
from typing import Any, Final

from jinja2 import DictLoader, Environment, StrictUndefined

FRAME: Final = "frame.html"
"""What the templates of pages extend."""


def filled(package: str, name: str, **said: Any) -> str:
    """The template of this name in a package, filled in; in HTML, what strangers wrote is escaped."""
    texts = {FRAME: files(__package__), name: files(package)}
    loader = DictLoader({each: where.joinpath(each).read_text("utf-8") for each, where in texts.items()})
    environment = Environment(
        autoescape=name.endswith(".html"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )
    return environment.get_template(name).render(**said)
