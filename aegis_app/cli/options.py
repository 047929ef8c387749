"""What several commands share: their options, their files, and the count that a terminal shows."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BufferedReader
from os.path import realpath, samefile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import click

if TYPE_CHECKING:
    from aegis_app.core.payment import Transaction
    from aegis_app.core.policy import Policy
    from aegis_app.core.rates import Rates
    from aegis_app.settings import Settings
    from models.datasets import Survey

DASH: Final = Path("-")
TRAIN: Final = "in the checkout, pip install --require-hashes -r requirements/train.txt"
"""How to get what trains."""


class _File(click.Path):
    """A file of a command. One that it writes must be none of its others, which would be gone before it is read."""

    def __init__(self, *, written: bool, allow_dash: bool = False) -> None:
        super().__init__(exists=not written, dir_okay=False, allow_dash=allow_dash, path_type=Path)
        self._written = written

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = cast(Path, super().convert(value, param, ctx))
        if self._written and not path.parent.is_dir():  # said now, not when the work is done
            self.fail(f"{path}: its directory does not exist; make it first", param, ctx)
        if param is not None and ctx is not None:
            tell_apart(ctx, param.get_error_hint(ctx).strip("'"), path, written=self._written)
        return path


def tell_apart(ctx: click.Context, name: str, path: Path, *, written: bool = False) -> None:
    """Refuse a file that is one of those before it, where either is written."""
    files: list[tuple[str, Path, bool]] = ctx.meta.setdefault(__name__, [])
    for other, its, is_written in files:
        if (written or is_written) and other != name and _are_same(path, its):
            raise click.UsageError(f"{other} and {name} are the same file, {path}: nothing was written", ctx)
    files.append((name, path, written))


def _are_same(one: Path, other: Path) -> bool:
    """Devices and pipes may be named twice."""
    if DASH in (one, other):
        return False
    try:
        return samefile(one, other) and one.is_file()
    except OSError:
        return realpath(one) == realpath(other)


def _mapping(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and Path(value).is_file():
        tell_apart(ctx, "--format", Path(value))
    return value


existing = _File(written=False)
output = _File(written=True, allow_dash=True)
output_file = _File(written=True)
"""One that is no pipe: parquet, or a page."""
judging = click.option("--labels", type=existing, help="What DATA does not say itself: JSON lines or parquet, as for `aegis train`.")
maturity = click.option(
    "--maturity", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Days until no label in --labels means genuine."
)
instant = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
"""A day's first moment, or a second; UTC. As the command has it: `instant_ms`."""


def _address(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and value.split() != [value]:
        raise click.BadParameter("an address is host:port; several are separated by commas, without spaces")
    return value


broker = click.option("--broker", metavar="HOST:PORT", callback=_address, help="Kafka to talk to; AEGIS_BROKER where not given.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
source = click.argument("source", metavar="FILE", type=_File(written=False, allow_dash=True))
layout = click.option(
    "--format",
    "layout",
    metavar="NAME",
    callback=_mapping,
    help="What the columns of FILE are: a name of `aegis datasets`, or a mapping file; found if not given.",
)
bundle = click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Models that decide beside the rules: the directory of a bundle; AEGIS_BUNDLE where not given.",
)


def _user(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str:
    if value is not None:
        return value
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise click.BadParameter("this user has no name here; say who you are: --by NAME") from None


by = click.option("--by", metavar="NAME", callback=_user, help="Who does this, for the record; the user of this machine where not given.")


def settings_with(**given: Any) -> "Settings":
    """The settings of the environment, those that the command line gives in their place."""
    import msgspec

    from aegis_app.settings import settings

    # What aiokafka has to say about a broker that is away is ours to tell, in one line.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    chosen = msgspec.structs.replace(settings(), **{name: value for name, value in given.items() if value is not None})
    ctx = click.get_current_context()
    ctx.find_root().obj = chosen
    for name, value in msgspec.structs.asdict(chosen).items():
        if isinstance(value, Path):
            tell_apart(ctx, f"AEGIS_{name.upper()}", value)
    return chosen


def opened(path: Path) -> Path | BinaryIO:
    """`path`, or stdin for `-`."""
    return _stdin() if path == DASH else path


def _stdin() -> BinaryIO:
    """With a buffer of its own: where a thread waits for that of `sys.stdin`, Python aborts when it ends."""
    stdin = click.get_binary_stream("stdin")
    return BufferedReader(stdin.raw) if isinstance(stdin, BufferedReader) else stdin


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """`path`, or stdin for `-`; closed afterwards if it is a file."""
    if path == DASH:
        yield _stdin()
    else:
        with path.open("rb") as file:
            yield file


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """`path` anew, or stdout for `-`."""
    if path == DASH:
        out = click.get_binary_stream("stdout")
        yield out
        out.flush()
    else:
        with path.open("wb", buffering=1 << 20) as file:
            try:
                yield file
            except KeyboardInterrupt:
                click.echo(f"{path} holds what was written until Ctrl-C, and is not whole", err=True)
                raise


@contextmanager
def counting(doing: str, total: int | None = None) -> Iterator[Callable[[int], object]]:
    """A line on stderr, on a terminal alone, that counts what is done; call what it yields with each further number."""
    if not sys.stderr.isatty():
        yield lambda number: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

    console = Console(stderr=True)
    ahead = (SpinnerColumn(), TextColumn("{task.completed:,.0f}")) if total is None else (BarColumn(), MofNCompleteColumn())
    with Progress(TextColumn(doing), *ahead, TaskProgressColumn(show_speed=True), console=console, transient=True) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda number: progress.advance(task, number)


def report(survey: "Survey", source: Path) -> None:
    """On stderr, what a table lacked."""
    for line in survey.lines():
        click.echo(f"{source}: {line}", err=True)


def noting_unrated(payments: "Iterable[Transaction]", rates: "Rates", unrated: Counter[str]) -> "Iterator[Transaction]":
    """`payments`; those in currencies without a rate are counted by currency on the way, for `report_unrated`."""
    for txn in payments:
        if not rates.knows(txn.currency):
            unrated[txn.currency] += 1
        yield txn


def report_unrated(payments: Mapping[str, int]) -> None:
    """On stderr, payments in currencies without a rate, by currency."""
    if payments:
        named = sorted(payments, key=lambda currency: (-payments[currency], currency))
        currencies = ", ".join(named[:5]) + (", …" if len(named) > 5 else "")
        have = "has" if sum(payments.values()) == 1 else "have"
        click.echo(
            f"{number_of(sum(payments.values()), 'payment')} in {currencies} {have} no rate (AEGIS_RATES): amounts not compared", err=True
        )


def report_silence(policy: "Policy", name: str, *, bundle: bool = False) -> None:
    """On stderr, that a policy asks for nothing."""
    from aegis_app.policies import silence

    if (sentence := silence(policy, name, bundle=bundle)) is not None:
        click.echo(sentence, err=True)


def number_of(number: int, noun: str) -> str:
    """1 payment, 1,000 payments; 2 entries."""
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else many}"


def instant_ms(at: datetime) -> int:
    """Milliseconds since 1970 of an `instant`."""
    return int(at.replace(tzinfo=UTC).timestamp() * 1000)


def moment(at: datetime) -> str:
    """A time as people read it, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def print_json(value: Any) -> None:
    """One line of JSON."""
    import msgspec

    click.echo(msgspec.json.encode(value))
