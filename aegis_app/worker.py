"""Everything that a worker runs, imported by name: with autodiscovery, a broken agent would be left out in silence."""

from pathlib import Path

import aegis_app
import aegis_app.web.bundle
import aegis_app.web.cards
import aegis_app.web.health
import aegis_app.web.merchants
import aegis_app.web.rules
import agents
import agents.merchants
import agents.screening
import models
import tables
from aegis_app import metrics
from aegis_app.application import app

__all__ = ["app"]

_parents = {Path(package.__file__ or "").resolve().parent.parent for package in (aegis_app, agents, models, tables)}
if len(_parents) > 1:
    raise SystemExit(
        "aegis: its four packages come from different places, a checkout mixed with an installation: "
        + ", ".join(sorted(map(str, _parents)))
        + "; use an environment of its own"
    )

metrics.begin(
    (topic for owners in app.holdings for topic in owners.sources),
    (broadcast.name for broadcast in app.broadcasts),
    (owners.memory.name for owners in app.holdings),
)
