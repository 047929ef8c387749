"""Failures that can be expected, each as one line that says what to do next."""

import errno
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from aegis_app.settings import Settings


class Failure(click.ClickException):
    """Ends the command with exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"aegis: {self.message}", err=True)


def explain(error: Exception, settings: "Settings | None") -> str | None:
    """The line for `error`, or `None` if nobody expected it. `settings` are those of the command, where it has any."""
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return None if error.errno == errno.EPIPE else _of_system(error)
    if isinstance(error, _ours()):
        return str(error)
    return None if settings is None or "aiokafka" not in sys.modules else _of_kafka(error, settings)


def _of_system(error: OSError) -> str:
    return str(error) if error.filename is None else f"{error.filename}: {error.strerror}"


def _ours() -> tuple[type[Exception], ...]:
    """Errors whose message is such a line already; of a module that was not loaded, none can have come."""
    places = {
        "aegis_app.settings": "SettingsError",
        "aegis_app.core.policy": "PolicyError",
        "aegis_app.core.rates": "RatesError",
        "aegis_app.kafka": "KafkaError",
        "aegis_app.core.lists": "ListError",
        "aegis_app.core.intake": "Refused",
        "aegis_app.admin": "MissingTopicError",
        "aegis_app.access": "AccessError",
        "aegis_app.dead_letters": "LetterError",
        "aegis_app.keys": "KeysError",
        "aegis_app.process": "WorkerError",
        "aegis_app.demo": "DemoError",
        "aegis_app.backtest": "BacktestError",
        "aegis_app.stream.outbox": "TooLargeError",
        "aegis_app.ledger.database": "LedgerError",
        "aegis_app.gateway.server": "PortError",
        "aegis_app.sinks.running": "PortError",
        "aegis_app.sinks.alerts.routes": "RoutesError",
        "aegis_app.sinks.alerts.snoozes": "SnoozeError",
        "aegis_app.sinks.alerts.failed": "UntoldError",
        "models.datasets": "DatasetError",
        "models.bundle": "BundleError",
        "models.training": "TrainingError",
        "models.evaluation": "EvaluationError",
    }
    return tuple(getattr(sys.modules[module], name) for module, name in places.items() if module in sys.modules)


def _of_kafka(error: Exception, settings: "Settings") -> str | None:
    from aiokafka.errors import InvalidReplicationFactorError, KafkaConnectionError, KafkaError, KafkaTimeoutError

    broker, protocol = settings.broker, settings.security_protocol
    match error:
        case KafkaConnectionError() if protocol == "PLAINTEXT":
            return f"no Kafka at {broker}; start one with `aegis kafka` or set AEGIS_BROKER, and AEGIS_SECURITY_PROTOCOL where it wants TLS"
        case KafkaConnectionError():
            return f"no Kafka at {broker} that speaks {protocol}; check AEGIS_BROKER, AEGIS_SECURITY_PROTOCOL, AEGIS_SASL_* and AEGIS_SSL_*"
        case KafkaTimeoutError() | TimeoutError():
            return f"Kafka at {broker} does not answer; is it up?"
        case InvalidReplicationFactorError():
            return f"Kafka at {broker} has too few brokers for AEGIS_REPLICATION={settings.replication}"
        case KafkaError():
            return f"Kafka at {broker} refused: {error}; see `aegis topics check`"
    return None
