"""`aegis cards`."""

import asyncio
from collections.abc import Mapping

import click

from aegis_app.cli import options


@click.group()
def cards() -> None:
    """What is remembered about cards. To look at one, ask a worker: /cards/CARD_ID on its port.

    Example: aegis cards erase tok_83f1
    """


@cards.command()
@click.argument("card_id", metavar="CARD_ID")
@options.broker
@options.as_json
def erase(card_id: str, broker: str | None, as_json: bool) -> None:
    """Forget a card. The worker that holds it deletes all that it remembers of it. Its next payment is its first.

    What was written to Kafka's logs stays there until their retention ends, and is listed.

    Example: aegis cards erase tok_83f1
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.admin import retentions
    from aegis_app.send import erase as ask_to_erase

    asyncio.run(ask_to_erase(settings, card_id))
    kept = asyncio.run(retentions(settings))
    if as_json:
        options.print_json({"card_id": card_id, "kept_in_ms": kept})
        return
    click.echo(f"{card_id}: asked its worker to forget it. What was written before stays in Kafka's logs:")
    for topic, said in _remains(kept).items():
        click.echo(f"  {topic}: {said}")
    click.echo("Entries of lists that name it stay as well: aegis lists show deny card, and watch, and allow")
    click.echo(f"So does what the ledger holds of it, if you keep one: aegis ledger erase {card_id}")


def _remains(kept: Mapping[str, int | None]) -> dict[str, str]:
    """When each log is rid of the card, in words."""
    said = {}
    for topic, milliseconds in kept.items():
        if milliseconds is None:
            said[topic] = "until it is compacted, which keeps the deletion alone"
        elif milliseconds < 0:
            said[topic] = "for ever: it has no retention"
        else:
            said[topic] = f"until {milliseconds / 86_400_000:.3g} days after each record was written"
    return said
