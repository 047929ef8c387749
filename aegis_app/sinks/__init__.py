"""Where decisions and labels go beyond Kafka: each sink a process and a consumer group of its own, so that none holds up another."""
