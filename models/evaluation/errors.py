"""What an evaluation raises."""


class EvaluationError(ValueError):
    """Scores cannot be judged by these payments; the message is one line that says why."""
