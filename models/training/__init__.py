"""From described payments to a bundle. Needs the extra `train`."""

from models.training.errors import TrainingError
from models.training.run import Plan, train
from models.training.sample import Sample, read_sample
from models.training.thresholds import AlertsPerDay, FalsePositives, Target

__all__ = ["AlertsPerDay", "FalsePositives", "Plan", "Sample", "Target", "TrainingError", "read_sample", "train"]
