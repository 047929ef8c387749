"""The only reader of the environment: one set of `AEGIS_*` settings for every role, validated and frozen."""

import difflib
import os
import ssl
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

PREFIX: Final = "AEGIS_"
SECRETS: Final = frozenset({"sasl_password", "web_token", "ledger", "card_key"})


class SettingsError(ValueError):
    """A setting is misspelt or bad; the message is one line that names it."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each field is read from `AEGIS_` and its name in capitals; a bad or unknown one stops the start."""

    broker: Annotated[str, Meta(min_length=1, pattern=r"^\S+$", description="Kafka, as `host:port`; several are separated by commas")] = (
        "127.0.0.1:9092"
    )
    security_protocol: Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Meta(description="how to speak to Kafka")] = (
        "PLAINTEXT"
    )
    sasl_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Meta(description="with a SASL protocol")] = "PLAIN"
    sasl_username: Annotated[str | None, Meta(description="with a SASL protocol")] = None
    sasl_password: Annotated[str | None, Meta(description="with a SASL protocol")] = None
    ssl_cafile: Annotated[Path | None, Meta(description="certificates to trust (PEM); the system's where unset")] = None
    ssl_certfile: Annotated[Path | None, Meta(description="our own certificate (PEM)")] = None
    ssl_keyfile: Annotated[Path | None, Meta(description="our own key (PEM)")] = None

    app_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,100}$", description="consumer group, and prefix of the changelog topics")] = (
        "aegis"
    )
    topic_prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,100}$", description="put before every topic's name")] = ""
    partitions: Annotated[int, Meta(ge=1, le=4096, description="of topics that we create: the most workers that can share the work")] = 8
    replication: Annotated[int, Meta(ge=1, le=10, description="copies of topics that we create; 3 in production")] = 1

    datadir: Annotated[Path, Meta(description="a worker's own directory; never shared by two")] = Path("var/worker")
    log: Annotated[Literal["text", "json"], Meta(description="how a worker's log is written")] = "text"
    web_host: Annotated[str, Meta(description="where the views listen; beyond loopback a token is needed")] = "127.0.0.1"
    web_port: Annotated[int, Meta(ge=1, le=65535, description="port of the views")] = 6066
    web_token: Annotated[str, Meta(min_length=16, description="views then want `Authorization: Bearer <token>`")] | None = None
    canonical_url: Annotated[str | None, Meta(description="how other workers reach this one's views")] = None

    base_currency: Annotated[
        str, Meta(pattern="^[A-Z]{3}$", description="amounts are compared in it (ISO 4217); memory is kept in it, so it never changes")
    ] = "EUR"
    rates: Annotated[Path | None, Meta(description="rates file; where unset, only amounts in the base currency are compared")] = None
    policy: Annotated[Path | None, Meta(description="policy file while none is published; the packaged default where unset")] = None
    alerts: Annotated[Path | None, Meta(description="who is told of which decisions: the file of `aegis alerts`")] = None
    bundle: Annotated[Path | None, Meta(description="directory of a bundle while none is published; rules alone where unset")] = None
    card_id_is_token: Annotated[bool, Meta(description="accept card_ids of 12 to 19 digits: they are tokens")] = False
    card_ttl_days: Annotated[int, Meta(ge=31, description="cards idle for longer are forgotten")] = 400
    feature_share: Annotated[float, Meta(ge=0, le=1, description="share of allowed payments whose decision carries its features")] = 0.01
    dead_letter_share: Annotated[
        float, Meta(gt=0, le=1, description="a worker stops when more of a partition's last payments are dead letters; 1 never")
    ] = 0.2
    dead_letter_window: Annotated[int, Meta(ge=1, description="payments over which that share is taken")] = 1000

    session_timeout_seconds: Annotated[float, Meta(ge=6, le=300, description="silence after which a worker is given up")] = 20.0
    drain_seconds: Annotated[float, Meta(ge=1, le=60, description="longest wait for work in hand at a handover")] = 10.0
    cache_mebibytes: Annotated[
        int, Meta(ge=16, description="RocksDB's blocks and write buffers, all tables and partitions together; buffers take up to half")
    ] = 512

    ledger: Annotated[
        str | None, Meta(description="`sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/DATABASE`; a file in AEGIS_DATADIR where unset")
    ] = None

    gateway_host: Annotated[str, Meta(description="where the gateway listens")] = "127.0.0.1"
    gateway_port: Annotated[int, Meta(ge=1, le=65535, description="port of the gateway")] = 8080
    gateway_deadline_ms: Annotated[
        int, Meta(ge=1, le=60_000, description="longest wait for a decision, where a request names no `Aegis-Deadline-Ms`")
    ] = 100
    gateway_fallback: Annotated[
        Literal["allow", "review", "block"] | None,
        Meta(
            description="outcome past the deadline: `allow`, `review` or `block`; where unset `review`, but `allow` where policy observes"
        ),
    ] = None
    review_action: Annotated[
        Literal["approve_and_queue", "challenge", "hold"], Meta(description="what `review` asks of the caller of the gateway")
    ] = "hold"
    keys: Annotated[Path, Meta(description="file of the gateway's API keys, see `aegis keys`")] = Path("var/keys.json")
    card_key: Annotated[
        str | None,
        Meta(description="`ID:SECRET`: the gateway takes card numbers, and makes tokens of them; older keys may follow, behind commas"),
    ] = None
    workers: Annotated[str, Meta(description="where the gateway asks for what workers remember; several are separated by commas")] = (
        "http://127.0.0.1:6066"
    )

    cache_dir: Annotated[Path | None, Meta(description="downloads of `aegis kafka`; the user's cache where unset")] = None
    kafka_jars: Annotated[Path | None, Meta(description="directory with Kafka's jars, for closed networks")] = None

    def __post_init__(self) -> None:
        if not self.brokers or any(server.startswith(":") for server in self.brokers):
            raise ValueError(f"broker `{self.broker}` names a place without a host; kafka-1:9092 has one")
        if self.security_protocol.startswith("SASL") and (self.sasl_username is None or self.sasl_password is None):
            raise ValueError(f"security_protocol {self.security_protocol} needs AEGIS_SASL_USERNAME and AEGIS_SASL_PASSWORD")
        if not is_loopback(self.web_host) and self.web_token is None:
            raise ValueError(f"web_host {self.web_host} is reachable from outside: set AEGIS_WEB_TOKEN as well")

    @property
    def brokers(self) -> list[str]:
        """`broker`, split."""
        return [server.removeprefix("kafka://") for server in self.broker.replace(";", ",").split(",") if server]

    def ssl_context(self) -> ssl.SSLContext | None:
        """What TLS needs, or `None` where the protocol has none."""
        if "SSL" not in self.security_protocol:
            return None
        context = ssl.create_default_context(cafile=self.ssl_cafile)
        if self.ssl_certfile is not None:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        return context

    def connection(self) -> dict[str, Any]:
        """Keyword arguments with which any aiokafka client reaches the broker."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.brokers,
            "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context(),
        }
        if self.security_protocol.startswith("SASL"):
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return arguments


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    return host in {"127.0.0.1", "::1", "localhost"}


def read(environment: Mapping[str, str]) -> Settings:
    """Read `AEGIS_*` from `environment`. Raises `SettingsError` in one line that names the setting."""
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    known = {PREFIX + field.upper() for field in Settings.__struct_fields__}
    for name in given.keys() - known:
        near = difflib.get_close_matches(name, known, n=1)
        raise SettingsError(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    values = {name.removeprefix(PREFIX).lower(): value for name, value in given.items()}
    try:
        found = msgspec.convert(values, Settings, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$.")
        name = place.rstrip("`")
        if name not in values:
            raise SettingsError(reason) from None
        value = "(not shown)" if name in SECRETS else repr(values[name])
        raise SettingsError(f"{PREFIX}{name.upper()}={value}: {reason}") from None
    _check_certificates(found)
    return found


def _check_certificates(found: Settings) -> None:
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        path = getattr(found, name)
        if path is not None and not path.is_file():
            raise SettingsError(f"{PREFIX}{name.upper()}={str(path)!r}: no such file")
    try:
        found.ssl_context()
    except ssl.SSLError as error:
        raise SettingsError(f"{PREFIX}SSL_*: the certificates cannot be used ({error})") from None


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)


def secret(name: str) -> str | None:
    """What the environment holds under a name that a file of ours gives for a secret; `None` where nothing. Not one of `AEGIS_*`."""
    return os.environ.get(name) or None


@cache
def settings() -> Settings:
    """The process's settings, read once."""
    return read(os.environ)
