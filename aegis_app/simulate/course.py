"""The course of events: everybody's payments, frauds among them, made as they are asked for."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from aegis_app.core.payment import Millis, Transaction
from aegis_app.simulate.arrivals import Labelled, in_order_of_arrival
from aegis_app.simulate.holders import Population
from aegis_app.simulate.issuer import Issuer
from aegis_app.simulate.lives import genuine
from aegis_app.simulate.places import DAY_MS
from aegis_app.simulate.register import EPOCH, MILLISECOND, Register
from aegis_app.simulate.underworld import Underworld

PAYMENTS_A_DAY: Final = 1.5


def simulate(
    cards: int, days: float, seed: int, start: datetime, fraud_rate: float = 0.001, rate: float = PAYMENTS_A_DAY
) -> Iterator[Labelled]:
    """Payments of `cards` cards over `days` days from `start`, in order of arrival; the same for the same arguments.

    A late payment comes after others that took place after it. `rate` is payments per card and day, `fraud_rate` the share of
    payments that are fraud (attacks may still be under way at the end). Genuine payments do not depend on `fraud_rate`, save that
    who lost a card to fraudsters pays nothing until the new one comes, and an emptied account is empty. Memory grows with `cards`
    (some 100 bytes each, and 2.5 KB for each of the 65,536 who paid last), not with payments.
    """
    if cards < 1 or not days > 0 or not rate > 0:
        raise ValueError("cards, days and rate are above 0")
    if not 0 <= fraud_rate < 1:
        raise ValueError("fraud_rate is a share: at least 0 and below 1")
    if start.tzinfo is None:
        raise ValueError("start needs a time zone")
    begin = (start - EPOCH) // MILLISECOND
    return in_order_of_arrival(_course(Population(seed, cards, rate), begin, begin + round(days * DAY_MS), fraud_rate), seed)


def _course(population: Population, begin: Millis, end: Millis, fraud_rate: float) -> Iterator[tuple[Millis, Transaction, str | None]]:
    issuer = Issuer(population.seed)
    register = Register(population.seed, population.cards, issuer)
    underworld = Underworld(population, issuer, fraud_rate)
    for at, holder, act in genuine(population, begin, end, issuer.is_usable):
        for due, victim, crime, fraud in underworld.until(at):
            yield due, register.enter(due, victim, crime), fraud
        yield at, register.enter(at, holder, act), None
        underworld.watch(at, holder, act)
    for due, victim, crime, fraud in underworld.until(end):
        yield due, register.enter(due, victim, crime), fraud
