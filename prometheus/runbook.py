"""Write the runbook as the page that Prometheus serves and alerts lead to: `python -m prometheus.runbook`."""

from itertools import pairwise
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

SOURCE: Final = Path(__file__).parent.parent / "docs" / "runbook.md"
PAGE: Final = Path(__file__).parent / "user" / "runbook.html"
STYLE: Final = """
body { max-width: 48rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 sans-serif; }
h2 { margin-top: 2.5rem; }
h2:target { background: #ffe9a8; }
code { background: #eee; padding: 0 .2em; }
@media (prefers-color-scheme: dark) {
  body { background: #181b1f; color: #ddd; }
  code { background: #333; }
  h2:target { background: #664d00; }
}
"""


def page() -> str:
    """docs/runbook.md as HTML; a heading's id is its name in small letters."""
    markdown = MarkdownIt()
    tokens = markdown.parse(SOURCE.read_text())
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", inline.content.lower().replace(" ", "-"))
    body = markdown.renderer.render(tokens, markdown.options, {})
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Aegis: runbook</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}</body></html>\n'


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
