"""Amounts that do not fit the card."""

from typing import Annotated, Final

from msgspec import Meta

from aegis_app.core.features import Features
from aegis_app.core.payment import Channel, Kind, Transaction, money
from aegis_app.core.rules.rule import CLEAR, LEAST_HABIT, UNKNOWN, Check, Hit, Limits

# An enum's member is looked up in Python code; each rule is asked about every payment.
RECURRING: Final = Channel.RECURRING
TRANSFER: Final = Kind.TRANSFER
CASH_OUT: Final = Kind.CASH_OUT

Times = Annotated[float, Meta(gt=1, description="times the card's typical amount")]
Least = Annotated[int, Meta(ge=0, description="smallest amount that matters, minor units of the base currency")]


class AmountSpike(Limits, frozen=True):
    times: Times = 8.0
    deviations: Annotated[float, Meta(ge=0, description="standard deviations above the card's mean, of log amount")] = 3.0


class FarAboveLargest(Limits, frozen=True):
    times: Annotated[float, Meta(gt=1, description="times the largest amount that the card was allowed")] = 4.0
    least_minor: Least = 200_00


class NewCountryHighAmount(Limits, frozen=True):
    times: Times = 3.0


class StrangeMerchant(Limits, frozen=True):
    times: Times = 3.0
    share: Annotated[float, Meta(ge=0, lt=1, description="of the card's payments within an hour of this hour: less is unusual")] = 0.02
    habit: Annotated[int, Meta(ge=5, description="payments from which the card's hours count as known")] = 30


class NewDeviceHighAmount(Limits, frozen=True):
    times: Times = 5.0


class RecurringChanged(Limits, frozen=True):
    times: Annotated[float, Meta(gt=1, description="times the last amount, or that part of it")] = 1.5


class AccountDrained(Limits, frozen=True):
    share: Annotated[float, Meta(gt=0, le=1, description="of the balance before the payment")] = 0.9
    least_minor: Least = 500_00


class LocalThenTransfer(Limits, frozen=True):
    minutes: Annotated[float, Meta(gt=0, description="after a payment with the card present")] = 60.0
    times: Times = 8.0


# Each asks first what most payments are cleared by, and what is at hand.


def amount_spike(txn: Transaction, seen: Features, limit: AmountSpike) -> Check:
    """Amount far above what this card usually spends."""
    amounts = seen.amounts
    if amounts.habit_amounts < LEAST_HABIT or amounts.amount_ratio is None:
        return UNKNOWN
    if amounts.amount_ratio <= limit.times:
        return CLEAR
    if amounts.amount_z is not None and amounts.amount_z <= limit.deviations:
        return CLEAR
    return Hit(_against_habit(txn, seen))


def far_above_largest(txn: Transaction, seen: Features, limit: FarAboveLargest) -> Check:
    """Amount far above the largest that this card ever paid."""
    amounts = seen.amounts
    if amounts.habit_amounts < LEAST_HABIT or amounts.amount is None:
        return UNKNOWN
    if amounts.amount < limit.least_minor:
        return CLEAR
    times = seen.comparisons.amount_to_largest
    if times is None:
        return UNKNOWN
    if times <= limit.times:
        return CLEAR
    return Hit(f"{money(txn.amount_minor, txn.currency)}, {times:.3g} times the largest before")


def new_country_high_amount(txn: Transaction, seen: Features, limit: NewCountryHighAmount) -> Check:
    """High amount, with the card present, in a country where it was never used."""
    amounts = seen.amounts
    if amounts.habit_amounts < LEAST_HABIT or amounts.amount_ratio is None:
        return UNKNOWN
    # From afar, a foreign shop is nothing strange: most hits on those were genuine.
    if amounts.amount_ratio <= limit.times or not txn.is_card_present:
        return CLEAR
    if seen.novelty.new_country is None:
        return UNKNOWN
    return Hit(f"first payment in {txn.country}: {_against_habit(txn, seen)}") if seen.novelty.new_country else CLEAR


def strange_merchant(txn: Transaction, seen: Features, limit: StrangeMerchant) -> Check:
    """High amount at a merchant never used before, at an hour when the card is hardly ever used."""
    amounts = seen.amounts
    if amounts.habit < limit.habit or amounts.amount_ratio is None:
        return UNKNOWN
    if amounts.amount_ratio <= limit.times:
        return CLEAR
    is_new, share = seen.parties.new_merchant, seen.hours.hour_share
    if is_new is None or share is None:
        return UNKNOWN
    if not is_new or share >= limit.share:
        return CLEAR
    return Hit(
        f"a merchant never used before, at {txn.timestamp:%H:%M}, near which {share:.1%} of the card's payments lie: "
        f"{_against_habit(txn, seen)}"
    )


def new_device_high_amount(txn: Transaction, seen: Features, limit: NewDeviceHighAmount) -> Check:
    """High amount from a device that this card was never used with."""
    amounts = seen.amounts
    if amounts.habit_amounts < LEAST_HABIT or amounts.amount_ratio is None:
        return UNKNOWN
    if amounts.amount_ratio <= limit.times:
        return CLEAR
    if seen.parties.new_device is None:
        return UNKNOWN
    return Hit(f"a device never used before: {_against_habit(txn, seen)}") if seen.parties.new_device else CLEAR


def recurring_changed(txn: Transaction, seen: Features, limit: RecurringChanged) -> Check:
    """Recurring payment with another amount than the last time."""
    if txn.channel is not RECURRING:
        return CLEAR
    ratio = seen.comparisons.recurring_ratio
    if ratio is None:
        return UNKNOWN
    if 1 / limit.times <= ratio <= limit.times:
        return CLEAR
    return Hit(f"{money(txn.amount_minor, txn.currency)}, {ratio:.3g} times the last one to this merchant")


def account_drained(txn: Transaction, seen: Features, limit: AccountDrained) -> Check:
    """Transfer or cash-out of nearly everything on the account."""
    if txn.kind is not TRANSFER and txn.kind is not CASH_OUT:
        return CLEAR
    amount, share = seen.amounts.amount, seen.comparisons.balance_share
    if amount is None or share is None:
        return UNKNOWN
    if amount < limit.least_minor or share < limit.share:
        return CLEAR
    return Hit(f"{money(txn.amount_minor, txn.currency)}, {share:.0%} of the balance")


def local_then_transfer(txn: Transaction, seen: Features, limit: LocalThenTransfer) -> Check:
    """High transfer to a payee never paid before, soon after the card itself was used."""
    if txn.kind is not TRANSFER:
        return CLEAR
    amounts, is_new, since = seen.amounts, seen.parties.new_payee, seen.rhythm.seconds_since_present
    if amounts.habit_amounts < LEAST_HABIT or is_new is None or amounts.amount_ratio is None:
        return UNKNOWN
    if not is_new or amounts.amount_ratio <= limit.times or since is None or since > limit.minutes * 60:
        return CLEAR
    return Hit(f"a payee never paid before, {since / 60:.0f} minutes after a payment with the card itself: {_against_habit(txn, seen)}")


def _against_habit(txn: Transaction, seen: Features) -> str:
    """The amount and the card's usual one, both in the payment's currency. Only where their ratio is known and above 0."""
    ratio = seen.amounts.amount_ratio
    assert ratio
    return f"{money(txn.amount_minor, txn.currency)}; this card's usual is {money(txn.amount_minor / ratio, txn.currency)}"
