"""`aegis gateway` and `aegis keys`: the public HTTP API, and who may use it."""

from pathlib import Path
from typing import Final

import click

from aegis_app.cli import options
from aegis_app.cli.errors import Failure

GATEWAY: Final = "in the checkout, pip install --require-hashes -r requirements/gateway.txt"
"""How to get what serves."""
PER_SECOND: Final = 2000


@click.command()
@click.option("--host", metavar="ADDRESS", help="Where to listen; AEGIS_GATEWAY_HOST where not given.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to serve on; AEGIS_GATEWAY_PORT where not given.")
@options.broker
def gateway(host: str | None, port: int | None, broker: str | None) -> None:
    """Serve the HTTP API: payments in, decisions out. Until Ctrl-C. It keeps nothing: run as many as you like.

    It wants topics (`aegis topics create`) and a key (`aegis keys create`); workers decide. What it offers is at /docs.

    Example: aegis gateway --port 8080
    """
    settings = options.settings_with(gateway_host=host, gateway_port=port, broker=broker)
    try:
        from aegis_app.gateway.server import run
    except ImportError as error:
        raise Failure(f"the gateway needs {error.name}: {GATEWAY}") from error

    run(settings)


@click.group()
def keys() -> None:
    """Keys of the gateway's callers. The file of AEGIS_KEYS holds their hashes alone.

    Example: aegis keys create --name checkout --scope score
    """


@keys.command()
@click.option("--name", required=True, metavar="NAME", help="Whose key it is, at most 64 characters; its verdicts are signed so.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(["score", "label", "read"]),
    help="What it is good for; may be given several times.",
)
@click.option(
    "--per-second", default=PER_SECOND, show_default=True, type=click.IntRange(1, 1_000_000), help="Payments that one gateway takes of it."
)
@options.as_json
def create(name: str, scopes: tuple[str, ...], per_second: int, as_json: bool) -> None:
    """Make a key, and print it: this once. Gateways know it within a second.

    Example: aegis keys create --name checkout --scope score --per-second 500
    """
    path = options.settings_with().keys
    from aegis_app.keys import Scope
    from aegis_app.keys import create as make

    made = make(path, name, [Scope(scope) for scope in scopes], per_second)
    if as_json:
        options.print_json({"id": made.key.id, "key": made.secret})
        return
    click.echo(made.secret)
    click.echo(f"{made.key.id}: for {name}, kept as a hash in {path}. The key itself is shown this once.", err=True)


@keys.command("list")
@options.as_json
def list_keys(as_json: bool) -> None:
    """List keys, those that were revoked too.

    Example: aegis keys list
    """
    path: Path = options.settings_with().keys
    from aegis_app.keys import read

    found = read(path)
    if as_json:
        options.print_json([{name: getattr(key, name) for name in key.__struct_fields__ if name != "sha256"} for key in found])
        return
    if not found:
        click.echo(f"{path} holds no keys; make one with `aegis keys create`", err=True)
    for key in found:
        state = "" if key.revoked_at is None else f"  revoked {key.revoked_at:%Y-%m-%d %H:%M}"
        click.echo(f"{key.id}  {key.name}  {','.join(key.scopes)}  {key.per_second:,}/s  since {key.created_at:%Y-%m-%d}{state}")


@keys.command()
@click.argument("identity", metavar="ID")
def revoke(identity: str) -> None:
    """End a key; gateways refuse it within a second.

    Example: aegis keys revoke 3f9a01bc
    """
    path: Path = options.settings_with().keys
    from aegis_app.keys import revoke as end

    key = end(path, identity)
    click.echo(f"{key.id} of {key.name} is revoked")
