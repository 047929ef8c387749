"""Simulated cardholders and fraudsters: payments with the truth beside them, for demo, tests and benchmarks."""

from aegis_app.simulate.course import PAYMENTS_A_DAY, Labelled, simulate
from aegis_app.simulate.frauds import FRAUDS

__all__ = ["FRAUDS", "PAYMENTS_A_DAY", "Labelled", "simulate"]
