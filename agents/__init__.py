"""Glue: what is done with each chunk of a topic. No arithmetic, and no `if` about the domain."""
