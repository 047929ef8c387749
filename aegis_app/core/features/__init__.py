"""A payment described by what was known before it: the catalogue of features, and how each is found."""

from collections.abc import Container, Mapping
from itertools import chain
from operator import attrgetter
from typing import Any, Final

from msgspec.structs import astuple, fields

from aegis_app.core.card import Card
from aegis_app.core.case import Case
from aegis_app.core.features import amounts, elsewhere, places, usual, windows
from aegis_app.core.features.amounts import Amounts, Comparisons
from aegis_app.core.features.catalogue import once
from aegis_app.core.features.elsewhere import (
    Compromise,
    Device,
    Merchant,
    MerchantDays,
    MerchantFraudDays,
    MerchantFrauds,
    MerchantRates,
    Verdicts,
)
from aegis_app.core.features.places import Home, Travel
from aegis_app.core.features.usual import Codes, Hours, Novelty, Parties, Rhythm, Shares
from aegis_app.core.features.windows import Counts, Money, Month, Span
from aegis_app.core.risk import Risk
from aegis_app.core.visited import visited_before

_NOBODY: Final[Mapping[str, bytes]] = {}


class Features:
    """What is known about a payment, all from the past alone, a group at a time and only when it is asked for.

    Most payments are cleared by a few groups. Ask before the next payment is learnt: what others told goes on changing.
    Counts and money of windows leave the present payment out; refunds and reversals are no attempts.
    """

    def __init__(
        self,
        card: Card,
        case: Case,
        merchants: Mapping[str, bytes] = _NOBODY,
        credited: Container[str] = _NOBODY,
        devices: Mapping[str, bytes] = _NOBODY,
    ) -> None:
        """`card` as it was before the payment; the others as in `Terms`."""
        self._card = card
        self._case = case
        self._merchants = merchants
        self._credited = credited
        self._devices = devices

    @property
    def late(self) -> bool:
        """Whether the card's clock was ahead of the payment already."""
        return self._case.at < self._card.clock

    @once
    def _span(self) -> Span:
        return windows.span(self._card.attempts, self._card.clock, self._case.at)

    @once
    def counts(self) -> Counts:
        return windows.counts(self._card.attempts, self._span)

    @once
    def money(self) -> Money:
        return windows.money(self._card.attempts, self._span)

    @once
    def month(self) -> Month:
        return windows.month(self._card.attempts, self._span, self._card.days)

    @once
    def rhythm(self) -> Rhythm:
        return usual.rhythm(self._card, self._case, self._span)

    @once
    def amounts(self) -> Amounts:
        return amounts.amounts(self._card.habit, self._case)

    @once
    def comparisons(self) -> Comparisons:
        return amounts.comparisons(self._card.habit, self._case, self.money.smallest_1h)

    @once
    def travel(self) -> Travel:
        return places.travel(self._card.habit, self._case)

    @once
    def home(self) -> Home:
        return places.home(self._card.habit, self._case)

    @once
    def hours(self) -> Hours:
        return usual.hours(self._card.habit, self._case)

    @once
    def shares(self) -> Shares:
        return usual.shares(self._card.habit, self._case)

    @once
    def parties(self) -> Parties:
        return usual.parties(self._card.habit, self._case.txn)

    @once
    def novelty(self) -> Novelty:
        return usual.novelty(self._card.habit, self._case.txn)

    @once
    def codes(self) -> Codes:
        return usual.codes(self._case.txn)

    @once
    def _merchant(self) -> Risk:
        name = self._case.txn.merchant_id
        return Risk(None if name is None else self._merchants.get(name), self._case.at)

    @once
    def merchant(self) -> Merchant:
        return elsewhere.merchant(self._merchant)

    @once
    def merchant_days(self) -> MerchantDays:
        return elsewhere.merchant_days(self._merchant)

    @once
    def merchant_frauds(self) -> MerchantFrauds:
        return elsewhere.merchant_frauds(self._merchant)

    @once
    def merchant_fraud_days(self) -> MerchantFraudDays:
        return elsewhere.merchant_fraud_days(self._merchant)

    @once
    def merchant_rates(self) -> MerchantRates:
        return elsewhere.merchant_rates(self._merchant)

    @once
    def compromise(self) -> Compromise:
        at = self._case.at
        return elsewhere.compromise(visited_before(self._card.visited, at), self._merchants, self._credited, at)

    @once
    def device(self) -> Device:
        name = self._case.txn.device_id
        return elsewhere.device(Risk(None if name is None else self._devices.get(name), self._case.at))

    @once
    def verdicts(self) -> Verdicts:
        return elsewhere.verdicts(self._card.verdicts, self._case.at)

    def row(self) -> tuple[Any, ...]:
        """Every feature, in the order of `CATALOGUE`."""
        return tuple(chain.from_iterable(map(astuple, _all_groups(self))))

    def named(self) -> dict[str, Any]:
        """Every feature by its name."""
        return dict(zip(CATALOGUE, self.row(), strict=True))


def _said(annotated: Any) -> dict[str, Any]:
    """What `catalogue.of` says of a feature."""
    (meta,) = annotated.__metadata__
    said: dict[str, Any] = meta.extra_json_schema
    return said


GROUPS: Final = {name: each.kind for name, each in vars(Features).items() if isinstance(each, once) and not name.startswith("_")}
_all_groups: Final = attrgetter(*GROUPS)
CATALOGUE: Final = {field.name: field.type for kind in GROUPS.values() for field in fields(kind)}
"""Every feature by its name: its type, annotated as `catalogue.of` has it."""
OF_OTHERS: Final = frozenset(
    field.name
    for kind in (Merchant, MerchantDays, MerchantFrauds, MerchantFraudDays, MerchantRates, Compromise, Device)
    for field in fields(kind)
)
"""Those that payments of other cards flow into, as far as a worker had heard of them."""
FROM_LABELS: Final = frozenset(name for name, kind in CATALOGUE.items() if _said(kind)["labels"])
"""Those that verdicts flow into: they say nothing where nobody labels. Habit leaves out confirmed frauds, too, but stands without."""
