"""Best polynomials against brute force, Gauss quadrature, and prompts that are drawn."""

import numpy as np
import pytest
from scipy.optimize import minimize

from lib.theory import optimal_polynomials as best
from lib.theory.iterative_solvers import chebyshev_steps

RNG = np.random.default_rng(0)
NODES = np.exp(RNG.uniform(0, np.log(16), 400))
MASSES = NODES / NODES.sum()


@pytest.mark.parametrize("n_layers", [1, 2, 3, 5])
def test_the_steps_are_those_that_a_search_finds(n_layers):
    steps = best.best_steps(NODES, MASSES, n_layers)
    found = minimize(
        lambda a: best.risk(a, NODES, MASSES), chebyshev_steps(1.0, 16.0, n_layers), method="Nelder-Mead", tol=1e-12,
        options={"maxiter": 20000, "maxfev": 20000},
    )  # fmt: skip
    np.testing.assert_allclose(np.sort(found.x), steps, rtol=1e-3)
    assert best.risk(steps, NODES, MASSES) <= found.fun * (1 + 1e-9)


@pytest.mark.parametrize("n_layers", [2, 6, 12])
def test_the_least_risk_is_the_christoffel_function_at_zero(n_layers):
    # Independently: minimise ∫ (1 + c_1 λ + … + c_L λ^L)² dμ by least squares in a Chebyshev basis of λ q(λ).
    z = (2 * NODES - 17) / 15
    columns = NODES[:, None] * np.polynomial.chebyshev.chebvander(z, n_layers - 1) * np.sqrt(MASSES)[:, None]
    rest = np.linalg.lstsq(columns, -np.sqrt(MASSES), rcond=None)[0]
    least = np.square(np.sqrt(MASSES) + columns @ rest).sum()
    assert np.isclose(best.risk(best.best_steps(NODES, MASSES, n_layers), NODES, MASSES), least, rtol=1e-6)


def test_as_many_layers_as_eigenvalues_solve_every_task():
    nodes, masses = np.array([1.0, 3.0, 10.0]), np.array([0.2, 0.5, 0.3])
    np.testing.assert_allclose(best.best_steps(nodes, masses, 3), 1 / nodes[::-1], rtol=1e-10)
    assert best.risk(best.best_steps(nodes, masses, 3), nodes, masses) < 1e-20


def test_the_roots_lie_inside_the_spectrum():
    for n_layers in (1, 4, 9):
        steps = best.best_steps(NODES, MASSES, n_layers)
        assert (1 / steps > NODES.min()).all() and (1 / steps < NODES.max()).all()


def test_for_the_arcsine_law_over_lambda_the_best_steps_are_chebyshev_s():
    # λ dμ is then the arcsine law, whose orthogonal polynomials are Chebyshev's.
    nodes = 8.5 + 7.5 * np.cos(np.pi * (np.arange(4000) + 0.5) / 4000)
    masses = (1 / nodes) / (1 / nodes).sum()
    np.testing.assert_allclose(best.best_steps(nodes, masses, 6), chebyshev_steps(1.0, 16.0, 6), rtol=1e-8)


@pytest.mark.parametrize("n_loops", [1, 2, 5, 40])
def test_the_constant_step_is_the_minimum_of_its_risk(n_loops):
    step = best.best_constant_step(NODES, MASSES, n_loops)
    at = [best.risk(np.full(n_loops, a), NODES, MASSES) for a in (0.999 * step, step, 1.001 * step)]
    assert at[1] < at[0] and at[1] < at[2]


def test_the_risk_is_the_mean_squared_error_of_drawn_prompts():
    rng, n_prompts, n_dims, n_context = np.random.default_rng(1), 4000, 3, 6
    covariances = np.array([np.diag(rng.uniform(1, 4, n_dims)) for _ in range(n_prompts)])
    xs = rng.normal(size=(n_prompts, n_context, n_dims)) @ np.sqrt(covariances)
    grams = xs.mT @ xs / n_context
    steps = np.array([0.2, 0.4])
    scale = np.sqrt(np.trace(covariances, axis1=1, axis2=2))[:, None, None]
    errors = rng.normal(size=(n_prompts, n_dims, 1)) / scale
    for a in steps:
        errors = errors - a * grams @ errors
    queries = rng.normal(size=(n_prompts, n_dims, 1)) * np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))[..., None]
    squared = (errors * queries).sum((1, 2)) ** 2
    expected = best.risk(steps, *best.spectral_measure(grams, covariances))
    assert abs(squared.mean() - expected) < 4 * squared.std() / np.sqrt(n_prompts)


def test_bad_input_is_refused_in_words():
    one = np.ones(1)
    with pytest.raises(ValueError, match="n_layers is 0; it must be at least 1"):
        best.best_steps(NODES, MASSES, 0)
    with pytest.raises(ValueError, match="1 distinct nodes cannot determine 2 layers"):
        best.best_steps(one, one, 2)
    with pytest.raises(ValueError, match="n_loops is 0"):
        best.best_constant_step(one, one, 0)
    with pytest.raises(ValueError, match="nodes must be positive"):
        best.best_constant_step(0 * one, one, 1)
    with pytest.raises(ValueError, match=r"sample_covariances have shape \(2, 2\), covariances \(2, 2, 2\)"):
        best.spectral_measure(np.eye(2), np.ones((2, 2, 2)))
