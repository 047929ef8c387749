"""People told of decisions: who, of which, by what way, and what becomes of it when nobody can be reached.

Kafka holds what is still to be told, on the topic `alerts`: a decision is put there once for each destination (`raising`), and taken off
when that destination has taken the message that it is in (`delivery`). So a crash, or a destination that is away, loses nothing.
"""
