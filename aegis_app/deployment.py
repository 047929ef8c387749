"""What never changes about a deployment: it stands on a topic of its own, beside the memory, policies and bundles that depend on it."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from aiokafka.structs import ConsumerRecord
from msgspec import Meta, Struct

from aegis_app.admin import MissingTopicError
from aegis_app.broadcast import UnreadableError, read_once, readable
from aegis_app.settings import Settings, SettingsError
from aegis_app.stream.outbox import Outbox, Outgoing
from aegis_app.topics import Name, full_name


class Founding(Struct, frozen=True, kw_only=True):
    """What the first worker wrote on `deployment` (key: the base currency). The first record on the log holds."""

    base_currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", description="in which amounts are compared and remembered (ISO 4217)")]
    at: Annotated[datetime, Meta(tz=True, description="when it was written")]


async def check_base_currency(settings: Settings, *, founds: bool = False) -> None:
    """Whoever compares amounts in another currency than the deployment's memory would be wrong, and silently.

    Where no worker said one before, `founds` says that of `settings`, from now on. Raises `SettingsError`, `KafkaError`.
    """
    foundings, ours = await _foundings(settings), settings.base_currency
    if founds and not foundings:
        founding = Founding(base_currency=ours, at=datetime.now(UTC))
        async with Outbox(settings.connection()) as outbox:
            record = Outgoing(ours.encode(), msgspec.json.encode(founding))
            await outbox.publish(full_name(Name.DEPLOYMENT, settings), 0, [record])
        foundings = await _foundings(settings)  # again, since two may have begun at once
    if foundings and (kept := foundings[0].base_currency) != ours:
        raise SettingsError(
            f"this deployment remembers amounts in {kept}, and AEGIS_BASE_CURRENCY is {ours}: a base currency never changes. "
            f"Set AEGIS_BASE_CURRENCY={kept}; for {ours}, begin another deployment, with AEGIS_TOPIC_PREFIX and AEGIS_APP_ID of its own"
        )


async def _foundings(settings: Settings) -> list[Founding]:
    try:
        records = await read_once(settings, Name.DEPLOYMENT)
    except MissingTopicError:  # of before there was one; the next worker that starts makes it
        return []
    return list(readable(Name.DEPLOYMENT, records, _read))


def _read(record: ConsumerRecord) -> Founding:
    try:
        return msgspec.json.decode(record.value or b"", type=Founding)
    except msgspec.DecodeError:
        raise UnreadableError("it founds no deployment") from None
