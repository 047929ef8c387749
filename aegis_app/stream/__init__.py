"""Faust a chunk at a time, each payment exactly once. See docs/decisions/0002-exactly-once.md."""
