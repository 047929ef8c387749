"""The way to a broker: an admin client, one line for each way in which Kafka and we do not come together, and patience while it is away."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import KafkaConnectionError, KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError

from aegis_app.settings import Settings

KNOCK_MS: Final = 5000
"""For a broker to say why, after it did not answer for as long as a client waits."""
PATIENCE_SECONDS: Final = 0.1
"""Between two questions where the leaders are, while nobody answers."""


class AccessError(RuntimeError):
    """Kafka is there, but does not let us in, or we do not trust it; the message is one line that says what to check."""


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client for the length of a `with` block. Raises `AccessError`; `KafkaConnectionError` where nobody answers."""
    client = AIOKafkaAdminClient(**settings.connection())
    try:
        await client.start()
        yield client
    except KafkaConnectionError:
        await _knock(settings)
        raise
    finally:
        await client.close()


async def _knock(settings: Settings) -> None:
    """Raise `AccessError` where a broker is there all the same. Of why it would not have us, aiokafka's clients only log."""
    how = settings.connection()
    for host, port, _ in collect_hosts(how.pop("bootstrap_servers"), randomize=False):
        connection = AIOKafkaConnection(host, port, request_timeout_ms=KNOCK_MS, **how)
        try:
            await connection.connect()
            await connection.close()
        except ssl.SSLCertVerificationError as error:
            raise AccessError(
                f"the certificate of Kafka at {host}:{port} is not trusted ({error.verify_message}); check AEGIS_SSL_CAFILE"
            ) from error
        except SaslAuthenticationFailed as error:
            await connection.close()  # closed already, but its socket may outlive the event loop
            raise AccessError(
                f"Kafka at {host}:{port} does not let {settings.sasl_username} in by {settings.sasl_mechanism}; "
                "check AEGIS_SASL_USERNAME and AEGIS_SASL_PASSWORD"
            ) from error
        except UnsupportedSaslMechanismError as error:
            await connection.close()
            raise AccessError(f"Kafka at {host}:{port} does not offer {settings.sasl_mechanism}; check AEGIS_SASL_MECHANISM") from error
        except (KafkaError, OSError, TimeoutError):
            continue


_ask_for_metadata: Final = AIOKafkaClient._metadata_update


async def _ask_patiently(client: AIOKafkaClient, cluster: ClusterMetadata, topics: Any) -> bool:
    """Producers and consumers of aiokafka that miss a leader ask again the moment they got no answer: some thousand times a second,
    by a core of ours, while the broker that we wait for wants to start.
    """
    answered: bool = await _ask_for_metadata(client, cluster, topics)
    if not answered:
        await asyncio.sleep(PATIENCE_SECONDS)
    return answered


def learn_patience() -> None:
    """Let every client of this process ask so; aiokafka has no setting for it."""
    AIOKafkaClient._metadata_update = _ask_patiently
