"""Loss, flow, limit and risk of one trained linear-attention layer, against Monte Carlo, autograd and independent solvers.

Monte Carlo means are compared within 4 standard errors, which are computed from the same sample.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.theory.trained_attention import (
    balanced,
    bent_moment_covariance,
    excess_risk,
    exponential_limit,
    exponential_risk,
    gamma,
    gradient_flow,
    isotropic_flow,
    largest_scale,
    limit,
    linear_moment_covariance,
    population_gradient,
    population_loss,
    random_covariance_limit,
    random_start,
    risk,
    risk_bound,
)

N_POINTS = 8
ROTATION = np.linalg.qr(np.random.default_rng(7).standard_normal((3, 3)))[0]
COVARIANCE = ROTATION @ np.diag([1.5, 0.8, 0.3]) @ ROTATION.T
OTHER = np.diag([0.4, 2.0, 1.0])
PRODUCT = np.random.default_rng(8).standard_normal((3, 3)) / 2  # of no special form


def errors(product, n_points, covariance, query_covariance=None, weights=None, noise_std=0.0, n_prompts=100_000):
    """Errors zᵀ A x_q - y_q on fresh prompts, drawn as a prompt is defined."""
    rng = np.random.default_rng(0)
    n_dims = len(product)
    xs = rng.standard_normal((n_prompts, n_points, n_dims)) @ np.linalg.cholesky(covariance).T
    query = covariance if query_covariance is None else query_covariance
    queries = rng.standard_normal((n_prompts, n_dims)) @ np.linalg.cholesky(query).T
    ws = rng.standard_normal((n_prompts, n_dims)) if weights is None else np.broadcast_to(weights, queries.shape)
    ys = np.einsum("pnd,pd->pn", xs, ws) + noise_std * rng.standard_normal((n_prompts, n_points))
    targets = (queries * ws).sum(-1) + noise_std * rng.standard_normal(n_prompts)
    z = np.einsum("pn,pnd->pd", ys, xs) / n_points
    return np.einsum("pi,ij,pj->p", z, product, queries) - targets


def assert_mean_is(sample, exact):
    standard_error = sample.std() / len(sample) ** 0.5
    assert standard_error < 0.02 * exact, "the sample must be able to tell a wrong formula"
    assert abs(sample.mean() - exact) < 4 * standard_error


@pytest.mark.parametrize("n_points", [2, 8, 30])
def test_the_risk_of_any_product_is_that_of_prompts(n_points):
    assert_mean_is(errors(PRODUCT, n_points, COVARIANCE) ** 2, risk(PRODUCT, n_points, COVARIANCE))


def test_the_risk_knows_shifts_of_query_task_and_noise():
    weights = np.array([2.0, -1.0, 0.5])
    sample = errors(PRODUCT, N_POINTS, COVARIANCE, OTHER, weights, noise_std=0.7) ** 2
    assert_mean_is(sample, risk(PRODUCT, N_POINTS, COVARIANCE, OTHER, np.outer(weights, weights), 0.49))
    assert_mean_is(errors(PRODUCT, N_POINTS, 4 * OTHER) ** 2, risk(PRODUCT, N_POINTS, 4 * OTHER))


def test_gamma_times_the_covariance_is_the_second_moment_of_the_context_vector():
    # With A = B e_1ᵀ and queries e_1 the risk's quadratic term is BᵀE[zzᵀ]B: read it off in all directions.
    tiny = 1e-12 * np.eye(3) + np.diag([1.0, 0, 0])
    for direction in np.eye(3):
        product = np.outer(direction, [1.0, 0, 0])
        rest = risk(0 * product, N_POINTS, COVARIANCE, tiny) - 2 * (COVARIANCE @ product)[0, 0]
        second_moment = risk(product, N_POINTS, COVARIANCE, tiny) - rest
        assert np.isclose(second_moment, direction @ gamma(COVARIANCE, N_POINTS) @ COVARIANCE @ direction, atol=1e-9)


def test_the_gradient_is_that_of_the_loss():
    value, covariances = 0.6, np.stack([COVARIANCE, OTHER])
    for covariance in (COVARIANCE, covariances):
        d_value, d_matrix = population_gradient(value, PRODUCT, covariance, N_POINTS)
        for direction in np.eye(9).reshape(9, 3, 3):
            up, down = (population_loss(value, PRODUCT + h * direction, covariance, N_POINTS) for h in (1e-5, -1e-5))
            assert np.isclose((up - down) / 2e-5, (d_matrix * direction).sum(), atol=1e-8)
        up, down = (population_loss(value + h, PRODUCT, covariance, N_POINTS) for h in (1e-5, -1e-5))
        assert np.isclose((up - down) / 2e-5, d_value, atol=1e-8)


def test_the_gradient_of_the_whole_layer_is_the_reduced_one_and_other_blocks_stay_at_zero():
    """Autograd through W_PV E (Eᵀ W_KQ E)/N with full matrices, the query's own column included."""
    rng = np.random.default_rng(1)
    n_prompts, n_points, d = 100_000, 24, 3  # short prompts have heavy tails
    xs = rng.standard_normal((n_prompts, n_points + 1, d)) @ np.linalg.cholesky(COVARIANCE).T
    ws = rng.standard_normal((n_prompts, d))
    ys = np.einsum("pnd,pd->pn", xs, ws)
    tokens = torch.tensor(np.concatenate([xs, ys[..., None]], -1))
    targets = tokens[:, -1, -1].clone()
    tokens[:, -1, -1] = 0
    value, W_KQ = random_start(d, 0.4, np.random.default_rng(2))
    full_KQ, full_PV = torch.zeros(d + 1, d + 1).double(), torch.zeros(d + 1, d + 1).double()
    full_KQ[:d, :d], full_PV[d, d] = torch.tensor(W_KQ), value
    # One copy of the parameters per group of prompts, so that the gradients have a spread and a standard error.
    groups = 200
    full_KQ, full_PV = (m.repeat(groups, 1, 1).requires_grad_() for m in (full_KQ, full_PV))
    tokens = tokens.reshape(groups, -1, n_points + 1, d + 1)
    gram = tokens.mT @ tokens / n_points
    queries = tokens[:, :, -1]
    update = torch.einsum("gab,gpbc,gcd,gpd->gpa", full_PV, gram, full_KQ, queries)
    (0.5 * (update[..., -1] - targets.reshape(groups, -1)).square().mean(1)).sum().backward()
    d_value, d_matrix = population_gradient(value, W_KQ, COVARIANCE, n_points)
    expected_KQ, expected_PV = np.zeros((d + 1, d + 1)), np.zeros((d + 1, d + 1))
    expected_KQ[:d, :d], expected_PV[d, d] = d_matrix, d_value
    for gradient, expected in ((full_KQ.grad, expected_KQ), (full_PV.grad, expected_PV)):
        mean, standard_error = gradient.mean(0).numpy(), gradient.std(0).numpy() / groups**0.5
        assert standard_error.max() < 0.08 * abs(expected).max()
        assert standard_error[expected != 0].max() < 0.03 * abs(expected).max()
        assert (abs(mean - expected) <= 4 * standard_error + 1e-12).all()


@pytest.mark.parametrize("n_points", [5, 20, math.inf])
def test_gradient_flow_ends_at_the_limit_of_theorem_4_1(n_points):
    scale = 0.5 * largest_scale(COVARIANCE, n_points)
    start = random_start(3, scale, np.random.default_rng(3))
    values, matrices = gradient_flow(*start, COVARIANCE, n_points, np.array([0.0, 400.0]))
    value, W_KQ = limit(COVARIANCE, n_points)
    assert np.allclose(matrices[0], start[1])
    assert abs(values[-1] - value) < 1e-6
    assert np.allclose(matrices[-1], W_KQ, atol=1e-6)
    squared_inverse = np.linalg.matrix_power(np.linalg.inv(gamma(COVARIANCE, n_points)), 2)
    assert np.isclose(value, np.trace(squared_inverse) ** 0.25)


def test_gradient_flow_keeps_the_balance_of_the_two_matrices():
    start = 0.3, PRODUCT  # not balanced
    values, matrices = gradient_flow(*start, COVARIANCE, N_POINTS, np.linspace(0, 20, 41))
    difference = values**2 - (matrices**2).sum((1, 2))
    assert abs(values[-1] - values[0]) > 0.1
    assert np.allclose(difference, 0.09 - (PRODUCT**2).sum(), atol=1e-6)


def test_the_isotropic_path_is_logistic():
    times = np.linspace(0, 6, 31)
    values, matrices = gradient_flow(0.1, 0.1 / 2 * np.eye(4), np.eye(4), N_POINTS, times)
    products = values[:, None, None] * matrices
    exact = isotropic_flow(0.1, 4, N_POINTS, times)
    assert np.allclose(products, exact[:, None, None] * np.eye(4), atol=1e-7)
    assert exact[0] < 0.01
    assert np.isclose(exact[-1], 1 / (1 + 5 / N_POINTS), atol=1e-6)


def test_the_wrong_sign_runs_into_the_saddle():
    values, matrices = gradient_flow(0.5, -0.25 * np.eye(4), np.eye(4), N_POINTS, np.array([0.0, 5.0]))
    assert 0 < values[-1] < 1e-3
    assert np.isclose(population_loss(values[-1], matrices[-1], np.eye(4), N_POINTS), 2.0, atol=1e-5)


def test_the_limit_is_the_global_minimum():
    value, W_KQ = limit(COVARIANCE, N_POINTS)
    least = population_loss(value, W_KQ, COVARIANCE, N_POINTS)
    d_value, d_matrix = population_gradient(value, W_KQ, COVARIANCE, N_POINTS)
    assert abs(d_value) < 1e-12
    assert abs(d_matrix).max() < 1e-12
    others = np.random.default_rng(4).standard_normal((200, 3, 3))
    assert min(population_loss(1.0, value * W_KQ + 0.1 * other, COVARIANCE, N_POINTS) for other in others) > least


@settings(max_examples=25, deadline=None)
@given(
    spectrum=st.lists(st.floats(0.1, 3), min_size=2, max_size=5),
    n_train=st.integers(2, 100),
    n_test=st.integers(2, 100),
)
def test_theorem_4_2_is_the_exact_risk_and_below_its_bound(spectrum, n_train, n_test):
    covariance = np.diag(spectrum)
    value, W_KQ = limit(covariance, n_train)
    product = value * W_KQ
    for weights, noise_var in ((np.arange(1.0, len(spectrum) + 1), 0.0), (np.ones(len(spectrum)), 0.5)):
        moment = linear_moment_covariance(weights, covariance, noise_var)
        excess = excess_risk(weights, moment, covariance, n_train, n_test)
        exact = risk(product, n_test, covariance, None, np.outer(weights, weights), noise_var)
        assert np.isclose(noise_var + excess, exact, rtol=1e-8)
    assert risk(product, n_test, covariance) <= risk_bound(covariance, n_train, n_test)


def test_theorem_4_2_holds_for_targets_that_are_not_linear():
    rng = np.random.default_rng(5)
    weights, direction, bend, n_train, n_test = np.array([1.0, -0.5, 0.0]), np.array([0.0, 0.6, 0.8]), 0.5, 10, 6
    n_prompts = 200_000
    xs = rng.standard_normal((n_prompts, n_test + 1, 3)) @ np.linalg.cholesky(COVARIANCE).T
    ys = xs @ weights + bend * ((xs @ direction) ** 2 / (direction @ COVARIANCE @ direction) - 1)
    value, W_KQ = limit(COVARIANCE, n_train)
    z = np.einsum("pn,pnd->pd", ys[:, :-1], xs[:, :-1]) / n_test
    sample = (np.einsum("pi,ij,pj->p", z, value * W_KQ, xs[:, -1]) - ys[:, -1]) ** 2
    moment = linear_moment_covariance(weights, COVARIANCE) + bent_moment_covariance(direction, COVARIANCE, bend)
    assert_mean_is(sample, 2 * bend**2 + excess_risk(weights, moment, COVARIANCE, n_train, n_test))


def test_longer_test_prompts_help_up_to_a_floor_set_by_training():
    value, W_KQ = limit(np.eye(5), 40)
    risks = [float(risk(value * W_KQ, n, np.eye(5))) for n in (10, 40, 200, math.inf)]
    assert (np.diff(risks) < 0).all()
    assert np.allclose(risks[1:3], [0.652, 0.198], atol=5e-4)
    assert np.isclose(risks[3], 5 * (1 - 1 / (1 + 6 / 40)) ** 2)


def test_random_covariances_have_the_limit_of_theorem_4_5():
    covariances = np.stack([np.diag([0.5, 2.0]), np.diag([1.0, 0.2])])
    product = random_covariance_limit(covariances, N_POINTS)
    diagonal = (covariances @ covariances).mean(0) @ np.linalg.inv(
        (gamma(covariances, N_POINTS) @ covariances @ covariances).mean(0)
    )
    assert np.allclose(product, diagonal)
    assert np.allclose(random_covariance_limit(COVARIANCE[None], N_POINTS), np.linalg.inv(gamma(COVARIANCE, N_POINTS)))
    rotated = np.stack([COVARIANCE, OTHER])
    _, d_matrix = population_gradient(1.0, random_covariance_limit(rotated, N_POINTS), rotated, N_POINTS)
    assert abs(d_matrix).max() < 1e-10


def test_gradient_flow_on_random_covariances_ends_there_too():
    covariances = np.stack([COVARIANCE, OTHER])
    start = random_start(3, 0.3, np.random.default_rng(6))
    values, matrices = gradient_flow(*start, covariances, N_POINTS, np.array([0.0, 600.0]))
    product = random_covariance_limit(covariances, N_POINTS)
    assert np.allclose(values[-1] * matrices[-1], product, atol=1e-6)
    assert np.allclose(matrices[-1], balanced(product)[1], atol=1e-5)


@pytest.mark.parametrize("n_points", [10, 40])
def test_exponential_moments_give_limit_and_risk(n_points):
    n_dims, scale, n_sample = 3, 2.0, 200_000
    entries = np.random.default_rng(9).exponential(size=(n_sample, n_dims))
    covariances = np.maximum(entries, 1e-6)[:, :, None] * np.eye(n_dims)
    estimated = random_covariance_limit(covariances, n_points)
    multiplier = exponential_limit(n_dims, n_points)
    # The third moment 6 of Exp(1) has a relative standard error of √(720 - 36)/6/√n = 1 % here.
    assert np.allclose(np.diagonal(estimated), multiplier, rtol=0.03)
    sample = risk(multiplier * np.eye(n_dims), n_points, scale * covariances) / n_dims
    assert_mean_is(sample, exponential_risk(multiplier, n_dims, n_points, scale))


def test_random_covariances_leave_a_third_for_ever_and_scaling_is_worse():
    third = exponential_limit(5, math.inf)
    assert [round(exponential_risk(third, 5, math.inf, c), 4) for c in (1, 4, 9)] == [0.3333, 25.3333, 387.0]
    assert [exponential_risk(1.0, 5, math.inf, c) for c in (1, 4, 9)] == [3.0, 324.0, 4059.0]


def test_a_random_start_is_balanced_and_positive():
    value, W_KQ = random_start(4, 0.2, np.random.default_rng(0))
    assert np.isclose(np.linalg.norm(W_KQ), value)
    assert np.linalg.eigvalsh(W_KQ).min() > 0


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="covariance"):
        gamma(np.array([[1.0, 0.5], [0.0, 1.0]]), 3)
    with pytest.raises(ValueError, match="covariance"):
        risk(np.eye(2), 3, np.diag([1.0, -1.0]))
    with pytest.raises(ValueError, match="n_points"):
        gamma(np.eye(2), 0)
    with pytest.raises(ValueError, match="n_points"):
        risk_bound(np.eye(2), 0, 3)
    with pytest.raises(ValueError, match="noise_var"):
        risk(np.eye(2), 3, np.eye(2), noise_var=-1.0)
    with pytest.raises(ValueError, match="scale"):
        random_start(2, 0.0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="product"):
        balanced(np.zeros((2, 2)))
