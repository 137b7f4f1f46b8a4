"""Iterations against numpy's Chebyshev polynomials, exact inverses, and the matrices themselves."""

import numpy as np
import pytest
from numpy.polynomial import Chebyshev, Polynomial

from lib.theory import iterative_solvers as solvers

SPECTRUM = np.linspace(1, 16, 301)


def random_spd(eigenvalues, seed=0):
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    return (Q * eigenvalues) @ Q.T


@pytest.mark.parametrize("n_layers", [1, 2, 5, 8])
def test_chebyshev_s_steps_and_closed_form_equal_numpy_s_chebyshev_polynomial(n_layers):
    polynomial = Chebyshev.basis(n_layers, domain=[1, 16])
    outside = np.array([0.0, 0.5, 18.0, 24.0])
    for points in (SPECTRUM, outside):
        expected = polynomial(points) / polynomial(0.0)
        closed = solvers.chebyshev_residual(points, 1.0, 16.0, n_layers)
        product = solvers.residual_polynomial(points, solvers.chebyshev_steps(1.0, 16.0, n_layers))
        np.testing.assert_allclose(closed, expected, atol=1e-10, rtol=1e-8)
        np.testing.assert_allclose(product, expected, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("n_layers", [2, 6])
def test_no_polynomial_beats_chebyshev_s(n_layers):
    best = solvers.worst_chebyshev(16.0, n_layers)
    assert np.isclose(np.abs(solvers.chebyshev_residual(SPECTRUM, 1.0, 16.0, n_layers)).max(), best, rtol=1e-6)
    rng = np.random.default_rng(0)
    steps = solvers.chebyshev_steps(1.0, 16.0, n_layers)
    for size in np.repeat([0.003, 0.03, 0.3], 30):
        other = np.abs(solvers.residual_polynomial(SPECTRUM, steps * np.exp(size * rng.normal(size=n_layers)))).max()
        assert other > best


def test_the_worst_errors_are_those_on_a_fine_grid():
    for kappa in (2.0, 16.0, 300.0):
        grid = np.geomspace(1, kappa, 4001)
        constant = np.full(5, solvers.richardson_step(1.0, kappa))
        for worst, on_grid in (
            (solvers.worst_richardson, solvers.residual_polynomial(grid, constant)),
            (solvers.worst_chebyshev, solvers.chebyshev_residual(grid, 1.0, kappa, 5)),
            (solvers.worst_whitening, solvers.whitening_residual(grid, kappa, 5)),
            (solvers.worst_newton, solvers.newton_residual(grid, 1.0, kappa, 5)),
        ):
            assert np.isclose(np.abs(on_grid).max(), worst(kappa, 5), rtol=1e-6)


def test_richardson_s_polynomial_is_what_the_iteration_on_matrices_leaves():
    eigenvalues = np.array([1.0, 3.0, 7.0, 16.0])
    S, target = random_spd(eigenvalues), np.arange(1.0, 5.0)
    weights = np.zeros(4)
    for step in (steps := solvers.chebyshev_steps(1.0, 16.0, 4)):
        weights = weights + step * (S @ target - S @ weights)
    values, vectors = np.linalg.eigh(S)
    expected = vectors @ (solvers.residual_polynomial(values, steps) * (vectors.T @ target))
    np.testing.assert_allclose(target - weights, expected, atol=1e-10)


def test_newton_s_iteration_finds_the_exact_inverse_and_squares_its_residual():
    matrices = np.stack([random_spd([1.0, 4.0, 9.0], seed) for seed in range(3)])
    step = solvers.richardson_step(1.0, 9.0)
    np.testing.assert_allclose(solvers.newton_inverse(matrices, step, 8), np.linalg.inv(matrices), atol=1e-10)
    residual = np.eye(3) - matrices @ solvers.newton_inverse(matrices, step, 2)
    expected = np.sort(solvers.newton_residual(np.array([1.0, 4.0, 9.0]), 1.0, 9.0, 2))
    np.testing.assert_allclose(np.linalg.eigvals(residual[0]).real, expected, atol=1e-9)


def test_whitening_follows_newton_schulz_on_a_matrix_and_ends_at_the_identity():
    X = random_spd(np.sqrt([0.1, 0.4, 1.0])) @ random_spd(np.ones(3), seed=1)
    spectra = solvers.whitening_spectra(np.array([0.1, 0.4, 1.0]), 1.0, 9)
    for spectrum in spectra:
        np.testing.assert_allclose(np.linalg.eigvalsh(X.T @ X), spectrum, atol=1e-10)
        X = X @ (3 * np.eye(3) - X.T @ X) / 2
    np.testing.assert_allclose(spectra[-1], 1.0, atol=1e-6)


def test_one_layer_fewer_is_not_enough():
    for worst in (solvers.worst_richardson, solvers.worst_chebyshev, solvers.worst_whitening, solvers.worst_newton):
        for kappa in (2.0, 16.0, 1000.0):
            n_layers = solvers.layers_needed(worst, kappa, 0.01)
            assert worst(kappa, n_layers) <= 0.01 < (worst(kappa, n_layers - 1) if n_layers > 1 else 1.0)
        assert solvers.layers_needed(worst, 1.0, 0.01) == 1


def test_layers_grow_as_kappa_its_root_and_its_logarithm():
    few, many = 2.0**10, 2.0**20
    growth = {
        worst: solvers.layers_needed(worst, many, 0.01) / solvers.layers_needed(worst, few, 0.01)
        for worst in (solvers.worst_richardson, solvers.worst_chebyshev)
    }
    assert np.isclose(growth[solvers.worst_richardson], 2**10, rtol=1e-2)
    assert np.isclose(growth[solvers.worst_chebyshev], 2**5, rtol=1e-2)
    doublings = [solvers.layers_needed(solvers.worst_newton, 2.0**k, 0.01) for k in (10, 20)]
    assert doublings[1] - doublings[0] == 10
    whitening = [solvers.layers_needed(solvers.worst_whitening, 2.0**k, 0.01) for k in (10, 20)]
    assert abs(whitening[1] - whitening[0] - 10 * np.log(2) / np.log(9 / 4)) <= 1


def test_the_unrestricted_lower_bound_is_the_degree_that_cubic_layers_reach():
    for kappa in (4.0, 64.0, 1024.0, 2.0**20):
        n_layers = solvers.fewest_unrestricted_layers(kappa, 0.01)
        degree = solvers.fewest_restricted_layers(kappa, 0.01)
        assert (3 ** (n_layers - 1) - 1) / 2 < degree <= (3**n_layers - 1) / 2
        assert n_layers <= solvers.layers_needed(solvers.worst_whitening, kappa, 0.01)


def test_three_layer_whitening_is_a_polynomial_of_the_bound_s_degree():
    eigenvalues = np.linspace(0.05, 2, 60)
    values = solvers.whitening_residual(eigenvalues, 1.0, 3)
    fit = Polynomial.fit(eigenvalues, values, 13)  # (3³ - 1)/2
    np.testing.assert_allclose(fit(eigenvalues), values, atol=1e-12)
    assert np.isclose(fit(0.0), 1.0, atol=1e-10)
    assert np.abs(Polynomial.fit(eigenvalues, values, 12)(eigenvalues) - values).max() > 1e-8


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: solvers.layers_needed(solvers.worst_chebyshev, 0.5, 0.01), "kappa is 0.5; a condition number"),
        (lambda: solvers.worst_richardson(float("nan"), 1), "kappa is nan"),
        (lambda: solvers.layers_needed(solvers.worst_newton, 4.0, 1.0), r"tolerance is 1.0; it must lie in \(0, 1\)"),
        (lambda: solvers.chebyshev_steps(1.0, 4.0, 0), "n_layers is 0; it must be at least 1"),
        (lambda: solvers.worst_whitening(4.0, 0), "n_layers is 0"),
        (lambda: solvers.richardson_step(2.0, 1.0), "low and high are 2.0 and 1.0; they must satisfy 0 < low <= high"),
        (lambda: solvers.chebyshev_residual(SPECTRUM, 2.0, 2.0, 3), "low and high are both 2.0"),
        (lambda: solvers.whitening_spectra(np.array([0.0]), 1.0, 1), "the least eigenvalue 0.0; both must be positive"),
        (lambda: solvers.newton_inverse(np.ones((2, 3)), 0.1, 1), r"matrices have shape \(2, 3\)"),
        (lambda: solvers.newton_inverse(np.ones((2, 2)), 0.1, 1), "must be positive definite"),
        (lambda: solvers.newton_inverse(np.eye(2), 2.0, 1), r"step is 2.0; it must lie in \(0, 2\)"),
        (lambda: solvers.newton_inverse(np.eye(2), 1.0, -1), "n_steps is -1"),
    ],
)
def test_bad_input_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
