"""What goes wrong with a back-test."""


class BacktestError(RuntimeError):
    """A back-test cannot be made or written; the message is one line that says what to do."""
