"""`aegis datasets`: which files can be read, and what is in one."""

from pathlib import Path

import click

from aegis_app.cli import options
from aegis_app.cli.errors import Failure
from aegis_app.progress import counted


@click.command()
@click.argument("source", metavar="[FILE]", type=options.existing, required=False)
@options.layout
@options.as_json
def datasets(source: Path | None, layout: str | None, as_json: bool) -> None:
    """List formats of files, or say what FILE holds and lacks. It is read whole.

    Of each field that a payment may do without it tells how many have it; and which fields are none of a payment's, as misspelt ones,
    are empty, or out of range.

    Commands that take a file take these, in .parquet and .csv. Columns tell which format it is; --format is for the others: a name of
    this list, or a mapping file, which says what the columns of any table are (docs/schema.md).

    Example: aegis datasets payments.csv --format mapping.toml
    """
    settings = options.settings_with()
    from models.datasets import LAYOUTS, Survey, read_payments
    from models.datasets.content import content

    if source is None:
        known = [{"format": each.name, "is": each.title, "columns": list(each.required)} for each in LAYOUTS]
        if as_json:
            options.print_json(known)
        else:
            for each in known:
                click.echo(f"{each['format']:10}{each['is']}\n{'':10}{', '.join(each['columns'])}")
            click.echo(f"{'a .toml':10}any other, by a mapping file: docs/schema.md")
        return
    survey = Survey()
    with options.counting("reading") as count:
        held = content(counted(read_payments(source, format=layout, currency=settings.base_currency, survey=survey), count))
    if held.first is None or held.last is None:
        raise Failure(f"{source} holds no payment")
    dropped = {name: {"number": each.number, "first": each.place, "reason": each.reason} for name, each in survey.dropped.items()}
    if as_json:
        options.print_json(
            {
                "held": held,
                "unknown": survey.unknown | dict.fromkeys(survey.unread, held.payments),
                "missing": survey.missing,
                "left_out": dropped,
                "warnings": sorted(survey.warnings),
            }
        )
        return
    payments, cards, merchants, frauds = map(
        options.number_of, (held.payments, held.cards, held.merchants, held.frauds), ("payment", "card", "merchant", "fraud")
    )
    genuine = held.payments - held.unlabelled - held.frauds
    click.echo(f"{payments} of {cards} at {merchants}: {frauds}, {genuine:,} genuine, {held.unlabelled:,} unlabelled")
    click.echo(
        f"from {options.moment(held.first)} to {options.moment(held.last)}" + ("" if held.in_order else ", not in the order of time")
    )
    click.echo("currencies: " + ", ".join(f"{name} {number:,}" for name, number in sorted(held.currencies.items())))
    if held.attributes:
        click.echo(f"attributes: {', '.join(sorted(held.attributes))}")
    given = [f"{name} {_share(number, held.payments)}" for name, number in held.fields.items() if number]
    lacking = [name for name, number in held.fields.items() if not number]
    click.echo("fields: " + (", ".join(given) or "none that a payment may do without") + (f"; no {', '.join(lacking)}" if lacking else ""))
    for line in survey.lines():
        click.echo(line)


def _share(number: int, of: int) -> str:
    """In whole percent; all and none only where it is so."""
    return f"{min(99, max(1, round(100 * number / of))) if number < of else 100} %"
