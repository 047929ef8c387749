"""The models that serve here."""

from typing import Any

from aegis_app.application import shelf
from aegis_app.web.pages import Answer, page


@page("/bundle")
async def bundle(request: Any) -> Answer:
    """The bundle in force here and where it comes from: layers, thresholds, windows, metrics; `refused` where another one should serve."""
    serving = shelf.serving
    answer = {"bundle": None if serving is None else serving.version, "source": shelf.origin, "refused": shelf.refused}
    if serving is None:
        return 200, answer
    manifest = serving.manifest
    return 200, answer | {
        "layers": [{"layer": each.name, "model": each.model, "inputs": each.inputs.names} for each in manifest.layers],
        "thresholds": manifest.thresholds,
        "cost": manifest.cost,
        "is_calibrated": manifest.calibration is not None,
        "windows": manifest.windows,
        "metrics": manifest.metrics,
        "left_out": manifest.left_out,
        "base_currency": manifest.base_currency,
        "libraries": manifest.libraries,
    }
