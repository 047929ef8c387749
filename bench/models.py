"""What the models of a bundle cost: CPU per payment in chunks of several sizes, each layer alone, all together, explained, and as a worker
asks: from payments that are described already to what is asked for.
"""

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from aegis_app.core.case import Case, case
from aegis_app.core.features import Features
from aegis_app.core.policy import parse_policy
from aegis_app.core.rates import EUROS
from aegis_app.core.replay import replay
from aegis_app.core.terms import Terms
from aegis_app.packaged import packaged_policy
from aegis_app.simulate import simulate
from models.bundle import load
from models.explaining import Explainer
from models.inputs import Rows
from models.scoring import Scorer
from models.serving import Serving
from models.training import read_sample

CHUNKS: Final = (1, 16, 128, 512)
EXPLAINED: Final = 0.02
"""Share of payments that are not simply allowed."""
SECONDS: Final = 1.0
"""Of each measurement."""


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("matrix", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(bundle: Path, matrix: Path) -> None:
    """Example: python -m bench.models bundles/march matrix.parquet"""
    loaded = load(bundle)
    scorer = Scorer(loaded)
    explainer = Explainer(loaded, scorer)
    sample = read_sample(matrix, None, 0, 0)
    rows = sample.rows[:, [sample.features.index(name) for name in scorer.features]]
    shuffled = np.random.default_rng(1).permutation(rows)
    found: dict[str, dict[int, float]] = {}
    for chunk in CHUNKS:
        for layer in scorer.manifest.layers:
            found.setdefault(layer.name, {})[chunk] = cost(partial(scorer.raw, layer.name), shuffled, chunk)
        found.setdefault("all", {})[chunk] = cost(scorer.score, shuffled, chunk)
        explained = max(1, round(EXPLAINED * chunk))
        layers = {name: values[:explained] for name, values in scorer.score(shuffled[:explained]).layers.items()}
        of_one = cost(partial(explainer.explain, layers=layers), shuffled, explained)
        found.setdefault("one explained", {})[chunk] = of_one
        found.setdefault("all, 2 % explained", {})[chunk] = round(found["all"][chunk] + EXPLAINED * of_one, 2)
    serving = Serving(loaded)
    pairs = described()
    found["as a worker asks"] = {chunk: cost(serving.ask, pairs, chunk) for chunk in CHUNKS}
    click.echo(json.dumps(found, indent=2))


def described() -> list[tuple[Case, Features]]:
    """Simulated payments, every group of their features found."""
    day = [each.transaction for each in simulate(2000, 3, 1, datetime(2026, 3, 1, tzinfo=UTC))]
    pairs = []
    for txn, screened in replay(day, Terms(parse_policy(packaged_policy()))):
        if screened.seen is not None:
            screened.seen.row()
            pairs.append((case(txn, txn.at, EUROS), screened.seen))
    return pairs


def cost(score: Callable[[Any], object], rows: Sequence[Any] | Rows, chunk: int) -> float:
    """Microseconds of CPU per payment: the median of chunks, each of other payments."""
    parts = [rows[start : start + chunk] for start in range(0, min(len(rows), 100 * chunk), chunk)]
    spent, until = [], time.monotonic() + SECONDS
    while time.monotonic() < until:
        for part in parts:
            if len(part) == chunk:
                before = time.process_time_ns()
                score(part)
                spent.append(time.process_time_ns() - before)
    return round(float(np.median(spent)) / 1000 / chunk, 2)


if __name__ == "__main__":
    main()
