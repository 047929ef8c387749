"""`aegis ledger`."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_app.cli import options
from aegis_app.cli.errors import Failure

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from aegis_app.settings import Settings

GATEWAY = "in the checkout, pip install --require-hashes -r requirements/gateway.txt"
"""How to get what speaks SQL."""


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in {"sqlalchemy", "alembic", "psycopg", "stamina"}:
                raise Failure(f"the ledger needs {error.name}: {GATEWAY}") from error
            raise


@click.group(cls=_Group)
def ledger() -> None:
    """Every decision and label in SQL. A file of SQLite, or the PostgreSQL of AEGIS_LEDGER.

    Example: aegis ledger migrate
    """


@ledger.command()
def migrate() -> None:
    """Make the ledger's tables, or bring them up to date. Its rows stay.

    Example: aegis ledger migrate
    """
    settings = options.settings_with()
    from aegis_app.ledger.database import opened, shown
    from aegis_app.ledger.migrating import migrate as bring_up_to_date

    with opened(settings) as engine:
        before, after = bring_up_to_date(engine)
    said = f"has schema {after}" if before == after else f"now has schema {after}" + ("" if before is None else f", before {before}")
    click.echo(f"{shown(engine.url)} {said}")


@ledger.command()
@click.option("--port", type=click.IntRange(1, 65535), default=6067, show_default=True, help="Of /health and /metrics, on AEGIS_WEB_HOST.")
@options.broker
def run(port: int, broker: str | None) -> None:
    """Write what comes on decisions and labels, until Ctrl-C. Several share the partitions.

    A database that is away holds up nothing but this: Kafka keeps what comes, and it is read on where the ledger ends.

    Example: aegis ledger run
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.sinks.ledger import run as keep

    keep(settings, port)


@ledger.command()
@click.option("--keep-days", type=click.IntRange(min=1), required=True, help="Payments older than this go, by their own time.")
@options.as_json
def prune(keep_days: int, as_json: bool) -> None:
    """Delete old payments, with what was decided and said about them. Can be stopped, and run beside the writer.

    Example: aegis ledger prune --keep-days 730
    """
    settings = options.settings_with()
    from aegis_app.ledger.store import prune as delete_before

    before = datetime.now(UTC) - timedelta(days=keep_days)
    rows = 0
    with _migrated(settings) as engine, options.counting("deleting rows") as show:
        for gone in delete_before(engine, before):
            rows += gone
            show(gone)
    if as_json:
        options.print_json({"before": before, "rows": rows})
    else:
        click.echo(f"{options.number_of(rows, 'row')} about payments before {options.moment(before)} deleted")


@ledger.command()
@options.as_json
def recount(as_json: bool) -> None:
    """Count the totals of days anew. Writers wait meanwhile.

    Wanted where a writer of an older version went on beside newer ones.

    Example: aegis ledger recount
    """
    settings = options.settings_with()
    from aegis_app.ledger.totals import recount as count_anew

    with _migrated(settings) as engine:
        before, now = count_anew(engine)
    if as_json:
        options.print_json({"before": before, "payments": now})
    else:
        click.echo(f"{options.number_of(now, 'payment')} counted; the totals had {before:,}")


@ledger.command()
@click.argument("card_id", metavar="CARD_ID")
@options.as_json
def erase(card_id: str, as_json: bool) -> None:
    """Delete all that the ledger holds about a card. Do so after `aegis cards erase` had its worker forget it.

    A ledger that is made anew reads again what Kafka's logs still hold: `aegis cards erase` says until when.

    Example: aegis ledger erase tok_83f1
    """
    settings = options.settings_with()
    from aegis_app.ledger.store import erase as delete_card

    with _migrated(settings) as engine:
        rows = delete_card(engine, card_id)
    if as_json:
        options.print_json({"card_id": card_id, "rows": rows})
    else:
        click.echo(f"{card_id}: {options.number_of(rows, 'row')} deleted")


_DAY = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


@ledger.command()
@click.option("--since", type=_DAY, required=True, help="First moment of payments, UTC.")
@click.option("--until", type=_DAY, help="First moment after them, UTC.")
@click.option("--described", is_flag=True, help="Only payments whose decision carries its features (AEGIS_FEATURE_SHARE).")
@click.option("--out", type=options.output_file, required=True, help="A parquet file: a row for each payment.")
@click.option("--labels", type=options.output_file, help="A second one: verdicts, and since when they are known.")
def export(since: datetime, until: datetime | None, described: bool, out: Path, labels: Path | None) -> None:
    """Write payments to train on. With their features, what was decided and what they turned out to be.

    Features stand in the columns of `aegis features`. `aegis train OUT --labels LABELS` reads the two files.

    Example: aegis ledger export --since 2026-01-01 --described --out payments.parquet --labels labels.parquet
    """
    settings = options.settings_with()
    from aegis_app.ledger.database import ledger_url
    from aegis_app.ledger.export import export as write

    url = ledger_url(settings)
    if url.get_backend_name() == "sqlite":
        options.tell_apart(click.get_current_context(), "AEGIS_LEDGER", Path(url.database or ""))
    with _migrated(settings) as engine, options.counting("exporting payments") as show:
        number = write(engine, out, _utc(since), None if until is None else _utc(until), described=described, labels=labels, show=show)
    click.echo(f"{options.number_of(number, 'payment')} written to {out}", err=True)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


@contextmanager
def _migrated(settings: "Settings") -> Iterator["Engine"]:
    """A ledger with the schema of this version."""
    from aegis_app.ledger.database import opened
    from aegis_app.ledger.migrating import check_is_migrated

    with opened(settings) as engine:
        check_is_migrated(engine)
        yield engine
