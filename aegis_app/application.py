"""The one Faust application: its settings, its topics, and the terms in force."""

from functools import partial
from typing import Final

from aegis_app.broadcast import Broadcast
from aegis_app.bundles import Releases, Shelf, local_bundle
from aegis_app.core.payment import DAY_MS
from aegis_app.core.policy import PolicyError
from aegis_app.core.rates import RatesError
from aegis_app.core.terms import Terms
from aegis_app.lists import Listed
from aegis_app.policies import InForce, Policies, local_policy
from aegis_app.rates import load_rates
from aegis_app.risk import Risks
from aegis_app.settings import SettingsError
from aegis_app.settings import settings as read_settings
from aegis_app.stream.app import StreamApp
from aegis_app.topics import SOURCES, Name, full_name
from models.bundle import BundleError

try:
    settings = read_settings()
    otherwise = local_policy(settings)
    rates = load_rates(settings)
    local = local_bundle(settings)
except (SettingsError, PolicyError, RatesError, BundleError) as error:
    raise SystemExit(f"aegis: {error}") from None

ttl = settings.card_ttl_days * DAY_MS
LATER_SECONDS: Final = 0.1
"""Time between two looks at risk: each takes in much, and none is waited for."""

lists = Broadcast(settings, Name.LISTS, lambda: Listed(token=settings.card_id_is_token))
policies = Broadcast(settings, Name.POLICIES, Policies)
releases = Broadcast(settings, Name.BUNDLES, Releases)
merchant_risk = Broadcast(settings, Name.MERCHANT_RISK, partial(Risks, Name.MERCHANT_RISK), pause=LATER_SECONDS)
device_risk = Broadcast(settings, Name.DEVICE_RISK, partial(Risks, Name.DEVICE_RISK), pause=LATER_SECONDS)
broadcasts = (lists, policies, releases, merchant_risk, device_risk)
shelf = Shelf(settings, lambda: releases.held, local)
sources = tuple(full_name(name, settings) for name in SOURCES)
transactions, labels, history = sources
decisions = full_name(Name.DECISIONS, settings)
dead_letters = full_name(Name.DEAD_LETTERS, settings)
merchant_events = full_name(Name.MERCHANT_EVENTS, settings)
device_events = full_name(Name.DEVICE_EVENTS, settings)

app = StreamApp(settings, broadcasts, [shelf])
payments = app.topic(*sources, key_type=bytes, value_type=bytes)
of_merchants = app.topic(merchant_events, key_type=bytes, value_type=bytes)
of_devices = app.topic(device_events, key_type=bytes, value_type=bytes)


def in_force() -> InForce:
    """The policy, and where it comes from."""
    latest = policies.held.latest
    return otherwise if latest is None else latest


def terms() -> Terms:
    """What payments are judged by now. Ask once for each chunk: within one, nothing changes."""
    merchants, devices = merchant_risk.held, device_risk.held
    return Terms(
        in_force().policy,
        lists.held.lists,
        rates,
        ttl,
        settings.feature_share,
        merchants.packed,
        merchants.credited,
        devices.packed,
        f"{merchants.read}.{devices.read}",
        shelf.serving,
    )
