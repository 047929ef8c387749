"""The back-test: payments of which the end is known, judged by one policy or two, and what came of it in figures and pictures."""

from aegis_app.backtest.errors import BacktestError

__all__ = ["BacktestError"]
