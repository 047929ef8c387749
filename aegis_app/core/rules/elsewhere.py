"""What other payments told: of many cards at this merchant or on this device, and what labels said of this card."""

from typing import Annotated

from msgspec import Meta

from aegis_app.core.features import Features
from aegis_app.core.payment import Transaction, is_small
from aegis_app.core.rules.rule import CLEAR, UNKNOWN, Check, Hit, Limits

Share = Annotated[float, Meta(gt=0, le=1, description="of the merchant's payments in that hour")]


class MerchantTesting(Limits, frozen=True):
    least: Annotated[int, Meta(ge=1, description="verifications and tiny amounts at the merchant within an hour")] = 8
    share: Share = 0.5
    first: Annotated[float, Meta(gt=0, le=1, description="of the merchant's payments in that hour, by cards never there before")] = 0.5


class MerchantBurst(Limits, frozen=True):
    least: Annotated[int, Meta(ge=1, description="payments at the merchant within an hour")] = 8
    unusual: Annotated[float, Meta(gt=0, le=1000, description="how unusual those are for their cards, on average, per mille")] = 450.0
    times: Annotated[float, Meta(gt=1, description="times what its payments of 30 days were, on average")] = 2.0


class MerchantFrauds(Limits, frozen=True):
    least: Annotated[int, Meta(ge=1, description="frauds at the merchant that became known within 30 days")] = 3
    share: Annotated[float, Meta(gt=0, le=1, description="of its payments of 30 days")] = 0.05


class DeviceManyCards(Limits, frozen=True):
    most: Annotated[int, Meta(ge=1, description="different cards with the device within 7 days")] = 4


class CardConfirmedFraud(Limits, frozen=True):
    days: Annotated[float, Meta(gt=0, description="since a fraud of the card became known, days")] = 30.0


def merchant_testing(txn: Transaction, seen: Features, limit: MerchantTesting) -> Check:
    """Tiny amount at a merchant where many cards, new to it, are being tested."""
    if not is_small(txn) or txn.merchant_id is None:
        return CLEAR
    small, payments, first = seen.merchant.merchant_small_1h, seen.merchant.merchant_payments_1h, seen.merchant.merchant_first_1h
    if small is None or payments is None or first is None:
        return UNKNOWN
    if small < limit.least or small < limit.share * payments or first < limit.first * payments:
        return CLEAR
    return Hit(
        f"{small} of {payments} payments at this merchant within an hour are verifications or tiny amounts, {first} by cards new to it"
    )


def merchant_burst(txn: Transaction, seen: Features, limit: MerchantBurst) -> Check:
    """Many payments at the merchant within an hour that are unusual for their cards."""
    # First what the card knows: the merchant's memory is asked about payments alone that are not quite usual themselves.
    if txn.merchant_id is None or seen.parties.new_merchant is False:
        return CLEAR
    payments, unusual = seen.merchant.merchant_payments_1h, seen.merchant.merchant_unusual_1h
    if payments is None or unusual is None:
        return UNKNOWN
    if payments < limit.least or unusual < limit.unusual:
        return CLEAR
    before = seen.merchant_days.merchant_unusual_30d
    if before is None:
        return UNKNOWN
    if unusual < limit.times * before:
        return CLEAR
    return Hit(
        f"{payments} payments at this merchant within an hour, unusual for their cards by {unusual:.0f} of 1000; its usual is {before:.0f}"
    )


def merchant_frauds(txn: Transaction, seen: Features, limit: MerchantFrauds) -> Check:
    """Merchant with more confirmed frauds of late than its payments would have."""
    frauds = seen.merchant_frauds.merchant_frauds_known_30d
    if frauds is None:
        return UNKNOWN
    if frauds < limit.least:
        return CLEAR
    payments = seen.merchant_days.merchant_payments_30d
    if payments is None:
        return UNKNOWN
    if frauds < limit.share * payments:
        return CLEAR
    return Hit(f"{frauds} frauds at this merchant became known within 30 days, which had {payments} payments")


def device_many_cards(txn: Transaction, seen: Features, limit: DeviceManyCards) -> Check:
    """Device that was used with many cards within a week."""
    if txn.device_id is None:
        return CLEAR
    cards = seen.device.device_cards_7d
    if cards is None:
        return UNKNOWN
    if cards <= limit.most:
        return CLEAR
    return Hit(f"{cards} cards were used with this device within 7 days")


def card_confirmed_fraud(txn: Transaction, seen: Features, limit: CardConfirmedFraud) -> Check:
    """Card of which a fraud was confirmed of late: it should have been reissued."""
    days = seen.verdicts.days_since_card_fraud
    if days is None or days > limit.days:
        return CLEAR
    return Hit(f"a fraud of this card became known {days:.1f} days ago, {seen.verdicts.card_frauds} in all")
