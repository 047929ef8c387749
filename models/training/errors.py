"""What training refuses."""


class TrainingError(Exception):
    """A bundle cannot be trained from this; the message says what to do."""
