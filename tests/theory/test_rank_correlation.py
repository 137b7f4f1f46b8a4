"""Kendall's rank correlation, against scipy and permutations."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from lib.theory.rank_correlation import bootstrap_interval, kendall_tau, null_spread


def test_it_is_scipys_with_and_without_ties():
    rng = np.random.default_rng(0)
    xs, ys = rng.normal(size=(4, 30)), rng.normal(size=(4, 30))
    xs[2:] = xs[2:].round()
    expected = [kendalltau(x, y).statistic for x, y in zip(xs, ys, strict=True)]
    assert kendall_tau(xs, ys) == pytest.approx(expected)


def test_a_constant_sample_has_no_rank_correlation():
    assert kendall_tau(np.ones(5), np.arange(5.0)) == 0


def test_under_permutations_the_spread_is_that_of_the_formula():
    rng = np.random.default_rng(1)
    ys = np.stack([rng.permutation(20).astype(float) for _ in range(4000)])
    taus = kendall_tau(np.broadcast_to(np.arange(20.0), ys.shape), ys)
    assert taus.std() == pytest.approx(null_spread(20), rel=0.04)


def test_the_bootstrap_interval_holds_the_estimate_and_shrinks_with_the_sample():
    rng = np.random.default_rng(2)
    widths = []
    for n in (20, 200):
        x = rng.normal(size=n)
        y = x + rng.normal(size=n)
        low, high = bootstrap_interval(x, y, 200, rng)
        assert low < kendall_tau(x, y) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_what_makes_no_sense_is_refused_by_name():
    with pytest.raises(ValueError, match="hold 1 values"):
        kendall_tau(np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="n_draws is 10"):
        bootstrap_interval(np.arange(5.0), np.arange(5.0), 10, np.random.default_rng(0))
