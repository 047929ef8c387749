"""`aegis policies`."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_app.cli import options

if TYPE_CHECKING:
    from aegis_app.core.policy import Policy
    from aegis_app.policies import InForce, Policies
    from aegis_app.settings import Settings

policy_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))

local = click.option(
    "--local", is_flag=True, help="Where nothing is published: publish that of AEGIS_POLICY here, or the packaged one, in this mode."
)


@click.group()
def policies() -> None:
    """What counts as suspicious, and what is asked for then.

    Example: aegis policies show
    """


@policies.command()
@click.option("--local", is_flag=True, help="Ask no Kafka: what is in force while nothing is published.")
@click.option("--toml", is_flag=True, help="Print its file as it is, comments included: the way to begin one of your own.")
@options.broker
@options.as_json
def show(local: bool, toml: bool, broker: str | None, as_json: bool) -> None:
    """Print the policy in force, and where it comes from. Every default is written out.

    That is the one published last; while none is, that of AEGIS_POLICY, or the packaged one.

    Example: aegis policies show --local --toml > policy.toml
    """
    if toml and as_json:
        raise click.UsageError("--toml and --json exclude each other")
    settings = options.settings_with(broker=broker)
    from aegis_app.policies import local_policy

    now = local_policy(settings) if local else _in_force(settings)[1]
    if toml:
        click.echo(now.text, nl=False)
        return
    _print(now.policy, as_json, now.source())


@policies.command()
@policy_file
@options.as_json
def check(file: Path, as_json: bool) -> None:
    """Read a policy file and print what it means. Exits with 1 and names the line if it is wrong.

    Example: aegis policies check policy.toml
    """
    from aegis_app.core.policy import parse_policy

    policy = parse_policy(_text(file), _name(file))
    _print(policy, as_json)
    options.report_silence(policy, _name(file))


@policies.command()
@policy_file
@click.option("--note", required=True, help="Why, for the record.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--backtest", "payments", type=options.existing, metavar="PAYMENTS", help="With --dry-run: what would change for these.")
@click.option("--labels", type=options.existing, help="With --backtest: what is fraud; JSON lines with transaction_id and is_fraud.")
@click.option("--yes", is_flag=True, help="Even if it begins or ends enforcing, or switches what FILE says nothing of.")
@options.by
@options.broker
@options.as_json
def publish(
    file: Path,
    note: str,
    dry_run: bool,
    payments: Path | None,
    labels: Path | None,
    yes: bool,
    by: str,
    broker: str | None,
    as_json: bool,
) -> None:
    """Put a policy file in force. Every worker takes it up within 2 seconds, between two chunks of payments.

    With --dry-run nothing is published. With --backtest as well, payments of a file are judged by the policy in force and by this one,
    as `aegis backtest` does. FILE is a whole policy: without a mode it observes, and a rule that it does not name runs in shadow, with
    limits of its own. Begin with `aegis policies show --toml`. To begin or end enforcing, there are `enforce` and `observe`.

    Example: aegis policies publish policy.toml --note "fewer reviews of contactless payments" --dry-run
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.core.policy import PolicyError, parse_policy
    from aegis_app.policies import surprises

    if payments is not None and not dry_run:
        raise click.UsageError("--backtest belongs to --dry-run: look first, then publish")
    if labels is not None and payments is None:
        raise click.UsageError("--labels judge a --backtest; give both")
    text = _text(file)
    policy = parse_policy(text, _name(file))
    now = _in_force(settings)[1]
    surprising = "; ".join(surprises(now.policy, text))
    if surprising and not yes and not dry_run:
        raise PolicyError(
            f"nothing was published, because with {_name(file)} {surprising}. "
            "`aegis policies show --toml` prints what is in force, to begin with; --yes publishes this all the same"
        )
    _publish(settings, now, text, note, by, as_json, dry_run=dry_run)
    if surprising and not yes:
        click.echo(f"without --yes it is not published, because {surprising}", err=True)
    if payments is not None:
        _compare(settings, payments, labels, now, policy, as_json)


@policies.command()
@click.argument("version", required=False)
@click.option("--note", help="Why, for the record.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@options.by
@options.broker
@options.as_json
def rollback(version: str | None, note: str | None, dry_run: bool, by: str, broker: str | None, as_json: bool) -> None:
    """Put an earlier policy in force again, in the mode of now.

    VERSION, or the latest that differs in more than its mode. What only observes still only observes, until `aegis policies enforce`.
    A second time without VERSION leads back to where you were.

    Example: aegis policies rollback --dry-run
    """
    settings = options.settings_with(broker=broker)
    from aegis_app.core.policy import PolicyError
    from aegis_app.policies import with_mode

    published, now = _in_force(settings)
    earlier = published.earlier(version)
    if earlier is None:
        wanted = "earlier policy that differs in more than its mode" if version is None else f"policy {version}"
        raise PolicyError(
            f"there is no {wanted} on {settings.topic_prefix}policies; see `aegis policies history`. What served before the first one is "
            "in no topic: `aegis policies show --local --toml` prints that of AEGIS_POLICY, or the packaged one, to be published"
        )
    mode = now.policy.mode
    text = earlier.text if earlier.policy.mode is mode else with_mode(earlier.text, mode)
    _publish(settings, now, text, note or f"rolled back from {now.policy.version}", by, as_json, dry_run=dry_run)
    if earlier.policy.mode is not mode:
        click.echo(f"its mode was {earlier.policy.mode}; `aegis policies {earlier.policy.mode}` switches to that", err=True)


@policies.command()
@options.broker
@options.as_json
def history(broker: str | None, as_json: bool) -> None:
    """Print the policies that were published. The latest, which is in force, is last.

    Example: aegis policies history
    """
    settings = options.settings_with(broker=broker)
    past = _in_force(settings)[0].past
    for each in past:
        policy, state = each.policy, "in force" if each is past[-1] else "past"
        if as_json:
            options.print_json({"policy": policy.version, "mode": policy.mode, "state": state} | each.source())
        elif each.published is not None:
            by = each.published
            renamed = "" if each.published_as == policy.version else f"  (published as {each.published_as})"
            click.echo(f"{policy.version}  {options.moment(by.at)}  {policy.mode}  {state}  {by.note}  (by {by.author}){renamed}")
    if not past and not as_json:
        click.echo("no policy was published; `aegis policies show` says what is in force")


@policies.command()
@click.option("--note", default="observe", show_default=True, help="Why, for the record.")
@local
@options.by
@options.broker
@options.as_json
def observe(note: str, local: bool, by: str, broker: str | None, as_json: bool) -> None:
    """Stop enforcing, now and everywhere. What is in force is published, but every outcome is allow.

    Refused while nothing is published: what serves then is each worker's own, and need not be what serves here; see --local.

    Example: aegis policies observe --note "blocks too much since 14:00"
    """
    _switch("observe", note, local, by, broker, as_json)


@policies.command()
@click.option("--note", default="enforce", show_default=True, help="Why, for the record.")
@local
@options.by
@options.broker
@options.as_json
def enforce(note: str, local: bool, by: str, broker: str | None, as_json: bool) -> None:
    """Begin to enforce. What is in force is published, but outcomes are what it asks for.

    Refused while nothing is published: what serves then is each worker's own, and need not be what serves here; see --local.

    Example: aegis policies enforce --note "two weeks of observing were fine"
    """
    _switch("enforce", note, local, by, broker, as_json)


def _switch(mode: str, note: str, local: bool, by: str, broker: str | None, as_json: bool) -> None:
    settings = options.settings_with(broker=broker)
    from aegis_app.core.policy import Mode, PolicyError
    from aegis_app.policies import with_mode

    published, now = _in_force(settings)
    if published.latest is not None and local:
        raise PolicyError(f"policy {now.version} is published: `aegis policies {mode}`, without --local, keeps its rules and sets its mode")
    if published.latest is None and not local:
        raise PolicyError(
            f"no policy is published on {settings.topic_prefix}policies: each worker has its own, which this command does not know. "
            f"First `aegis policies publish FILE --note WHY`; or `aegis policies {mode} --local`, which publishes that of {now.origin} here"
        )
    _publish(settings, now, with_mode(now.text, Mode(mode)), note, by, as_json)


def _in_force(settings: "Settings") -> "tuple[Policies, InForce]":
    """What was published; and the latest of it, or what serves while there is nothing."""
    from aegis_app.policies import local_policy, read

    published = asyncio.run(read(settings))
    return published, local_policy(settings) if published.latest is None else published.latest


def _compare(settings: "Settings", payments: Path, labels: Path | None, now: "InForce", policy: "Policy", as_json: bool) -> None:
    """Judge payments by the policy in force and by another, and show how they differ."""
    import msgspec

    from aegis_app.backtest.terminal import show
    from aegis_app.bundles import local_bundle
    from aegis_app.cli.backtest import judged
    from aegis_app.policies import local_terms

    terms = local_terms(settings, local_bundle(settings))
    named = [(f"in force: {now.policy.version}", msgspec.structs.replace(terms, policy=now.policy))]
    if policy != now.policy:
        named.append((f"this one: {policy.version}", msgspec.structs.replace(terms, policy=policy)))
    result, _ = judged(payments, named, labels, token=settings.card_id_is_token)
    options.print_json(result) if as_json else show(result)


def _publish(settings: "Settings", now: "InForce", text: str, note: str, by: str, as_json: bool, *, dry_run: bool = False) -> None:
    """Publish `text` unless it is in force already, and say what that changes about `now`."""
    from aegis_app.core.policy import parse_policy
    from aegis_app.policies import difference, signed
    from aegis_app.policies import publish as put

    policy = parse_policy(text)
    published = signed(text, author=by, note=note, at=datetime.now(UTC))
    differences = difference(now.policy, policy)
    is_news = now.published is None or now.text != text
    offset = None
    if is_news and not dry_run:
        offset = asyncio.run(put(settings, published)).offset
    if as_json:
        changes = [{"entry": name, "was": was, "is": is_now} for name, was, is_now in differences]
        options.print_json({"policy": policy.version, "was": now.policy.version, "changes": changes, "offset": offset})
        return
    click.echo(f"in force was {now.policy.version}, {now.policy.mode}, from {now.origin}")
    for name, was, is_now in differences:
        click.echo(f"    {name}: {_shown(was)} → {_shown(is_now)}")
    if not is_news:
        click.echo("that is in force already: nothing to publish")
    elif dry_run:
        click.echo(f"{policy.version}, {policy.mode}, would be in force: nothing was published")
    else:
        click.echo(f"{policy.version}, {policy.mode}, is in force; workers take it up within 2 seconds")


def _shown(value: Any) -> str:
    return "(none)" if value is None else str(value)


def _text(file: Path) -> str:
    from aegis_app.core.policy import PolicyError

    try:
        return (click.get_binary_stream("stdin").read() if file == options.DASH else file.read_bytes()).decode()
    except UnicodeDecodeError as error:
        raise PolicyError(f"{_name(file)} is not UTF-8: {error}") from None


def _name(file: Path) -> str:
    return "stdin" if file == options.DASH else str(file)


def _print(policy: "Policy", as_json: bool, source: dict[str, Any] | None = None) -> None:
    described = policy.described()
    texts = {clause.rule.name: clause.rule.text for clause in policy.clauses}
    if as_json:
        rules = [{"rule": name, "text": texts[name], **rule} for name, rule in described["rules"].items()]
        options.print_json({"policy": policy.version} | ({"source": source} if source else {}) | described | {"rules": rules})
        return
    effect = "outcomes are what it asks for" if policy.enforces else "every outcome is allow, what it asks for stands beside it"
    click.echo(f"policy {policy.version}, {described['mode']}: {effect}\nwhen a rule or layer fails: {described['on_failure']}")
    click.echo(f"models: {_MODELS[policy.models.state]}".format(policy.models.most))
    if source is not None:
        click.echo(_told(source))
    click.echo()
    for clause in policy.clauses:
        state = {"on": f"asks for {clause.asks}", "shadow": f"in shadow (would ask for {clause.asks})", "off": "off"}[clause.state]
        click.echo(f"{clause.rule.name}: {state}\n    {clause.rule.text}")
        for name, value, meaning in _limits(clause.limits):
            click.echo(f"    {name} = {value}  # {meaning}")


_MODELS = {
    "on": "ask for {} at most",
    "shadow": "in shadow: what they say stands in the decision, without effect",
    "off": "off",
}
"""By the state that a policy gives them."""


def _told(source: dict[str, Any]) -> str:
    by = (
        f", offset {source['offset']}: {source['note']} (by {source['author']}, {options.moment(source['at'])})"
        if "offset" in source
        else ""
    )
    return f"from {source['from']}{by}"


def _limits(limits: Any) -> list[tuple[str, Any, str]]:
    """Name, value and meaning with unit of each limit."""
    import msgspec

    kind = type(limits)
    properties = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    return [(name, getattr(limits, name), properties[name].get("description", "")) for name in kind.__struct_fields__]
