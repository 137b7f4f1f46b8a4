"""The reduction to spectra against GD++ on drawn tasks; fitted rates against the closed form and against every neighbour."""

from itertools import pairwise

import pytest
import torch

from lib.tasks.in_context_regression import linear_targets, streams, uniform_inputs
from lib.theory.gd_plus_plus import implicit_weights, predict
from lib.theory.gd_plus_plus_spectrum import (
    curvatures,
    fit,
    least_loss,
    loss,
    marchenko_pastur,
    pooled,
    remainder,
    spectrum,
)
from lib.theory.one_step import optimal_rate, risk, uniform_moments

S, M4 = uniform_moments(0.5)
RATES = torch.tensor([1.2, 1.5], dtype=torch.float64)
SHRINKAGES = torch.tensor([0.18, 0.1], dtype=torch.float64)


def contexts(batch, n_points=10, n_dims=10):
    return uniform_inputs(streams([0], "test of spectra"), batch, n_points, n_dims)[0].double()


@pytest.mark.parametrize("shrinkages", [None, SHRINKAGES])
def test_what_is_left_to_learn_is_b_of_the_context_times_w(shrinkages):
    xs = contexts(20)
    w = torch.randn(20, 10, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(xs.mT @ xs)
    expected = vectors @ (remainder(values, RATES, shrinkages)[..., None] * (vectors.mT @ w))
    left = w[..., 0] - implicit_weights(xs, (xs @ w)[..., 0], RATES, shrinkages)
    torch.testing.assert_close(left, expected[..., 0])


def test_the_eigenvalues_of_the_transformed_context_are_the_mapped_ones():
    xs = contexts(20, n_points=14)
    expected = curvatures(spectrum(xs), SHRINKAGES)
    for k, gamma in enumerate(SHRINKAGES):
        torch.testing.assert_close(spectrum(xs), expected[..., k].sort(-1).values)
        xs = xs - gamma * xs @ (xs.mT @ xs)
    torch.testing.assert_close(spectrum(xs), expected[..., -1].sort(-1).values)


@pytest.mark.parametrize("shrinkages", [None, SHRINKAGES])
def test_the_loss_from_spectra_is_that_of_drawn_weights_and_queries_within_four_standard_errors(shrinkages):
    generators = streams([0], "test of the spectral loss")
    xs = uniform_inputs(generators, 200_000, 11, 10)
    ys = linear_targets(generators, xs)[0]
    predictions = predict(
        xs[..., :-1, :],
        ys[..., :-1],
        xs[..., -1:, :],
        RATES.float(),
        None if shrinkages is None else shrinkages.float(),
    )
    losses = (predictions[..., 0] - ys[..., -1]).square()[0] / 2
    standard_error = losses.std() / len(losses) ** 0.5
    exact = loss(spectrum(contexts(100_000)), S, RATES, shrinkages)
    assert abs(losses.mean() - exact) < 4 * standard_error  # the spectra's own error is five times smaller
    assert standard_error < 0.01 * exact


def test_the_best_rate_of_one_step_is_the_closed_form():
    eigenvalues = spectrum(contexts(100_000))
    (rate,), (shrinkage,) = fit(eigenvalues, n_steps=1)
    # E tr S² has a relative standard error of 0.15 % on 100,000 contexts, measured over ten such sets.
    assert rate.item() == pytest.approx(optimal_rate(10, 10, S, M4), rel=0.006)
    assert shrinkage == 0
    assert loss(eigenvalues, S, rate[None]).item() == pytest.approx(risk(rate.item(), 10, 10, S, M4) / 2, rel=0.006)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("shrink", [True, False])
def test_no_neighbour_of_the_fitted_rates_is_better(shared, shrink):
    eigenvalues = spectrum(contexts(2000))
    best = fit(eigenvalues, 2, shared, shrink)
    least = loss(eigenvalues, S, *best)
    for which in range(1 + shrink):
        for step in ((0, 1),) if shared else ((0,), (1,)):
            if which == 1 and step == (1,):
                continue  # the last shrinkage acts on nothing
            for change in (-0.02, 0.02):
                moved = [values.clone() for values in best]
                moved[which][list(step)] += change
                assert loss(eigenvalues, S, *moved) > least


def test_shared_rates_of_up_to_ten_steps_are_found_and_each_step_helps():
    """A search that starts at one-step GD's rate runs away for four steps."""
    eigenvalues = pooled(spectrum(contexts(5000)))
    fits = [fit(eigenvalues, n_steps, shrink=True) for n_steps in range(2, 11)]
    losses = [loss(eigenvalues, S, *best).item() for best in fits]
    assert all(after < 0.95 * before for before, after in pairwise(losses))
    rates, shrinkages = fits[-1]
    for factor in (0.99, 1.01):
        assert loss(eigenvalues, S, factor * rates, shrinkages) > losses[-1]
        assert loss(eigenvalues, S, rates, factor * shrinkages) > losses[-1]


def test_every_freedom_helps_and_no_method_beats_the_best_polynomial_of_its_degree():
    eigenvalues = spectrum(contexts(5000))
    losses = {
        (shared, shrink): loss(eigenvalues, S, *fit(eigenvalues, 2, shared, shrink)).item()
        for shared in (True, False)
        for shrink in (True, False)
    }
    assert losses[True, True] < losses[True, False] - 0.02
    assert losses[False, False] < losses[True, False]
    assert losses[False, True] < losses[True, True]
    assert least_loss(eigenvalues, S, degree=2) <= losses[False, False] + 1e-12
    assert least_loss(eigenvalues, S, degree=4) <= losses[False, True] + 1e-12
    assert least_loss(eigenvalues, S, 4) < least_loss(eigenvalues, S, 3) < least_loss(eigenvalues, S, 2)


def test_pooling_hardly_changes_a_loss_or_a_fit():
    eigenvalues = spectrum(contexts(20_000))
    row = pooled(eigenvalues)
    assert row.shape == (2500, 1)
    for values in (eigenvalues, eigenvalues[:5000]):
        exact, coarse = (
            loss(values, S, RATES, SHRINKAGES).item(),
            10 * loss(pooled(values), S, RATES, SHRINKAGES).item(),
        )
        assert coarse == pytest.approx(exact, rel=1e-3)
    for mine, theirs in zip(fit(row, 2, shrink=True), fit(eigenvalues[:5000], 2, shrink=True), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0)


def test_fitted_shrinkages_are_those_that_the_paper_publishes():
    for n_points, published in ((10, 0.179), (25, 0.099), (50, 0.056), (100, 0.029)):
        eigenvalues = pooled(spectrum(contexts(5000, n_points)))
        # Three decimals are published; the paper's values were trained by Adam on batches.
        assert fit(eigenvalues, 2, shrink=True)[1][0].item() == pytest.approx(published, abs=0.004)


def test_one_step_of_gd_is_the_best_polynomial_of_degree_one():
    eigenvalues = spectrum(contexts(5000))
    assert least_loss(eigenvalues, S, 1) == pytest.approx(loss(eigenvalues, S, *fit(eigenvalues, 1)).item(), rel=1e-9)


def test_marchenko_pastur_is_a_density_with_the_mean_of_the_spectrum():
    at = torch.linspace(0, 20, 400_001, dtype=torch.float64)[1:]
    for n_points, n_dims in ((100, 10), (25, 10), (40, 40)):
        density = marchenko_pastur(at, n_points, n_dims, S)
        step = 20 / 400_000
        assert (density.sum() * step).item() == pytest.approx(1, abs=0.01)  # at N = d it has a pole at 0
        assert (density @ at * step).item() == pytest.approx(S * n_points, rel=0.001)


def test_marchenko_pastur_is_the_histogram_of_large_contexts():
    values = spectrum(contexts(3, n_points=800, n_dims=400)).flatten()
    edges = torch.linspace(0, 200, 9, dtype=torch.float64)
    counts = torch.histogram(values.cpu(), edges)[0] / len(values)
    at = torch.linspace(0, 200, 80_001, dtype=torch.float64)[:-1]
    expected = marchenko_pastur(at, 800, 400, S).reshape(8, -1).sum(-1) * 200 / 80_000
    assert (counts - expected).abs().max() < 0.01  # eigenvalues repel: far steadier than 1,200 independent draws


def test_impossible_values_are_refused_by_name():
    eigenvalues = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
        fit(eigenvalues, 0)
    with pytest.raises(ValueError, match=r"float64, got torch\.float32"):
        fit(eigenvalues.float(), 1)
    with pytest.raises(ValueError, match="n_groups must divide the number of eigenvalues, 6, got 4"):
        pooled(eigenvalues, 4)
    with pytest.raises(ValueError, match="1 distinct nodes cannot determine 2 layers"):
        least_loss(eigenvalues, 1.0, 2)
    with pytest.raises(ValueError, match="n_points must be at least n_dims = 3, got 2"):
        marchenko_pastur(eigenvalues, 2, 3, 1.0)
    with pytest.raises(FloatingPointError, match="the search for 2 steps ran away"):
        fit(0 * eigenvalues, 2)
