"""What is remembered about each device. Key: device_id, as on the `device-events` topic."""

from aegis_app.application import app, device_events, device_risk
from aegis_app.core.risk import shared_risk
from tables.parties import PATIENCE, codec

devices = app.memory("devices", codec(shared_risk))
owners = app.own(devices, [device_events], summaries=device_risk.topic, patience=PATIENCE)
"""The partitions of devices that this worker holds, and the chunks that come for them."""
