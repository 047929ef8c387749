"""`aegis kafka` and `aegis demo`: everything on one machine."""

from pathlib import Path

import click

from aegis_app.cli import options


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port to serve on; 9092, or a free one, where not given.")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), default="var/kafka", show_default=True, help="Where to keep its data."
)
def kafka(port: int | None, data: Path) -> None:
    """Run a real Kafka on this machine until Ctrl-C. Its data stay for the next time. The first time downloads 44 MB.

    Example: aegis kafka --port 19092
    """
    settings = options.settings_with()
    from aegis_app.kafka import run

    run(settings, data, port)


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    help="End by itself after so long (models join after 60 to 120); exits with 0 only if all went well.",
)
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Leave data and logs in this new directory.")
@click.option("--picture", type=options.output_file, metavar="FILE", help="Draw the last screen as SVG.")
@click.option("--models/--no-models", "with_models", default=True, help="Train a bundle meanwhile, and serve it; or leave it at rules.")
def demo(seconds: float | None, keep: Path | None, picture: Path | None, with_models: bool) -> None:
    """Watch Aegis decide simulated payments. On a Kafka of its own, or that of AEGIS_BROKER; Ctrl-C ends it.

    Rules decide first. Models are trained on the cardholders' past meanwhile, and join them after a minute or so.

    Example: aegis demo --seconds 30
    """
    settings = options.settings_with()
    from aegis_app.demo import run

    run(settings, seconds, keep, picture, with_models=with_models)
