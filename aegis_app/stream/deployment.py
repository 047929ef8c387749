"""What never changes about a deployment: it stands on a topic of its own, beside the memory, policies and bundles that depend on it."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from aiokafka.structs import ConsumerRecord
from msgspec import Meta, Struct

from aegis_app.broadcast import UnreadableError, read_once, readable
from aegis_app.settings import Settings
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name


class Founding(Struct, frozen=True, kw_only=True):
    """What the first worker wrote on `deployment` (key: the base currency). The first record on the log holds."""

    base_currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", description="in which amounts are compared and remembered (ISO 4217)")]
    at: Annotated[datetime, Meta(tz=True, description="when it was written")]


async def base_currency(settings: Settings) -> str:
    """That of this deployment: where no worker said one before, that of `settings` from now on. Raises `KafkaError`."""
    if not await _foundings(settings):
        ours = Founding(base_currency=settings.base_currency, at=datetime.now(UTC))
        async with Outbox(settings.connection()) as outbox:
            record = Outgoing(ours.base_currency.encode(), msgspec.json.encode(ours))
            await outbox.publish(full_name(Name.DEPLOYMENT, settings), 0, [record])
    # Read again, since two may have begun at once.
    return (await _foundings(settings))[0].base_currency


async def _foundings(settings: Settings) -> list[Founding]:
    return list(readable(Name.DEPLOYMENT, await read_once(settings, Name.DEPLOYMENT), _read))


def _read(record: ConsumerRecord) -> Founding:
    try:
        return msgspec.json.decode(record.value or b"", type=Founding)
    except msgspec.DecodeError:
        raise UnreadableError("it founds no deployment") from None
