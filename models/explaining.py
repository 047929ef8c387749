"""Why the models find a payment suspicious: in families of features, in words and figures, and only what speaks for fraud.

For payments that are not simply allowed, since it takes its time: about a millisecond for one of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any, Final, get_args

import numpy as np
from msgspec import Struct

from aegis_app.core.encoding import CHANNELS, KINDS, UNKNOWN
from aegis_app.core.features import CATALOGUE
from aegis_app.core.payment import money
from models.bundle import CONTRIBUTIONS, Bundle, BundleError, Layer
from models.ensemble import SUPERVISED
from models.inputs import ATTRIBUTES, Rows, Vector
from models.scoring import Scorer

FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "amount": ("amount", "amount_*", "typical_amount", "balance_share", "recurring_ratio"),
    "velocity": ("attempts_*", "money_*", "small*", "merchants_*", "refused_*", "saturated", "per_active_day"),
    "rhythm": ("seconds_since_last", "usual_gap_seconds", "gap_z", "seconds_since_present", "hour*", "weekday*"),
    "place": ("km", "kmh", "km_from_home", "abroad", "country*", "new_country"),
    "merchant": ("new_merchant", "merchant_*", "recent_credits_30d", "new_category", "category*"),
    "device": ("new_device", "device_*"),
    "payee": ("new_payee", "payee_*", "kind*"),
    "channel": ("card_present", "channel", "online_share"),
    "history": ("habit*", "age_days", "card_frauds", "days_since_card_fraud"),
}
"""Correlated features share what they explain, so they are told together. A star stands for any ending; attributes are a family, and
so is what no family names."""
ATTRIBUTE_FAMILY: Final = "attributes"
OTHERS: Final = "others"
LEAST_SHARE: Final = 0.1
"""Of all that speaks for fraud, from which a family is told."""
UNUSUAL: Final = 0.99
"""A rank, from which it is told what the autoencoder reconstructs worst."""
WORST: Final = 3
MOST: Final = 4
"""Families told about a payment."""


class Cause(Struct, frozen=True, gc=False):
    """One reason of the models."""

    family: str
    text: str
    share: float
    """Of all that speaks for fraud, 0 to 1; of `unusual`, 0."""


def family(feature: str) -> str:
    """The family of a feature; the longest name that fits decides."""
    if feature.startswith(ATTRIBUTES):
        return ATTRIBUTE_FAMILY
    fitting = [
        (len(name), each)
        for each, names in FAMILIES.items()
        for name in names
        if feature == name or (name.endswith("*") and feature.startswith(name[:-1]))
    ]
    return max(fitting)[1] if fitting else OTHERS


class Explainer:
    """Explains what a scorer said. With a random forest, whose votes cannot be shared out, the autoencoder alone gives causes."""

    def __init__(self, bundle: Bundle, scorer: Scorer) -> None:
        self._scorer = scorer
        self._currency = bundle.manifest.base_currency
        self._place = {feature: place for place, feature in enumerate(bundle.manifest.features)}
        layers = {layer.name: layer for layer in bundle.manifest.layers}
        self._shared = _Contributions(layers[SUPERVISED], bundle) if CONTRIBUTIONS in bundle.manifest.checksums else None
        self._has_autoencoder = "autoencoder" in layers

    def explain(self, rows: Rows, layers: Mapping[str, Vector]) -> list[list[Cause]]:
        """Of each row, its causes, strongest first. `layers` are what the scorer said of these rows."""
        causes = [[] for _ in rows] if self._shared is None else self._by_family(self._shared, rows)
        unusual = np.flatnonzero(layers["autoencoder"] >= UNUSUAL) if self._has_autoencoder else ()
        if len(unusual):
            for row, cause in zip(unusual, self._worst(rows[unusual]), strict=True):
                causes[row].append(cause)
        return causes

    def _by_family(self, shared: "_Contributions", rows: Rows) -> list[list[Cause]]:
        by_feature, by_family = shared.of(rows)
        return [list(self._told(shared, *each)) for each in zip(rows, by_feature, by_family, strict=True)]

    def _told(self, shared: "_Contributions", row: Vector, by_feature: Vector, by_family: Vector) -> Iterator[Cause]:
        """The strongest families, each by the two features that say most in it."""
        raised = np.maximum(by_family, 0.0)
        for place in np.argsort(-raised, kind="stable")[:MOST]:
            part = float(raised[place] / raised.sum()) if raised[place] > 0 else 0.0
            if part < LEAST_SHARE:
                return
            own = shared.members[place]
            strongest = [feature for feature in own[np.argsort(-by_feature[own])][:2] if by_feature[feature] > 0]
            yield Cause(shared.families[place], self._words(row, [shared.features[feature] for feature in strongest]), part)

    def _worst(self, rows: Rows) -> Iterator[Cause]:
        names, errors = self._scorer.errors(rows)
        for row, of_row in zip(rows, errors, strict=True):
            worst = [names[place] for place in np.argsort(-of_row)[:WORST]]
            yield Cause("unusual", f"unlike genuine payments in {self._words(row, worst)}", 0.0)

    def _words(self, row: Vector, features: Sequence[str]) -> str:
        return ", ".join(figure(feature, float(row[self._place[feature]]), self._currency) for feature in features)


def figure(feature: str, value: float, currency: str) -> str:
    """A feature and its value, as people read them; `currency` is the base currency."""
    words = feature.removeprefix(ATTRIBUTES).replace("_", " ")
    if isnan(value):
        return f"{words} not known"
    unit = _UNITS.get(feature, "")
    if unit == "base minor units":
        return f"{words} {money(value, currency)}"
    if unit == "yes or no":
        return words if value else f"not {words}"
    if unit == "0 to 1":
        return f"{words} {value:.0%}"
    if unit == "code":
        return f"{words} {_code(feature, int(value))}"
    number = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"
    return f"{words} {number} {unit}" if unit == "times" else f"{words} {number}"


_UNITS: Final = {name: get_args(kind)[1].extra_json_schema["unit"] for name, kind in CATALOGUE.items()}

_NAMES: Final[dict[str, dict[int, str]]] = {
    "kind": {code: name for name, code in KINDS.items()},
    "channel": {code: name for name, code in CHANNELS.items()},
}


def _code(feature: str, code: int) -> str:
    if code == UNKNOWN:
        return "not known"
    if feature == "country":
        return chr(65 + (code - 1) // 26) + chr(65 + (code - 1) % 26)
    return str(_NAMES.get(feature, {}).get(code, code))


class _Contributions:
    """XGBoost's own: how much each input moved the log-odds (exact Shapley values of trees; Lundberg et al., 2020), added up."""

    def __init__(self, layer: Layer, bundle: Bundle) -> None:
        import xgboost

        self._matrix: Any = xgboost.DMatrix
        try:
            self._booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(bundle.read(CONTRIBUTIONS)))
        except xgboost.core.XGBoostError as error:
            raise BundleError(f"{bundle.path / CONTRIBUTIONS}: XGBoost refuses it: {error}") from None
        self._booster.feature_names = None
        self._read = layer.inputs.of(bundle.manifest.features)
        sources = layer.inputs.sources
        self.features = tuple(dict.fromkeys(sources))
        of_features = [family(feature) for feature in self.features]
        self.families = tuple(dict.fromkeys(of_features))
        self.members = [np.array([place for place, own in enumerate(of_features) if own == name]) for name in self.families]
        """By family, the places of its features."""
        self._to_features = np.array([[feature == source for feature in self.features] for source in sources], np.float32)
        self._to_families = np.array([[name == own for name in self.families] for own in of_features], np.float32)

    def of(self, rows: Rows) -> tuple[Vector, Vector]:
        """Log-odds by feature, and by family, of each row."""
        matrix = self._matrix(self._read(rows), nthread=1)
        by_feature = self._booster.predict(matrix, pred_contribs=True)[:, :-1] @ self._to_features
        return by_feature, by_feature @ self._to_families
