"""Simulated cardholders and fraudsters: payments with the truth beside them, for demo, tests, back-tests and benchmarks."""

from aegis_app.simulate.arrivals import Labelled
from aegis_app.simulate.course import PAYMENTS_A_DAY, simulate
from aegis_app.simulate.currencies import RATES_FILE
from aegis_app.simulate.frauds import FRAUDS
from aegis_app.simulate.labels import Desk, read_stopped

__all__ = ["FRAUDS", "PAYMENTS_A_DAY", "RATES_FILE", "Desk", "Labelled", "read_stopped", "simulate"]
