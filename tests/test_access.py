"""The way to a broker that is away."""

import asyncio

from aiokafka.client import AIOKafkaClient

from aegis_app.access import learn_patience

ATTEMPTS = 5


def test_a_broker_that_is_away_is_asked_for_now_and_then() -> None:
    learn_patience()

    async def seconds() -> float:
        client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
        asking = asyncio.create_task(client._md_synchronizer())
        begun = asyncio.get_running_loop().time()
        for _ in range(ATTEMPTS):
            assert not await client.force_metadata_update()
        asking.cancel()
        return asyncio.get_running_loop().time() - begun

    assert asyncio.run(seconds()) >= ATTEMPTS * 0.09
