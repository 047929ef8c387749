"""Aegis: a fraud-decision engine for card payments, on Faust and Kafka."""

from typing import TYPE_CHECKING, Any

from aegis_app.version import VERSION as __version__

if TYPE_CHECKING:
    from aegis_app.application import app
    from aegis_app.detector import FraudDetector

__all__ = ["FraudDetector", "__version__", "app"]


def __getattr__(name: str) -> Any:
    # Lazy: `import aegis_app.core` must not load Faust, and `faust -A aegis_app` asks for `app` by name.
    if name == "app":
        from aegis_app.worker import app

        return app
    if name == "FraudDetector":
        from aegis_app.detector import FraudDetector

        return FraudDetector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
