"""What comes to a bundle is counted by the bins of what it was trained on."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.bundle import load
from models.drift import TOGETHER, Drift, Histogram, histogram
from models.inputs import Vector
from models.serving import Serving
from tests.conftest import Trained


def stability(expected: Histogram, counts: list[int]) -> float:
    """The population stability index, as the recording rules have it."""
    total = sum(counts)
    shares = [(max(number / total, 1e-4), max(share, 1e-4)) for number, share in zip(counts, expected.shares, strict=True)]
    return sum((now - then) * log(now / then) for now, then in shares)


def counted(of: Histogram, values: Vector) -> list[int]:
    drift = Drift({"x": of}, ["y", "x"])
    for part in np.array_split(np.column_stack([values + 1, values]), 7):
        drift.add(part)
    return drift.counts()["x"]


VALUES = arrays(np.float32, st.integers(1, 200), elements=st.one_of(st.just(np.nan), st.just(0.0), st.floats(-1e6, 1e6, width=32)))


@given(VALUES)
def test_what_was_trained_on_falls_into_the_bins_it_was_counted_in(values: Vector) -> None:
    of = histogram(values)

    assert list(of.edges) == sorted(set(of.edges))
    assert len(of.shares) == len(of.edges) + 2 <= 11
    assert sum(of.shares) == pytest.approx(1)
    assert of.shares[-1] == pytest.approx(np.isnan(values).mean())
    assert counted(of, values) == [round(share * len(values)) for share in of.shares]


def test_a_shift_is_seen_and_chance_is_not() -> None:
    chance = np.random.default_rng(1)
    amounts = chance.lognormal(3, 1, 20_000)
    of = histogram(amounts)

    assert len(of.edges) == 9
    assert stability(of, counted(of, chance.lognormal(3, 1, 10_000))) < 0.01
    assert stability(of, counted(of, chance.lognormal(3.6, 1, 10_000))) > 0.25
    assert stability(of, counted(of, np.where(chance.random(10_000) < 0.3, np.nan, chance.lognormal(3, 1, 10_000)))) > 0.25


def test_a_value_that_is_usual_has_a_bin_of_its_own() -> None:
    of = histogram(np.repeat([0.0, 1.0, 2.0], [950, 40, 10]))

    assert (of.edges, of.shares) == ((0.0,), (0.95, 0.05, 0.0))
    assert histogram(np.zeros(5)).shares == (1.0, 0.0)
    assert histogram(np.full(5, np.nan)).shares == (0.0, 1.0)


def test_a_bundle_knows_how_all_that_it_is_given_and_says_was_spread(trained: Trained) -> None:
    serving = Serving(load(trained.path))
    names = {*trained.manifest.features, "isolation_forest", "autoencoder", "supervised", "score"}

    assert trained.manifest.histograms.keys() == serving.drift.counts().keys() == names
    assert len(trained.manifest.histograms["amount"].edges) == 9


def test_rows_wait_only_until_there_are_some(trained: Trained) -> None:
    drift = Drift(trained.manifest.histograms, ["amount"])
    drift.add(np.ones((TOGETHER - 1, 1), np.float32))
    drift.add(np.ones((1, 1), np.float32))

    assert drift._waiting == []
    assert sum(drift.counts()["amount"]) == TOGETHER
