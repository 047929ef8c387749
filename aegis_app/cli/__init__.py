"""The commands. A command parses, calls one function and prints; what is heavy is imported inside it."""

from typing import Any

import click

from aegis_app.cli import (
    alerts,
    backtest,
    bundles,
    cards,
    datasets,
    dead_letters,
    evaluate,
    gateway,
    ledger,
    lists,
    local,
    offline,
    policies,
    sending,
    simulating,
    topics,
    training,
)
from aegis_app.cli.errors import Failure, explain
from aegis_app.version import VERSION


class Commands(click.Group):
    """A failure that can be expected is one line on stderr; any other shows where it happened."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except Exception as error:
            sentence = explain(error, ctx.obj)
            if sentence is None:
                raise
            raise Failure(sentence) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="aegis")
def main() -> None:
    """Aegis decides card payments: payments in, decisions out, on Faust and Kafka.

    Settings come from AEGIS_* variables. A worker is started with `faust -A aegis_app worker`.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C.

    Example: aegis demo
    """


for command in (
    local.demo,
    local.kafka,
    topics.topics,
    policies.policies,
    lists.lists,
    dead_letters.dead_letters,
    alerts.alerts,
    cards.cards,
    simulating.simulate,
    sending.send,
    sending.warm,
    offline.decide,
    offline.features,
    datasets.datasets,
    backtest.backtest,
    training.train,
    bundles.bundles,
    evaluate.evaluate,
    gateway.gateway,
    gateway.keys,
    ledger.ledger,
):
    main.add_command(command)
