"""What `Training` runs: from the cardholders' past to a bundle. `python -m aegis_app.demo.learning OUT`."""

import os
import sys
from itertools import takewhile
from pathlib import Path
from typing import Final

import msgspec

from aegis_app.core.merchant_events import card_hash
from aegis_app.core.replay import replay
from aegis_app.demo.traffic import BEGIN, CARDS, WARM_DAYS, lives
from aegis_app.policies import local_terms
from aegis_app.settings import settings
from models.datasets.matrix import write_matrix
from models.training import FalsePositives, Plan, read_sample, train

FALSE_POSITIVES: Final = 0.002
PART: Final = 4
"""One in so many cards teaches the models; all of them are replayed, or merchants would be known too little."""
EPOCHS: Final = 5
NICE: Final = 10


def main(out: Path, cards: int = CARDS, part: int = PART) -> None:
    """Describe the warm days as the worker would have, had it decided them, and train on one in `part` cards."""
    course = list(takewhile(lambda each: each.transaction.timestamp < BEGIN + WARM_DAYS, lives(cards)))
    payments = (each.transaction for each in course)
    rows = (
        (txn, screened.ruling.verdict, screened.seen)
        for txn, screened in replay(payments, local_terms(settings()))
        if screened.seen is not None and card_hash(txn.card_id) % part == 0
    )
    matrix, truth = out.parent / "matrix.parquet", out.parent / "truth.jsonl"
    write_matrix(matrix, rows)
    lines = [{"transaction_id": each.transaction.transaction_id, "is_fraud": each.fraud is not None} for each in course]
    truth.write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    plan = Plan(target=FalsePositives(FALSE_POSITIVES), label_delay=1.0, epochs=EPOCHS, base_currency=settings().base_currency)
    train(read_sample(matrix, truth, plan.label_delay, plan.maturity), plan, out)


if __name__ == "__main__":
    os.nice(NICE)
    main(Path(sys.argv[1]))
