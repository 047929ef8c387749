"""Measurements and long trials, off by default: `make bench`, `make chaos`."""
