"""A report on the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aegis_app.backtest.report import Report
from aegis_app.backtest.sheets import Sheet, headline, sheets

WIDTH = 180
"""Columns where nobody looks: in a pipe or a file."""


def show(report: Report) -> None:
    """Print `report` to stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(Text(f"Back-test of {report.source}", style="bold"))
    for line in headline(report):
        console.print(Text(line))
    for sheet in sheets(report):
        console.print()
        console.print(_table(sheet))


def _table(sheet: Sheet) -> Table:
    table = Table(
        title=Text(sheet.title, style="bold"),
        caption=Text(sheet.note),
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    for place, name in enumerate(sheet.columns):
        table.add_column(Text(name), justify="left" if place < sheet.words else "right", overflow="fold")
    for row in sheet.rows:
        # Text, because what strangers wrote is not markup.
        table.add_row(*map(Text, row))
    return table
