"""Ports on loopback."""

import os
import socket
from itertools import chain, count
from typing import Final

from aegis_app.kafka.classpath import KafkaError

HOST: Final = "127.0.0.1"
FREE_PORTS: Final = range(20_000, 32_768)
"""Below those that Linux lends to outgoing connections: one of these, even a client's own attempt to reconnect,
could otherwise sit on the port while the broker is down."""
EACH: Final = 1009
"""Ports between where two processes begin whose ids follow one another."""
_turns: Final = count()


def free_port(prefer: int | None = None, besides: int | None = None) -> int:
    """A port on loopback that nobody listens on now: `prefer` if it can be had, never `besides`.

    It is some time until whoever asked listens on it. So the next one is another, and processes that ask at once begin at different ones.
    """
    choices = (FREE_PORTS[(os.getpid() * EACH + next(_turns)) % len(FREE_PORTS)] for _ in range(100))
    for port in choices if prefer is None else chain([prefer], choices):
        if port != besides and _is_free(port):
            return port
    raise KafkaError(f"a hundred ports between {FREE_PORTS.start} and {FREE_PORTS.stop} are taken: name one")


def _is_free(port: int) -> bool:
    try:
        require_free(port)
    except KafkaError:
        return False
    return True


def require_free(port: int) -> None:
    """Raise `KafkaError` unless `port` can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka: connections still closing are no obstacle
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError as error:
            raise KafkaError(f"port {port} on {HOST} is taken ({error.strerror}): stop who has it, or name another port") from None
