"""How good scores are: figures, what chance may do to them, and the weeks on which they are taken. Wants numpy (extra `train`)."""

from models.evaluation.errors import EvaluationError
from models.evaluation.figures import FALSE_POSITIVE_RATES, Figures, Ranking, Test, average_precision, card_precision, figures, roc_auc
from models.evaluation.resampling import Resampled, resample
from models.evaluation.weeks import Week, consecutive

__all__ = [
    "FALSE_POSITIVE_RATES",
    "EvaluationError",
    "Figures",
    "Ranking",
    "Resampled",
    "Test",
    "Week",
    "average_precision",
    "card_precision",
    "consecutive",
    "figures",
    "resample",
    "roc_auc",
]
