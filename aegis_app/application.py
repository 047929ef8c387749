"""The one Faust application: its settings, its topics, its policy."""

from typing import Final

from aegis_app.core.policy import PolicyError
from aegis_app.core.screen import Terms
from aegis_app.policies import load_policy
from aegis_app.settings import SettingsError
from aegis_app.settings import settings as read_settings
from aegis_app.stream.app import StreamApp
from aegis_app.topics import SOURCES, Name, full_name

WAITING: Final = (Name.LABELS,)
"""Topics that come with the cards' partitions, but are not read yet by this version."""


try:
    settings = read_settings()
    policy = load_policy(settings)
except (SettingsError, PolicyError) as error:
    raise SystemExit(f"aegis: {error}") from None

terms = Terms(policy=policy, ttl=settings.card_ttl_days * 86_400_000, feature_share=settings.feature_share)
sources = tuple(full_name(name, settings) for name in SOURCES)
transactions, labels, history = sources
decisions = full_name(Name.DECISIONS, settings)
dead_letters = full_name(Name.DEAD_LETTERS, settings)

app = StreamApp(settings, waiting_topics=[full_name(name, settings) for name in WAITING])
payments = app.topic(*sources, key_type=bytes, value_type=bytes)
