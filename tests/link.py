"""A way to a port on loopback that can be cut, as a network can."""

import asyncio
from threading import Event, Thread
from typing import Self

from aegis_app.kafka.ports import HOST, free_port


class Link:
    """Takes connections on `port` and passes on what they say, in a thread of its own."""

    def __init__(self, target: int) -> None:
        self.port = free_port(besides=target)
        self._target = target
        self._is_cut = False
        self._thread = Thread(target=lambda: asyncio.run(self._serve()))
        self._is_up = Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_up.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def cut(self) -> None:
        """From now on what clients say is lost in silence. What was asked before is still answered."""
        self._is_cut = True

    def heal(self) -> None:
        """For new connections: nobody knows those any more that there were."""
        self._is_cut = False
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        while self._writers:
            self._writers.pop().transport.abort()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connect, HOST, self.port)
        self._is_up.set()
        await self._end.wait()
        server.close()
        self._abort()

    async def _connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            broker, to_broker = await asyncio.open_connection(HOST, self._target)
            self._writers += [to_client, to_broker]
            await asyncio.gather(self._pass_on(client, to_broker, can_be_cut=True), self._pass_on(broker, to_client))
        except OSError:
            to_client.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, can_be_cut: bool = False) -> None:
        while said := await reader.read(1 << 16):
            if not (can_be_cut and self._is_cut):
                writer.write(said)
                await writer.drain()
        writer.close()
