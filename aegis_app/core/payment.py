"""The nouns of the domain, exactly as they travel in JSON on the topics.

Money is an integer in minor units of its currency, time is aware and UTC, and ``None`` means "not known".
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Final

import msgspec
from iso4217 import Currency
from msgspec import Meta, Struct

Identifier = Annotated[str, Meta(min_length=1, max_length=64)]
MOST_MONEY: Final = 2**53
"""The most that one payment may be, and that is told of it in another currency."""
Money = Annotated[int, Meta(ge=0, le=MOST_MONEY, description="minor units of the currency's own exponent (ISO 4217)")]
CurrencyCode = Annotated[str, Meta(min_length=3, max_length=3, pattern="^[A-Z]{3}$", description="ISO 4217")]
CountryCode = Annotated[str, Meta(min_length=2, max_length=2, pattern="^[A-Z]{2}$", description="ISO 3166-1 alpha-2")]
Millis = int
"""A point in time: whole milliseconds since 1970-01-01T00:00Z."""
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS


def millis(moment: datetime) -> Millis:
    """An aware moment, to the nearest millisecond."""
    return int(moment.timestamp() * 1000 + 0.5)


MOST_ATTRIBUTES: Final = 256
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)


class Kind(StrEnum):
    """What the payment does; refunds and reversals leave velocity and habit alone."""

    PURCHASE = "purchase"
    TRANSFER = "transfer"
    CASH_OUT = "cash_out"
    CASH_IN = "cash_in"
    REFUND = "refund"
    REVERSAL = "reversal"
    VERIFICATION = "verification"


class Channel(StrEnum):
    """How the card was used."""

    CHIP = "chip"
    CONTACTLESS = "contactless"
    MAGSTRIPE = "magstripe"
    ONLINE = "online"
    PHONE = "phone"
    RECURRING = "recurring"
    ATM = "atm"


# Tuples, because an enum member hashes in Python code, and compares by identity.
CARD_PRESENT: Final = (Channel.CHIP, Channel.CONTACTLESS, Channel.MAGSTRIPE, Channel.ATM)
GIVES_BACK: Final = (Kind.REFUND, Kind.REVERSAL)


class Outcome(StrEnum):
    """What becomes of a payment; in order of severity, see `strictest`."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"


SEVERITY: Final[Mapping[Outcome, int]] = {outcome: rank for rank, outcome in enumerate(Outcome)}


# An enum's member is looked up in Python code, and these for every payment.
ALLOW: Final = Outcome.ALLOW
BLOCK: Final = Outcome.BLOCK


def strictest(asked: list[Outcome]) -> Outcome:
    """The most severe of what was asked for; `allow` when nobody asked."""
    return max(asked, key=SEVERITY.__getitem__) if asked else ALLOW


class Transaction(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One card payment or transfer, as on the `transactions` topic (key: `card_id`). Unknown fields are ignored."""

    transaction_id: Annotated[Identifier, Meta(description="a repeat of this id is the same payment")]
    card_id: Annotated[Identifier, Meta(description="a token, never a card number")]
    amount_minor: Money
    currency: CurrencyCode
    timestamp: Annotated[datetime, Meta(tz=True, description="when the payment took place (RFC 3339 with offset)")]
    kind: Kind = Kind.PURCHASE
    channel: Channel | None = None
    merchant_id: Identifier | None = None
    merchant_category: Annotated[str, Meta(min_length=1, max_length=64, description="MCC")] | None = None
    payee_id: Identifier | None = None
    customer_id: Identifier | None = None
    device_id: Identifier | None = None
    country: CountryCode | None = None
    home_country: CountryCode | None = None
    latitude: Annotated[float, Meta(ge=-90, le=90, description="degrees")] | None = None
    longitude: Annotated[float, Meta(ge=-180, le=180, description="degrees")] | None = None
    attributes: dict[Annotated[str, Meta(max_length=64)], float] = {}

    def __post_init__(self) -> None:
        if (self.latitude is None) is not (self.longitude is None):
            raise ValueError("latitude and longitude come together or not at all")
        try:
            is_near = EARLIEST <= self.timestamp < LATEST
        except TypeError:
            raise ValueError("timestamp has no time zone, as datetime.now(UTC) has") from None
        if not is_near:
            raise ValueError("timestamp lies before the year 2000, or after 2099")
        if len(self.attributes) > MOST_ATTRIBUTES:
            raise ValueError(f"more than {MOST_ATTRIBUTES} attributes")
        if not (self.card_id.isprintable() and self.transaction_id.isprintable()):
            raise ValueError("card_id and transaction_id hold printable characters only")

    @property
    def at(self) -> Millis:
        """The payment's own time."""
        return millis(self.timestamp)

    @property
    def is_card_present(self) -> bool:
        """Whether card and terminal were in one place; `False` where the channel is not known."""
        return self.channel in CARD_PRESENT


_LIKE_A_CARD_NUMBER: Final = re.compile(r"(?:%B|;)?[ ./-]*\d(?:[ ./-]*\d){11,18}(?:[ ./-]*|[ ./-]+\d{4}|[=^].*|D\d+)")
_NOT_FIRST: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")


def looks_like_card_number(card_id: str) -> bool:
    """Whether `card_id` is 12 to 19 digits, of whatever script: a card number rather than a token. Spaces, hyphens, dots and slashes
    do not count, nor a date behind it or what else a magnetic stripe says."""
    return card_id[:1] not in _NOT_FIRST and _LIKE_A_CARD_NUMBER.fullmatch(card_id) is not None


@cache
def exponent(currency: str) -> int:
    """Decimal places of `currency` (JPY 0, EUR 2, KWD 3); 2 for a code that ISO 4217 does not list."""
    try:
        places = Currency(currency).exponent
    except ValueError:
        return 2
    return 2 if places is None else places


@cache
def _small(currency: str) -> int:
    return 2 * int(10 ** exponent(currency))


def is_small(txn: Transaction) -> bool:
    """Whether `txn` looks like a test of the card: a verification, or at most two whole units of its currency."""
    return txn.amount_minor <= _small(txn.currency) or txn.kind is Kind.VERIFICATION


def money(amount_minor: float, currency: str) -> str:
    """An amount as people write it: ``1,234.50 EUR``."""
    places = exponent(currency)
    return f"{amount_minor / 10**places:,.{places}f} {currency}"


encode_transaction: Final = msgspec.json.Encoder().encode
decode_transaction: Final = msgspec.json.Decoder(Transaction).decode
