"""A report as one page of HTML that needs nothing else: tables, and pictures drawn into it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from aegis_app.backtest.errors import BacktestError
from aegis_app.backtest.report import Report
from aegis_app.backtest.sheets import headline, sheets

TEMPLATE: Final = "page.html"


def check() -> None:
    """Raise `BacktestError` if no page can be made: better now than after minutes of work."""
    if find_spec("jinja2") is None or find_spec("matplotlib") is None:
        raise BacktestError("--html needs jinja2 and matplotlib: in the checkout, pip install '.[report]'")


def write(report: Report, path: Path) -> None:
    """Write the page."""
    path.write_text(page(report), "utf-8")


def page(report: Report) -> str:
    """The page's text; what strangers wrote in payments and labels is escaped."""
    from markupsafe import Markup

    from aegis_app.backtest.pictures import pictures
    from models.pages import filled

    drawn = [(caption, Markup(svg)) for caption, svg in pictures(report)]
    return filled(__package__, TEMPLATE, source=report.source, headline=headline(report), sheets=sheets(report), pictures=drawn)
