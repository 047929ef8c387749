"""`aegis topics`."""

import asyncio

import click

from aegis_app.cli import options
from aegis_app.cli.errors import Failure


@click.group()
def topics() -> None:
    """The topics on Kafka.

    Example: aegis topics check
    """


@topics.command()
@options.broker
@options.as_json
def create(broker: str | None, as_json: bool) -> None:
    """Make the topics that are missing; leave the others alone.

    Example: AEGIS_PARTITIONS=16 AEGIS_REPLICATION=3 aegis topics create --broker kafka-1:9092
    """
    settings = options.settings_with(broker=broker)
    from aegis_app import admin

    made = asyncio.run(admin.create(settings))
    if as_json:
        options.print_json({"created": made})
    else:
        click.echo("\n".join(f"created {name}" for name in made) or "every topic is there")


@topics.command()
@options.broker
@options.as_json
def check(broker: str | None, as_json: bool) -> None:
    """Say what does not fit. Missing topics, unequal partitions, too few copies, settings, another base currency. Exits with 1 if anything.

    Example: aegis topics check --json
    """
    settings = options.settings_with(broker=broker)
    from aiokafka.errors import KafkaError

    from aegis_app import admin
    from aegis_app.deployment import check_base_currency
    from aegis_app.settings import SettingsError

    problems = asyncio.run(admin.check(settings))
    try:
        asyncio.run(check_base_currency(settings))
    except SettingsError as error:
        problems.append(str(error))
    except KafkaError as error:
        problems.append(f"whether the base currency fits is not known: {error or type(error).__name__}")
    if as_json:
        options.print_json({"problems": problems})
    else:
        click.echo("\n".join(problems) or "the topics are as they should be")
    if problems:
        raise Failure(f"{len(problems)} problems with the topics on {settings.broker}")


@topics.command()
@click.argument("name")
def schema(name: str) -> None:
    """Print the JSON Schema of the records on a topic.

    NAME is transactions, labels, decisions, history, lists, policies, bundles, fallbacks or deployment.

    Example: aegis topics schema decisions > decisions.schema.json
    """
    import msgspec

    from aegis_app.schemas import RECORDS
    from aegis_app.schemas import schema as schema_of

    known = {str(topic): topic for topic in RECORDS}
    if name not in known:
        raise click.UsageError(f"no schema of {name!r}; there are those of {', '.join(known)}")
    click.echo(msgspec.json.format(msgspec.json.encode(schema_of(known[name])), indent=2))
