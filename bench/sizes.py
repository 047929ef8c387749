"""How much is remembered after some weeks: bytes of each card, merchant and device, as RocksDB and the changelog have them.

python -m bench.sizes --help
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count

import click
import numpy as np
from msgspec.structs import replace

from aegis_app.core.card import Card, encode_card
from aegis_app.core.decision import Receipt
from aegis_app.core.label import Label
from aegis_app.core.merchant import Merchant, encode_merchant, fold
from aegis_app.core.merchant_events import Events
from aegis_app.core.payment import Transaction
from aegis_app.core.rates import parse_rates
from aegis_app.core.screen import LABELS, TRANSACTIONS, learn_label, screen
from aegis_app.core.terms import Terms
from aegis_app.core.tidings import Tidings, tidings_of_verdict
from aegis_app.policies import local_terms
from aegis_app.settings import Settings
from aegis_app.simulate import RATES_FILE, simulate
from aegis_app.simulate.labels import Desk

START = datetime(2026, 1, 1, tzinfo=UTC)


class Memories:
    """Of all, as a payment or a label after the other teaches them. What each was told before is not asked: sizes do not depend on it."""

    def __init__(self) -> None:
        self.cards: dict[str, Card] = {}
        self.merchants: dict[str, Merchant] = {}
        self.devices: dict[str, Merchant] = {}

    def pay(self, txn: Transaction, terms: Terms, offset: int) -> None:
        screened = screen(self.cards.get(txn.card_id), txn, terms, Receipt(txn.at, txn.timestamp), offset)
        self.cards[txn.card_id] = screened.card
        self._tell(TRANSACTIONS, screened.tidings)

    def hear(self, label: Label, offset: int) -> None:
        heard = learn_label(self.cards.get(label.card_id), label, offset)
        self.cards[label.card_id] = heard.card
        if heard.changed is not None:
            self._tell(LABELS, tidings_of_verdict(heard.changed, label.card_id, offset))

    def _tell(self, source: int, tidings: Tidings) -> None:
        for memories, events in ((self.merchants, tidings.merchants), (self.devices, tidings.devices)):
            for name, event in events:
                memories[name] = fold(memories.get(name), Events(source, 0, [event]))


def remembered(cards: int, days: float, seed: int) -> Memories:
    """After simulated payments, and what was said about them by then."""
    memories, desk, heard = Memories(), Desk(seed), count()
    terms = replace(local_terms(Settings()), rates=parse_rates(RATES_FILE, "rates", "EUR"))
    for offset, each in enumerate(simulate(cards, days, seed, START, fraud_rate=0.002)):
        txn = each.transaction
        for label in desk.until(txn.at):
            memories.hear(label, next(heard))
        desk.see(each)
        memories.pay(txn, terms, offset)
    return memories


def row(name: str, sizes: Sequence[int]) -> str:
    found = np.array(sizes)
    shares = " | ".join(f"{size:,.0f}" for size in (found.mean(), *np.percentile(found, [50, 99, 100])))
    return f"| {name} | {len(found):,} | {shares} |"


@click.command()
@click.option("--cards", default=3000, show_default=True)
@click.option("--days", default=60.0, show_default=True)
@click.option("--seed", default=31, show_default=True)
def main(cards: int, days: float, seed: int) -> None:
    """Bytes in the mean, of half, of 99 in 100, and at most.

    Example: python -m bench.sizes --cards 3000 --days 60
    """
    memories = remembered(cards, days, seed)
    click.echo("| | number | mean | median | 99 % | most |\n|---|---|---|---|---|---|")
    click.echo(row("cards", [len(encode_card(card)) for card in memories.cards.values()]))
    for kind, found in (("merchants", memories.merchants), ("devices", memories.devices)):
        click.echo(row(kind, [len(encode_merchant(each)) for each in found.values()]))


if __name__ == "__main__":
    main()
