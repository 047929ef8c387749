"""What is remembered about each merchant. Key: merchant_id, as on the `merchant-events` topic."""

from aegis_app.application import app, merchant_events, merchant_risk
from aegis_app.core.risk import risk
from tables.parties import PATIENCE, codec

merchants = app.memory("merchants", codec(risk))
owners = app.own(merchants, [merchant_events], summaries=merchant_risk.topic, patience=PATIENCE)
"""The partitions of merchants that this worker holds, and the chunks that come for them."""
