"""What became known from elsewhere: of the merchant and the device by all cards (see `core.risk`), and of the card by labels."""

from collections.abc import Container, Mapping, Sequence
from typing import Annotated, Final

from msgspec import Struct

from aegis_app.core.features.catalogue import of
from aegis_app.core.payment import DAY_MS, Millis
from aegis_app.core.risk import Risk
from aegis_app.core.verdicts import frauds

_NOBODY: Final = "no merchant given, or nothing known of it"
_NO_DEVICE: Final = "no device given, or no other card known to use it, nor a fraud with it"
_RATE: Final = f"{_NOBODY}, or a rate was missing"
_UNUSUAL: Final = f"{_NOBODY}, or of none of these payments"
_AT: Final = "at the merchant"
_MATURE: Final = "of younger ones verdicts are not known yet"
_NO_FRAUD: Final = f"{_NOBODY}, or no payment is confirmed as fraud"
_CREDITED: Final = "in the 30 days before a fraud of theirs elsewhere, one that became known within 30 days"


class Merchant(Struct, frozen=True, gc=False):
    merchant_payments_10m: Annotated[
        int | None, of("payments", f"{_AT} in the 10 minutes before its last one; 0 if that is as old", _NOBODY)
    ]
    merchant_payments_1h: Annotated[int | None, of("payments", f"{_AT} in the hour before its last one; 0 if that is as old", _NOBODY)]
    merchant_cards_1h: Annotated[int | None, of("cards", "different ones in that hour", _NOBODY)]
    merchant_small_1h: Annotated[int | None, of("payments", "verifications and tiny amounts in that hour", _NOBODY)]
    merchant_refused_1h: Annotated[int | None, of("payments", "not allowed in that hour", _NOBODY)]
    merchant_first_1h: Annotated[int | None, of("payments", "in that hour by cards that had never been there", _NOBODY)]
    merchant_money_1h: Annotated[float | None, of("base minor units", "amounts tried in that hour", _RATE)]
    merchant_unusual_1h: Annotated[float | None, of("0 to 1000", "how unusual those were for their cards, on average", _UNUSUAL)]
    merchant_seconds_since_last: Annotated[float | None, of("seconds", "since the merchant's last payment", _NOBODY)]
    merchant_age_days: Annotated[float | None, of("days", "since the merchant's first payment known here", _NOBODY)]


class MerchantDays(Struct, frozen=True, gc=False):
    merchant_payments_1d: Annotated[int | None, of("payments", f"{_AT} on this UTC day so far", _NOBODY)]
    merchant_payments_7d: Annotated[int | None, of("payments", f"{_AT} on this UTC day so far and the 6 days before", _NOBODY)]
    merchant_payments_30d: Annotated[int | None, of("payments", f"{_AT} on this UTC day so far and the 29 days before", _NOBODY)]
    merchant_unusual_1d: Annotated[float | None, of("0 to 1000", "how unusual payments of this day were for their cards", _UNUSUAL)]
    merchant_unusual_7d: Annotated[float | None, of("0 to 1000", "the same over 7 days", _UNUSUAL)]
    merchant_unusual_30d: Annotated[float | None, of("0 to 1000", "the same over 30 days", _UNUSUAL)]


class MerchantFrauds(Struct, frozen=True, gc=False):
    merchant_frauds_1d: Annotated[
        int | None, of("payments", f"{_AT} confirmed as fraud, of the day eight days ago ({_MATURE})", _NOBODY, labels=True)
    ]
    merchant_frauds_7d: Annotated[int | None, of("payments", "the same, of the 7 days that end then", _NOBODY, labels=True)]
    merchant_frauds_30d: Annotated[int | None, of("payments", "the same, of the 30 days that end then", _NOBODY, labels=True)]
    merchant_frauds_known_1d: Annotated[int | None, of("payments", f"frauds {_AT} that became known on this day", _NOBODY, labels=True)]
    merchant_frauds_known_7d: Annotated[int | None, of("payments", "the same within 7 days", _NOBODY, labels=True)]
    merchant_frauds_known_30d: Annotated[int | None, of("payments", "the same within 30 days", _NOBODY, labels=True)]
    merchant_credits_30d: Annotated[int | None, of("cards", f"used {_AT} {_CREDITED}", _NOBODY, labels=True)]


class MerchantFraudDays(Struct, frozen=True, gc=False):
    merchant_days_since_first_fraud: Annotated[
        int | None, of("days", f"since the first payment {_AT} in 38 days that is confirmed as fraud", _NO_FRAUD, labels=True)
    ]
    merchant_days_since_fraud: Annotated[int | None, of("days", "since the last of them", _NO_FRAUD, labels=True)]
    merchant_payments_since_fraud: Annotated[
        int | None, of("payments", f"{_AT} on days after that, up to the day eight days ago ({_MATURE})", _NO_FRAUD, labels=True)
    ]
    merchant_fraud_share_last_1: Annotated[
        float | None,
        of("0 to 1", f"share of frauds in the last payment {_AT} that is eight days old, or all of its day", _NOBODY, labels=True),
    ]
    merchant_fraud_share_last_3: Annotated[float | None, of("0 to 1", "the same of the last 3", _NOBODY, labels=True)]
    merchant_fraud_share_last_10: Annotated[float | None, of("0 to 1", "the same of the last 10", _NOBODY, labels=True)]


class MerchantRates(Struct, frozen=True, gc=False):
    merchant_fraud_rate_1d: Annotated[
        float | None,
        of(
            "0 to 1", f"share of frauds in all payments {_AT}, of the day eight days ago; 0.005 where there were none", _NOBODY, labels=True
        ),
    ]
    merchant_fraud_rate_7d: Annotated[float | None, of("0 to 1", "the same, of the 7 days that end then", _NOBODY, labels=True)]
    merchant_fraud_rate_30d: Annotated[float | None, of("0 to 1", "the same, of the 30 days that end then", _NOBODY, labels=True)]


class Compromise(Struct, frozen=True, gc=False):
    recent_credits_30d: Annotated[
        int | None,
        of("cards", "`merchant_credits_30d` of that merchant used within 30 days which has most", "none of them is known", labels=True),
    ]


class Device(Struct, frozen=True, gc=False):
    device_payments_1h: Annotated[
        int | None, of("payments", "with the device in the hour before its last one; 0 if that is as old", _NO_DEVICE)
    ]
    device_cards_1h: Annotated[int | None, of("cards", "different ones in that hour", _NO_DEVICE)]
    device_refused_1h: Annotated[int | None, of("payments", "not allowed in that hour", _NO_DEVICE)]
    device_cards_7d: Annotated[int | None, of("cards", "different ones on this UTC day so far and the 6 days before", _NO_DEVICE)]
    device_frauds_known_30d: Annotated[
        int | None, of("payments", "frauds with it that became known within 30 days", _NO_DEVICE, labels=True)
    ]
    device_age_days: Annotated[float | None, of("days", "since the device's first payment known here", _NO_DEVICE)]


class Verdicts(Struct, frozen=True, gc=False):
    card_frauds: Annotated[int, of("payments", "of the card, confirmed as fraud by now; such cards are usually reissued", labels=True)]
    days_since_card_fraud: Annotated[float | None, of("days", "since the latest of them became known", "none", labels=True)]


def merchant(known: Risk) -> Merchant:
    ten, hour = known.ten_minutes, known.hour
    if ten is None or hour is None:
        return _NO_MERCHANT
    return Merchant(
        ten.payments,
        hour.payments,
        hour.cards,
        hour.small,
        hour.refused,
        hour.first,
        hour.money,
        hour.unusual,
        known.seconds_since_last,
        known.age_days,
    )


_NO_MERCHANT: Final = Merchant(*[None] * 10)


def merchant_days(known: Risk) -> MerchantDays:
    return MerchantDays(*known.payments, *known.unusual)


def merchant_frauds(known: Risk) -> MerchantFrauds:
    return _NO_FRAUDS if known.is_clean else MerchantFrauds(*known.frauds_delayed, *known.frauds_known, *known.credits[-1:])


_NO_FRAUDS: Final = MerchantFrauds(*[0] * 7)


def merchant_fraud_days(known: Risk) -> MerchantFraudDays:
    return _NO_FRAUD_DAYS if known.is_clean else MerchantFraudDays(*known.fraud_days, *known.fraud_shares)


_NO_FRAUD_DAYS: Final = MerchantFraudDays(None, None, None, 0.0, 0.0, 0.0)


def merchant_rates(known: Risk) -> MerchantRates:
    return MerchantRates(*known.fraud_rates)


def compromise(visited: Sequence[str], risks: Mapping[str, bytes], credited: Container[str], at: Millis) -> Compromise:
    if not any(name in risks for name in visited):
        return _NOTHING
    return Compromise(max((Risk(risks.get(name), at).credits[-1] or 0 for name in visited if name in credited), default=0))


_NOTHING: Final = Compromise(None)


def device(known: Risk) -> Device:
    hour = known.hour
    if hour is None:
        return _NO_DEVICE_KNOWN
    _, cards, _ = known.cards
    return Device(hour.payments, hour.cards, hour.refused, cards, known.frauds_known[-1], known.age_days)


_NO_DEVICE_KNOWN: Final = Device(*[None] * 6)


def verdicts(column: bytes, at: Millis) -> Verdicts:
    number, latest = frauds(column, at)
    return Verdicts(number, None if latest is None else (at - latest) / DAY_MS)
