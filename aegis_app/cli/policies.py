"""`aegis policies`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_app.cli import options

if TYPE_CHECKING:
    from aegis_app.core.policy import Policy


@click.group()
def policies() -> None:
    """What counts as suspicious, and what is asked for then.

    Example: aegis policies show
    """


@policies.command()
@options.as_json
def show(as_json: bool) -> None:
    """Print the policy in force, every default written out: that of AEGIS_POLICY, or the packaged one.

    Example: AEGIS_POLICY=policy.toml aegis policies show
    """
    from aegis_app.policies import load_policy

    _print(load_policy(options.settings_with()), as_json)


@policies.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@options.as_json
def check(file: Path, as_json: bool) -> None:
    """Read a policy file and print what it means; exits with 1 and names the line if it is wrong.

    Example: aegis policies check policy.toml
    """
    from aegis_app.core.policy import PolicyError, parse_policy

    try:
        text = (click.get_binary_stream("stdin").read() if file == options.DASH else file.read_bytes()).decode()
    except UnicodeDecodeError as error:
        raise PolicyError(f"{file} is not UTF-8: {error}") from None
    _print(parse_policy(text, "stdin" if file == options.DASH else str(file)), as_json)


def _print(policy: "Policy", as_json: bool) -> None:
    described = policy.described()
    texts = {clause.rule.name: clause.rule.text for clause in policy.clauses}
    if as_json:
        rules = [{"rule": name, "text": texts[name], **rule} for name, rule in described["rules"].items()]
        options.print_json({"policy": policy.version} | described | {"rules": rules})
        return
    effect = "outcomes are what it asks for" if policy.enforces else "every outcome is allow, what it asks for stands beside it"
    click.echo(f"policy {policy.version}, {described['mode']}: {effect}\nwhen a rule fails: {described['on_failure']}\n")
    for clause in policy.clauses:
        state = {"on": f"asks for {clause.asks}", "shadow": f"in shadow (would ask for {clause.asks})", "off": "off"}[clause.state]
        click.echo(f"{clause.rule.name}: {state}\n    {clause.rule.text}")
        for name, value, meaning in _limits(clause.limits):
            click.echo(f"    {name} = {value}  # {meaning}")


def _limits(limits: Any) -> list[tuple[str, Any, str]]:
    """Name, value and meaning with unit of each limit."""
    import msgspec

    kind = type(limits)
    properties = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    return [(name, getattr(limits, name), properties[name].get("description", "")) for name in kind.__struct_fields__]
