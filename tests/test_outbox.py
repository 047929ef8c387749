"""What an outbox asks of aiokafka's producer, without Kafka."""

import asyncio
import socket
from collections import Counter, deque
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from aegis_app.stream.outbox import BATCH_BYTES, Outbox, Outgoing, TooLargeError
from aegis_app.topics import LARGEST_RECORD


class Producer:
    """Takes a batch when its partition's last one is gone, a moment later; notes how many wait at once."""

    def __init__(self, real: AIOKafkaProducer) -> None:
        self.create_batch = real.create_batch
        self.stop = real.stop
        self.taken: list[tuple[int, int]] = []
        self.most: Counter[int] = Counter()
        self._waiting: Counter[int] = Counter()

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        self._waiting[partition] += 1
        self.most[partition] = max(self.most[partition], self._waiting[partition])
        await asyncio.sleep(0.01)
        self._waiting[partition] -= 1
        self.taken.append((partition, batch.record_count()))
        future = asyncio.get_running_loop().create_future()
        future.set_result(SimpleNamespace(offset=0))
        return future


def test_one_batch_of_a_partition_is_handed_over_at_a_time_and_in_the_order_of_sending() -> None:
    async def go() -> Producer:
        made = Outbox({"bootstrap_servers": "127.0.0.1:1"})
        made._producer = producer = Producer(made._producer)
        await asyncio.gather(*(made.send("events", each % 2, [Outgoing(b"k", b"v")] * (each + 1)) for each in range(10)))
        await made.stop()
        return producer

    producer = asyncio.run(go())

    assert producer.most == {0: 1, 1: 1}
    assert [number for partition, number in producer.taken if partition == 0] == [1, 3, 5, 7, 9]
    assert [number for partition, number in producer.taken if partition == 1] == [2, 4, 6, 8, 10]


def test_what_does_not_fit_into_a_batch_goes_into_the_next_and_nothing_goes_where_a_record_is_too_large() -> None:
    half = Outgoing(b"k", b"v" * (BATCH_BYTES // 2))

    async def go() -> Producer:
        made = Outbox({"bootstrap_servers": "127.0.0.1:1"})
        made._producer = producer = Producer(made._producer)
        await made.send("events", 0, [half] * 3)
        with pytest.raises(TooLargeError):
            await made.send("events", 0, [*[half] * 3, Outgoing(b"k", b"v" * (LARGEST_RECORD + 1))])
        await made.stop()
        return producer

    assert [number for _, number in asyncio.run(go()).taken] == [1, 1, 1]


def test_what_a_socket_still_holds_is_taken_back() -> None:
    async def go() -> None:
        made = Outbox({"bootstrap_servers": "127.0.0.1:1"})
        with socket.create_server(("127.0.0.1", 0)) as server:
            _, writer = await asyncio.open_connection(*server.getsockname())
            broker, _ = server.accept()
            made._producer.client._conns[1] = SimpleNamespace(connected=lambda: True, _writer=writer)
            writer.write(b"x" * 1_000_000)
            made.take_back()
            await asyncio.sleep(0.1)
            with broker, pytest.raises(ConnectionResetError):
                deque(iter(lambda: broker.recv(1 << 20), b""))
            made._producer.client._conns.clear()
            await made.stop()

    asyncio.run(go())
