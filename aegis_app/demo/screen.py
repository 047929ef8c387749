"""The live screen, from a frozen scene: no I/O, no clock."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from iso4217 import Currency
from msgspec import Struct
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from aegis_app.demo.tally import KINDS, Count, Flagged, Stopped, briefly, share, total, words

REASONS_SHOWN: Final = 2
FRAME: Final = "grey42"
QUIET: Final = "grey62"
BEHIND_SECONDS: Final = 2.0
"""The worker is behind, and the screen says so, where more payments wait than it decides in so long."""


class Scene(Struct, frozen=True):
    """Everything that the screen shows."""

    running: float
    """Seconds since the first payment."""
    left: float | None
    """Seconds until the end; `None` where only Ctrl-C ends it."""
    rate: float
    """Decisions a second."""
    p50: float | None
    p99: float | None
    """Seconds."""
    genuine: Count
    frauds: tuple[Count, ...]
    """In the order of `KINDS`."""
    blocked: tuple[Stopped, ...]
    """The latest first."""
    simulated: datetime | None
    passed: timedelta
    """Of simulated time since the first payment."""
    cards: int
    url: str
    card: str | None
    """One to look at."""
    models: str
    """Whether they serve."""
    layers: tuple[Flagged, ...]
    """What each would have stopped; none while no models serve."""
    trial: Path | None = None
    """A shell's file that pays at the gateway."""
    waiting: int = 0
    """Payments sent and not decided yet."""

    @property
    def caught(self) -> Count:
        """Frauds of every kind."""
        return total(self.frauds)

    @property
    def all(self) -> Count:
        return total([self.genuine, *self.frauds])


def render(scene: Scene) -> RenderableType:
    """Fills the screen; made for 100 by 30, the latest blocked payments take what is more or less."""
    layout = Layout()
    layout.split_column(
        Layout(_head(scene), size=3),
        Layout(name="figures", size=4),
        Layout(name="middle", size=len(KINDS) + 4),
        Layout(_blocked(scene.blocked, scene.url), minimum_size=4),
    )
    layout["figures"].split_row(*(Layout(tile) for tile in _tiles(scene)))
    layout["middle"].split_row(Layout(_truth(scene), ratio=3), Layout(_views(scene), ratio=2))
    return layout


def _head(scene: Scene) -> RenderableType:
    ends = "Ctrl-C ends it" if scene.left is None else f"{clock(scene.left)} to go"
    line = Table.grid(expand=True)
    line.add_column(no_wrap=True)
    line.add_column(justify="right", no_wrap=True, style=QUIET)
    line.add_row(Text("Aegis decides card payments as they come", style="bold"), f"running {clock(scene.running)} · {ends}")
    lines = [Text(_time(scene), style=QUIET, no_wrap=True, overflow="ellipsis")]
    if scene.trial is not None:
        lines.append(Text.assemble("Pay at the gateway yourself: ", (f"sh {scene.trial}", "cyan"), style=QUIET, no_wrap=True))
    return Padding(Group(line, *lines), (0, 1))


def _time(scene: Scene) -> str:
    who = f"{scene.cards:,} simulated cardholders"
    if scene.simulated is None or scene.running <= 0:
        return who
    times = scene.passed.total_seconds() / scene.running
    return f"{who}. Their time: {scene.simulated:%-d %b %Y, %H:%M} UTC, {times:,.0f} times as fast as yours"


def _tiles(scene: Scene) -> list[RenderableType]:
    every, pace = scene.all, f"{scene.rate:,.0f} a second"
    if scene.waiting > BEHIND_SECONDS * scene.rate:
        pace = f"{scene.waiting:,} waiting"
    return [
        _tile("payments", f"{every.payments:,}", pace, "cyan"),
        _tile("allowed", f"{every.allowed:,}", share(every.allowed, every.payments), "green"),
        _tile("for review", f"{every.reviewed:,}", share(every.reviewed, every.payments), "yellow"),
        _tile("blocked", f"{every.blocked:,}", share(every.blocked, every.payments), "red"),
        _tile("send to decision", f"p50 {briefly(scene.p50)}", f"p99 {briefly(scene.p99)}", "magenta"),
    ]


def _tile(title: str, figure: str, below: str, colour: str) -> RenderableType:
    lines = Text(no_wrap=True, overflow="ellipsis")
    return _section(title, lines.append(figure, style=f"bold {colour}").append(f"\n{below}", style=QUIET))


def _truth(scene: Scene) -> RenderableType:
    """What was decided, row by row against what it really was."""
    table = Table(box=None, expand=True, padding=0, header_style=QUIET)
    table.add_column("in truth", no_wrap=True, ratio=2)
    for name in ("allowed", "review", "blocked", "stopped"):
        table.add_column(name, justify="right", no_wrap=True, ratio=1)
    rows = [*((words(kind), count, "red", "green", "green") for kind, count in zip(KINDS, scene.frauds, strict=True))]
    rows += [("genuine", scene.genuine, "green", "yellow", "red")]
    for name, count, *colours in rows:
        numbers = zip((count.allowed, count.reviewed, count.blocked), colours, strict=True)
        cells = [Text(f"{number:,}", style=colour if number else FRAME) for number, colour in numbers]
        table.add_row(name, *cells, Text(share(count.stopped, count.payments), style="bold"))
    caught, genuine = scene.caught, scene.genuine
    title = f"frauds caught {caught.stopped:,} of {caught.payments:,}, false alarms {genuine.stopped:,} of {genuine.payments:,}"
    return _section(title, table)


def _views(scene: Scene) -> RenderableType:
    pages = {"/health": "is it well", "/rules": "the policy", "/bundle": "the models", "/metrics": "all figures"}
    if scene.card is not None:
        pages[f"/cards/{scene.card}"] = "one card"
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(style=QUIET, no_wrap=True)
    for path, text in pages.items():
        grid.add_row(Text(path, style=f"cyan link {scene.url}{path}"), text)
    return Group(_section(f"views on {scene.url}", grid), _section("layers: frauds seen, false alarms", _layers(scene)))


def _layers(scene: Scene) -> RenderableType:
    if not scene.layers:
        return Text(scene.models, style=QUIET)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True, style="green")
    grid.add_column(justify="right", no_wrap=True, style="yellow")
    for each in scene.layers:
        grid.add_row(words(each.layer), share(each.frauds, each.all_frauds), share(each.genuine, each.all_genuine))
    return grid


def _blocked(stopped: Sequence[Stopped], url: str) -> RenderableType:
    lines = Table.grid(expand=True, padding=(0, 2))
    lines.add_column(justify="right", no_wrap=True)
    lines.add_column(justify="right", no_wrap=True)
    lines.add_column(no_wrap=True)
    lines.add_column(ratio=1)
    for each in stopped:
        txn = each.transaction
        lines.add_row(
            Text(f"{txn.timestamp:%-d %b %H:%M}", style=f"{QUIET} link {url}/cards/{txn.card_id}"),
            Text(money(txn.amount_minor, txn.currency), style="bold"),
            _verified(each),
            Text("\n").join(Text(reason.text, style=QUIET if rank else "") for rank, reason in enumerate(each.reasons[:REASONS_SHOWN])),
        )
    return _section("cards blocked last, and why", lines)


def _verified(stopped: Stopped) -> Text:
    """Whether it was right to block."""
    text = Text("✗ genuine", style="yellow") if stopped.fraud is None else Text(f"✓ {words(stopped.fraud)}", style="green")
    return text.append(f" \N{MULTIPLICATION SIGN}{stopped.times}", style=QUIET) if stopped.times > 1 else text


def _section(title: str, inside: RenderableType) -> RenderableType:
    """No frame at its sides: those would be broken lines in the picture."""
    return Padding(Group(Rule(Text(title), align="left", style=FRAME), inside), (0, 1))


def money(minor: int, currency: str) -> str:
    digits = Currency(currency).exponent or 0
    return f"{minor / 10**digits:,.{digits}f} {currency}"


def clock(running: float) -> str:
    minutes, rest = divmod(int(running), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
