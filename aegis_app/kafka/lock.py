"""`python -m aegis_app.kafka.lock`: write `kafka.lock` anew, for instance after raising `KAFKA`."""

import hashlib
from pathlib import Path
from typing import Final

import jgo

KAFKA: Final = "org.apache.kafka:kafka_2.13:4.1.1"
LOGGING: Final = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
"""Joins Kafka's slf4j 1.7 to the log4j in its own dependencies; without it the broker logs nothing."""


def main() -> None:
    """Resolve both by themselves: jgo would let the second one's parent change versions of the first one's jars."""
    found = {artifact.artifactId: artifact for root in (LOGGING, KAFKA) for artifact in jgo.resolve(root)}
    lines = ["# group:artifact:version sha256 bytes; written by `make lock`"]
    for artifact in sorted(found.values(), key=str):
        content = Path(artifact.resolve()).read_bytes()
        coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
        lines.append(f"{coordinate} {hashlib.sha256(content).hexdigest()} {len(content)}")
    Path(__file__).parent.with_name("kafka.lock").write_text("\n".join(lines) + "\n", "ascii")


if __name__ == "__main__":
    main()
