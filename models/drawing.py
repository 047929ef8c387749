"""How pictures of reports look: SVG that stands in a page. Equal figures, equal pictures: no date, and ids by a fixed salt."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FRAUD: Final = "#c23b22"
GENUINE: Final = "#4c78a8"
FAINT: Final = "#b8bec6"
QUIET: Final = "#5b6673"
WIDTH: Final = 7.2
"""Inches; the page scales it."""

_STYLE: Final[dict[Any, Any]] = {
    # Text stays text, in the page's font: small, sharp, and found by searching.
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.size": 9.0,
    # Ids by content: those of equal things are equal, so pictures can stand on one page.
    "svg.hashsalt": "aegis",
    # A "$" in a name is no formula.
    "text.parse_math": False,
    "date.converter": "concise",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
}


@contextmanager
def figure(height: float) -> Iterator[tuple[Axes, StringIO]]:
    """Axes to draw on, and the text that is filled when it is done."""
    svg, whole = StringIO(), StringIO()
    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(WIDTH, height), layout="constrained")
        yield drawn.subplots(), svg
        drawn.savefig(whole, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # The element alone: a page has its own head.
    svg.write("<svg" + whole.getvalue().partition("<svg")[2])
