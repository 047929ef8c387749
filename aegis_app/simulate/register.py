"""Payments written down, as the bank sees them."""

from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Final

from aegis_app.core.payment import CARD_PRESENT, GIVES_BACK, Channel, Kind, Millis, Transaction
from aegis_app.simulate.accounts import Accounts
from aegis_app.simulate.currencies import minor, notes
from aegis_app.simulate.habits import Act
from aegis_app.simulate.holders import Holder
from aegis_app.simulate.issuer import Issuer

WITHOUT_POSITION: Final = 0.2
"""Share of card-present payments whose terminal does not say where it stands."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)

_FROM_THE_ACCOUNT = (Kind.TRANSFER, Kind.CASH_OUT)
_NO_ATTRIBUTES: dict[str, float] = {}


class Register:
    """Gives each payment its id, currency, amount and position, and takes it from the holder's account."""

    def __init__(self, seed: int, cards: int, issuer: Issuer) -> None:
        self._id = f"t{seed:x}"
        self._random = Random(f"register {seed}")
        self._number = count()
        self._accounts = Accounts(cards)
        self._issuer = issuer

    def enter(self, at: Millis, holder: Holder, act: Act) -> Transaction:
        """The payment that `act` is. Ids differ between runs that start at different times, so that they can follow one another."""
        merchant, home, channel, kind = act.merchant, holder.home, act.channel, act.kind
        currency = home.currency
        country, merchant_id, mcc, latitude, longitude = home.country, None, None, None, None
        if merchant is not None:
            merchant_id, mcc, country = merchant.merchant_id, merchant.category.mcc, merchant.country
            if merchant.currency is not None:
                currency = merchant.currency
            # For a refund the card need not be there.
            if channel in CARD_PRESENT and kind not in GIVES_BACK and self._random.random() >= WITHOUT_POSITION:
                latitude, longitude = merchant.latitude, merchant.longitude
        spent, attributes = act.worth, _NO_ATTRIBUTES
        if kind in _FROM_THE_ACCOUNT:
            balance = self._accounts.balance(holder, at)
            # There is credit of a hundred euros, or most withdrawals near the end of a month would be of the whole balance.
            spent = min(spent, balance + 100_00) if act.of_balance is None else act.of_balance * balance
            if holder.tells_balance:
                attributes = {"balance_minor": float(minor(balance, currency))}
        amount = notes(spent, currency) if channel is Channel.ATM else minor(spent, currency)
        self._accounts.take(holder, at, -spent if kind in GIVES_BACK else spent)
        return Transaction(
            transaction_id=f"{self._id}-{at:x}-{next(self._number):x}",
            card_id=self._issuer.card_id(holder, at),
            amount_minor=amount,
            currency=currency,
            timestamp=EPOCH + timedelta(milliseconds=at),
            kind=kind,
            channel=channel,
            merchant_id=merchant_id,
            merchant_category=mcc,
            payee_id=act.payee_id,
            customer_id=holder.customer_id,
            device_id=act.device_id,
            country=country,
            home_country=home.country,
            latitude=latitude,
            longitude=longitude,
            attributes=attributes,
        )
