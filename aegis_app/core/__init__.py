"""The judgement itself: pure functions of payments and memory. No Faust, Kafka, HTTP, metrics, clock or randomness."""
