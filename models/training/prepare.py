"""Which features a model is given, and how they are scaled; fitted on the first window alone."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from models.inputs import ATTRIBUTES, CODED, Plain, Rows, Scaled, Vector

UNUSUAL: Final = (
    "amount",
    "amount_ratio",
    "amount_z",
    "amount_to_largest",
    "recurring_ratio",
    "balance_share",
    "attempts_10m",
    "small_1h",
    "refused_1h",
    "kmh",
    "km_from_home",
    "hour_share",
    "new_country",
    "new_device",
)
"""Features by which a payment can be unusual; with the attributes, and `TOLD`. Few well-chosen inputs beat many for the layers without
labels: each input that says nothing blurs the others."""
TOLD: Final = (
    "merchant_fraud_share_last_1",
    "merchant_fraud_share_last_3",
    "merchant_fraud_share_last_10",
    "device_frauds_known_30d",
)
"""Those that labels tell. Shares of the last payments say at once that a merchant is compromised, and that it is no more."""
SIDES: Final = dict.fromkeys((*UNUSUAL, *TOLD), 1) | {"hour_share": -1}
"""Which side of the centre is unusual, as in `Scaled`: nobody steals by paying less than usual. Of attributes nothing is known: both."""
DATES: Final = frozenset({"age_days", "merchant_age_days", "device_age_days", "habit", "habit_amounts"})
"""Features that grow with the time since the data began, and so are never again as they were when a model was fitted."""
MOST_CODES: Final = 30
FREQUENT: Final = 0.002
"""Share of payments with a code, from which it is an input of its own."""
LONG_TAIL: Final = 10.0
"""Times the median that the largest value exceeds where a tail is long."""


def useful(names: Sequence[str], rows: Rows) -> tuple[tuple[str, ...], dict[str, str]]:
    """The features that vary, in their order, and why the others cannot help."""
    reasons = {}
    for name, values in zip(names, rows.T, strict=True):
        known = values[np.isfinite(values)]
        if name in DATES:
            reasons[name] = "tells the date: memory begins with the data"
        elif not len(known):
            reasons[name] = "never known"
        elif len(known) == len(values) and (known == known[0]).all():
            reasons[name] = f"always {known[0]:g}"
    return tuple(name for name in names if name not in reasons), reasons


def plain(names: Sequence[str], rows: Rows, chosen: Sequence[str]) -> Plain:
    """For the supervised layer: all that was chosen; codes by their frequent values."""
    codes = [(name, code) for name in chosen if name in CODED for code in _frequent(rows[:, names.index(name)])]
    return Plain(tuple(name for name in chosen if name not in CODED), tuple(codes))


def _frequent(values: Vector) -> list[float]:
    codes, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_CODES]
    return sorted(float(codes[place]) for place in order if counts[place] >= FREQUENT * len(values))


def unusual(chosen: Sequence[str], *, cold_start: bool) -> tuple[str, ...]:
    """Of what was chosen, the inputs of the layers without labels; a cold start leaves out what labels tell."""
    return tuple(name for name in chosen if name in UNUSUAL or name.startswith(ATTRIBUTES) or (name in TOLD and not cold_start))


def uncoded(chosen: Sequence[str]) -> tuple[str, ...]:
    """Those of which more is more of something."""
    return tuple(name for name in chosen if name not in CODED)


def scaled(names: Sequence[str], rows: Rows, chosen: Sequence[str], sides: Mapping[str, int] = SIDES) -> Scaled:
    """For the layers without labels. What never varies where it is known is left out."""
    kept, long_tailed, centres, spreads = [], [], [], []
    for name in chosen:
        values = rows[:, names.index(name)].astype(np.float64)
        values = values[np.isfinite(values)]
        long = bool(values.min() >= 0 and values.max() > LONG_TAIL * (np.median(values) + 1))
        values = np.log1p(values) if long else values
        low, centre, high = np.quantile(values, (0.05, 0.5, 0.95))
        spread = (high - low) / 2 or values.std()
        if spread > 0:
            kept.append(name)
            long_tailed.append(long)
            centres.append(float(centre))
            spreads.append(float(spread))
    return Scaled(tuple(kept), tuple(long_tailed), tuple(centres), tuple(spreads), tuple(sides.get(name, 0) for name in kept))
