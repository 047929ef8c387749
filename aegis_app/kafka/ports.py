"""Ports on loopback."""

import random
import socket
from typing import Final

from aegis_app.kafka.classpath import KafkaError

HOST: Final = "127.0.0.1"
FREE_PORTS: Final = range(20_000, 32_768)
"""Below those that Linux lends to outgoing connections: one of these, even a client's own attempt to reconnect,
could otherwise sit on the port while the broker is down."""


def free_port(prefer: int | None = None, besides: int | None = None) -> int:
    """A port on loopback that nobody listens on now: `prefer` if it can be had, never `besides`."""
    choices = random.SystemRandom().sample(FREE_PORTS, 100)  # whatever seed somebody gave the shared one
    for port in choices if prefer is None else [prefer, *choices]:
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
