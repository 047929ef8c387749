"""What fraudsters do with cards. Each fraud is a function of those on the market; its name is the label.

Ids of devices, payees and merchants look like everybody's: nothing but behaviour gives a fraud away. Of each fraud a part is hasty
or greedy and a part is patient or modest, so that no rule catches all of it and none has to miss all of it.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from aegis_app.core.payment import Channel, Kind, Millis
from aegis_app.simulate.chance import zipf
from aegis_app.simulate.habits import CONTACTLESS_LIMIT_MINOR, Act, amount, any_online, choose_online, new_payee
from aegis_app.simulate.holders import Holder
from aegis_app.simulate.market import Market
from aegis_app.simulate.merchants import ONLINE_MERCHANTS, SITES, Merchant, cash_machine, newest_shop, shop, worldwide
from aegis_app.simulate.places import DAY_MS, HOUR_MS, City, far_from

MINUTE_MS: Final = 60_000
FAR_KM: Final = 700.0
"""How far away a copied card is used, at least."""

Attack = Iterator[tuple[Millis, Holder, Act]]
Fraud = Callable[[Market, Millis, Random], Attack]


def card_testing(market: Market, at: Millis, random: Random) -> Attack:
    """Small amounts and verifications to see whether the card works, then a large purchase; sometimes spread over days."""
    victim, patient = market.card(at), random.random() < 0.3
    device, merchants = _device(random), [any_online(victim, 0.5, random) for _ in range(random.randint(1, 3))]
    for _ in range(random.randint(2, 4) if patient else random.randint(5, 14)):
        yield at, victim, _attempt(random.choice(merchants), device, random)
        at += round(random.uniform(3 * HOUR_MS, 15 * HOUR_MS) if patient else random.uniform(4_000, 50_000))
    at += random.randint(MINUTE_MS, 30 * MINUTE_MS)
    large = _high(victim, random, 4, 12) if patient else max(300_00.0, _high(victim, random, 10, 30))
    yield at, victim, Act(large, Channel.ONLINE, any_online(victim, 0.5, random), device_id=device)


def enumeration(market: Market, at: Millis, random: Random) -> Attack:
    """A machine tries many cards once or twice each, at one merchant; in minutes from one device, or over a day from ever others.

    Of the cards that work, some pay for something later.
    """
    hasty = random.random() < 0.5
    device, seller = _device(random), worldwide(zipf(random.random(), ONLINE_MERCHANTS))
    pause_ms = (1_000, 15_000) if hasty else (5 * MINUTE_MS, 90 * MINUTE_MS)
    for _ in range(random.randint(8, 24)):
        victim = market.card(at)
        for _ in range(random.randint(1, 2)):
            yield at, victim, _attempt(seller, device if hasty else _device(random), random)
            at += random.randint(*pause_ms)
        if random.random() < 0.15:
            bought = Act(_high(victim, random, 1, 10), Channel.ONLINE, any_online(victim, 0.5, random), device_id=_device(random))
            yield at + random.randint(HOUR_MS, 3 * DAY_MS), victim, bought


def stolen_card(market: Market, at: Millis, random: Random) -> Attack:
    """A copy used far away, or the card itself used in shops of its own city: up quickly, or a few times without its PIN."""
    victim, how = market.card(at), random.random()
    copied, careful = how < 0.4, how > 0.75
    place = random.choice(far_from(victim.home, FAR_KM)) if copied else victim.home
    site = zipf(random.random(), SITES)
    for _ in range(random.randint(2, 4) if careful else random.randint(2, 9)):
        merchant = shop(place.number, site, at)
        if careful:
            yield at, victim, _tapped(merchant, random)
        elif random.random() < (0.25 if copied else 0.1):
            yield at, victim, Act(_high(victim, random, 4, 10), Channel.ATM, cash_machine(place.number, site), Kind.CASH_OUT)
        elif copied:
            yield at, victim, Act(_high(victim, random, 2, 15), Channel.MAGSTRIPE, merchant)
        elif random.random() < 0.4:
            yield at, victim, _tapped(merchant, random)
        else:
            yield at, victim, Act(_high(victim, random, 3, 12), Channel.CHIP, merchant)
        at += random.randint(2 * MINUTE_MS, 30 * MINUTE_MS) * (6 if careful else 1)
        if random.random() < 0.5:
            site = zipf(random.random(), SITES)


def account_takeover(market: Market, at: Millis, random: Random) -> Attack:
    """Someone else's device pays online and transfers to payees never paid before, at times all there is; a third low and slow."""
    victim, device, mules = market.card(at), _device(random), [new_payee(random) for _ in range(random.randint(1, 2))]
    if random.random() < 1 / 3:
        for _ in range(random.randint(3, 7)):
            merchant = choose_online(victim, random)
            yield at, victim, Act(2 * amount(victim, merchant.category, random), Channel.ONLINE, merchant, device_id=device)
            at += round(random.uniform(8 * HOUR_MS, 40 * HOUR_MS))
        return
    emptied = random.random() < 0.4
    for left in reversed(range(random.randint(2, 6))):
        if emptied and not left:
            share = random.uniform(0.9, 1.0)
            yield at, victim, Act(0.0, Channel.ONLINE, None, Kind.TRANSFER, random.choice(mules), device, share)
        elif random.random() < 0.6:
            spent = _high(victim, random, 8, 40)
            yield at, victim, Act(spent, Channel.ONLINE, None, Kind.TRANSFER, random.choice(mules), device)
        else:
            bought = any_online(victim, 0.5, random)
            yield at, victim, Act(_high(victim, random, 6, 25), Channel.ONLINE, bought, device_id=device)
        at += random.randint(2 * MINUTE_MS, 40 * MINUTE_MS)


def compromised_terminal(market: Market, at: Millis, random: Random) -> Attack:
    """Who paid at a tampered terminal pays there again without knowing; the copies are used elsewhere, days and weeks later."""
    terminal = market.terminal()
    if terminal is None:
        return
    for victim in terminal.copied.values():
        if random.random() < 0.5:
            spent = amount(victim, terminal.merchant.category, random) * random.choice((1, 1, 6))
            yield _by_day(at + random.randint(0, 6 * DAY_MS), victim.home, random), victim, Act(spent, Channel.MAGSTRIPE, terminal.merchant)
        if random.random() < 0.6:
            used = at + random.randint(2 * DAY_MS, 20 * DAY_MS)
            online, place = random.random() < 0.6, random.choice(far_from(victim.home, FAR_KM))
            device, greed = _device(random), random.choice((1, 5))
            for _ in range(random.randint(1, 4)):
                spent = greed * _high(victim, random, 0.5, 3)
                if online:
                    yield used, victim, Act(spent, Channel.ONLINE, any_online(victim, 0.5, random), device_id=device)
                else:
                    yield used, victim, Act(spent, Channel.MAGSTRIPE, shop(place.number, zipf(random.random(), SITES), used))
                used += random.randint(5 * MINUTE_MS, 10 * HOUR_MS)


def slow_bleed(market: Market, at: Millis, random: Random) -> Attack:
    """Somebody pays little things online with the number, for weeks and at the holder's own hours; some become greedy at the end."""
    victim, device = market.card(at), _device(random)
    merchants = [any_online(victim, 0.5, random) for _ in range(random.randint(1, 4))]
    number, greedy = random.randint(8, 25), random.random() < 0.3
    for left in reversed(range(number)):
        spent = _high(victim, random, 3, 8) if greedy and left < 3 else _high(victim, random, 0.1, 0.8)
        yield at, victim, Act(spent, Channel.ONLINE, random.choice(merchants), device_id=device)
        at = victim.rhythm.following(at + random.randint(4 * HOUR_MS, 3 * DAY_MS), victim.rhythm.ahead_ms, random)


def merchant_collusion(market: Market, at: Millis, random: Random) -> Attack:
    """A shop that opened lately charges cards of its town for nothing: by day, by telephone, in ordinary amounts.

    No rule is written for it: what is odd shows at the merchant alone, and mostly by what is said about it later. Some shops take
    much more in the end, before they close.
    """
    first = market.card(at)
    colluding, greedy = newest_shop(first.home.number, at), random.random() < 0.3
    for number in range(random.randint(5, 12)):
        victim = first if number == 0 else market.card_from(first.home, at)
        if victim is None:
            continue
        for _ in range(random.randint(1, 2)):
            spent = amount(victim, colluding.category, random) * (8 if greedy and number > 4 else 1)
            yield _by_day(at + number * DAY_MS, victim.home, random), victim, Act(spent, Channel.PHONE, colluding)


FRAUDS: Final[tuple[Fraud, ...]] = (
    card_testing,
    enumeration,
    stolen_card,
    account_takeover,
    compromised_terminal,
    slow_bleed,
    merchant_collusion,
)


def takes_the_card(act: Act) -> bool:
    """Whether the holder no longer has the card: a chip cannot be copied, so who pays by it has the card itself."""
    return act.channel in {Channel.CHIP, Channel.CONTACTLESS}


def _attempt(merchant: Merchant, device: str, random: Random) -> Act:
    """To see whether a card works."""
    if random.random() < 0.4:
        return Act(0.0, Channel.ONLINE, merchant, Kind.VERIFICATION, device_id=device)
    return Act(random.uniform(50, 3_00), Channel.ONLINE, merchant, device_id=device)


def _tapped(merchant: Merchant, random: Random) -> Act:
    return Act(random.uniform(15_00, CONTACTLESS_LIMIT_MINOR), Channel.CONTACTLESS, merchant)


def _high(victim: Holder, random: Random, least: float, most: float) -> float:
    """An amount of so many times what the victim usually spends, in EUR cents."""
    return victim.typical_minor * random.uniform(least, most)


def _by_day(at: Millis, place: City, random: Random) -> Millis:
    """On the day after, between 9 and 19 o'clock in that place."""
    day = (at + place.utc_hours * HOUR_MS) // DAY_MS + 1
    return day * DAY_MS + random.randint(9 * HOUR_MS, 19 * HOUR_MS) - place.utc_hours * HOUR_MS


def _device(random: Random) -> str:
    return f"d{random.getrandbits(64):016x}"
