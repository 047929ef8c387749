"""What fraudsters do with a card. Each fraud is a function of the victim; its name is the label.

Ids of devices and payees look like everybody's: nothing but behaviour gives a fraud away. Of each fraud a part is slow or modest
on purpose, so that no rule catches all of it.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from aegis_app.core.payment import Channel, Kind, Millis
from aegis_app.simulate.habits import CONTACTLESS_LIMIT_MINOR, NOTE_MINOR, Act, amount, choose_online, new_payee
from aegis_app.simulate.holders import Holder
from aegis_app.simulate.merchants import ONLINE_MERCHANTS, SITES, Merchant, cash_machine, domestic, shop, worldwide
from aegis_app.simulate.places import CITIES, HOUR_MS, distance_km

MINUTE_MS: Final = 60_000
FAR_KM: Final = 700.0
"""How far away a copied card is used, at least."""

Attack = Iterator[tuple[Millis, Act]]
Fraud = Callable[[Holder, Millis, Random], Attack]


def card_testing(victim: Holder, at: Millis, random: Random) -> Attack:
    """Small amounts and verifications to see whether the card works, then a large purchase; sometimes spread over days."""
    patient = random.random() < 0.2
    device, merchants = _device(random), [_any_online(victim, random) for _ in range(random.randint(1, 3))]
    for _ in range(random.randint(2, 4) if patient else random.randint(6, 18)):
        spent, kind = (0, Kind.VERIFICATION) if random.random() < 0.4 else (random.randint(50, 3_00), Kind.PURCHASE)
        yield at, Act(spent, Channel.ONLINE, random.choice(merchants), kind, device_id=device)
        at += round(random.uniform(3 * HOUR_MS, 15 * HOUR_MS) if patient else random.uniform(4_000, 50_000))
    at += random.randint(MINUTE_MS, 30 * MINUTE_MS)
    large = _high(victim, random, 4, 12) if patient else max(300_00, _high(victim, random, 10, 30))
    yield at, Act(large, Channel.ONLINE, _any_online(victim, random), device_id=device)


def stolen_card(victim: Holder, at: Millis, random: Random) -> Attack:
    """A copy used far away, or the card itself used up quickly in shops of its own city where the holder does not go."""
    copied = random.random() < 0.5
    place = random.choice([city for city in CITIES if distance_km(city, victim.home) > FAR_KM]) if copied else victim.home
    site = random.randrange(SITES)
    for _ in range(random.randint(2, 9)):
        if random.random() < (0.25 if copied else 0.1):
            notes = max(5, round(_high(victim, random, 4, 10) / NOTE_MINOR))
            yield at, Act(notes * NOTE_MINOR, Channel.ATM, cash_machine(place.number, site), Kind.CASH_OUT)
        elif copied:
            yield at, Act(_high(victim, random, 2, 15), Channel.MAGSTRIPE, shop(place.number, site))
        else:
            yield at, _with_the_card(victim, shop(place.number, site), random)
        at += random.randint(2 * MINUTE_MS, 30 * MINUTE_MS)
        if random.random() < 0.5:
            site = random.randrange(SITES)


def account_takeover(victim: Holder, at: Millis, random: Random) -> Attack:
    """Someone else's device pays online and transfers to payees never paid before; a third of them low and slow."""
    device, mules = _device(random), [new_payee(random) for _ in range(random.randint(1, 2))]
    if random.random() < 1 / 3:
        for _ in range(random.randint(3, 7)):
            merchant = choose_online(victim, random)
            yield at, Act(2 * amount(victim, merchant.category, random), Channel.ONLINE, merchant, device_id=device)
            at += round(random.uniform(8 * HOUR_MS, 40 * HOUR_MS))
        return
    for _ in range(random.randint(2, 6)):
        if random.random() < 0.6:
            spent = _high(victim, random, 15, 50)
            yield at, Act(spent, Channel.ONLINE, None, Kind.TRANSFER, random.choice(mules), device)
        else:
            yield at, Act(_high(victim, random, 6, 25), Channel.ONLINE, _any_online(victim, random), device_id=device)
        at += random.randint(2 * MINUTE_MS, 40 * MINUTE_MS)


FRAUDS: Final[tuple[Fraud, ...]] = (card_testing, stolen_card, account_takeover)


def takes_the_card(act: Act) -> bool:
    """Whether the holder no longer has the card: a chip cannot be copied, so who pays by it has the card itself."""
    return act.channel in {Channel.CHIP, Channel.CONTACTLESS}


def _with_the_card(victim: Holder, merchant: Merchant, random: Random) -> Act:
    if random.random() < 0.4:
        return Act(random.randint(15_00, CONTACTLESS_LIMIT_MINOR), Channel.CONTACTLESS, merchant)
    return Act(_high(victim, random, 3, 12), Channel.CHIP, merchant)


def _high(victim: Holder, random: Random, least: float, most: float) -> int:
    """An amount of so many times what the victim usually spends, in EUR cents."""
    return round(victim.typical_minor * random.uniform(least, most))


def _any_online(victim: Holder, random: Random) -> Merchant:
    number = random.randrange(ONLINE_MERCHANTS)
    return worldwide(number) if random.random() < 0.5 else domestic(victim.home.country, number)


def _device(random: Random) -> str:
    return f"d{random.getrandbits(64):016x}"
