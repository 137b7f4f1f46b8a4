"""Closed forms of paper 2405.16845 against exact quadrature, Monte Carlo and descent."""

from itertools import product
from math import pi

import numpy as np
import pytest
import torch

from lib.models import autoregressive_attention as attention
from lib.tasks import unitary_autoregression as task
from lib.tasks.in_context_regression import streams
from lib.theory import mesa

N_DIMS, LENGTH, N_ROOTS = 2, 4, 16  # exponents of a product of two features lie within ±15


def first_token_law(start):
    """Points and weights whose mean over first tokens is exact: all values, or Gauss-Hermite nodes to degree 7."""
    if start == "sparse":
        points = [s * e for e in np.eye(N_DIMS) for s in (-1, 1)]
        return np.array(points), np.full(len(points), 1 / len(points))
    nodes, weights = {
        "gaussian": np.polynomial.hermite_e.hermegauss(4),
        "signs": (np.array([-1.0, 1.0]), np.ones(2)),
        "ones": (np.ones(1), np.ones(1)),
    }[start]
    weights = weights / weights.sum()
    return np.array(list(product(nodes, repeat=N_DIMS))), np.array(
        [np.prod(w) for w in product(weights, repeat=N_DIMS)]
    )


def exact_moments(start):
    """Moments of the *whole* model over all phases on a grid fine enough to make the mean over phases exact."""
    points, weights = first_token_law(start)
    phases = torch.tensor(list(product(range(N_ROOTS), repeat=N_DIMS))) * (2 * pi / N_ROOTS)
    firsts = torch.tensor(points)[:, None].expand(-1, len(phases), -1)
    each = attention.moments(task.with_phases(phases.expand_as(firsts), firsts, LENGTH), chunk=256)
    return attention.Moments(*(torch.einsum("s,s...->...", torch.tensor(weights).to(m.dtype), m) for m in each))


def population(*arguments):
    M, c, k = mesa.population_moments(*arguments)
    return attention.Moments(torch.tensor(M), torch.tensor(c), torch.tensor(k, dtype=torch.float64))


def in_blocks(A, B):
    """(W_PV, W_KQ) of the whole model with the given blocks, all else zero."""
    d = len(A)
    W_PV, W_KQ = torch.zeros(d, 2 * d).to(torch.complex128), torch.zeros(2 * d, 2 * d).to(torch.complex128)
    W_PV[:, :d], W_KQ[d:, :d] = B, A
    return W_PV, W_KQ


@pytest.mark.parametrize("start", task.STARTS)
def test_counting_exponents_gives_the_exact_loss_of_the_two_blocks(start):
    A, B = torch.randn(2, N_DIMS, N_DIMS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, _, _ = attention.loss_and_gradients(exact_moments(start), *in_blocks(A, B))
    ours, _, _ = attention.loss_and_gradients(population(start, N_DIMS, LENGTH), B, A)
    assert ours.item() == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize("start", task.STARTS)
def test_all_other_blocks_have_zero_gradient_where_they_are_zero(start):
    A, B = torch.randn(2, N_DIMS, N_DIMS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, to_PV, to_KQ = attention.loss_and_gradients(exact_moments(start), *in_blocks(A, B))
    size = to_PV.abs().max()
    assert size > 0.1
    assert to_PV[:, N_DIMS:].abs().max() < 1e-5 * size
    to_KQ[N_DIMS:, :N_DIMS] = 0
    assert to_KQ.abs().max() < 1e-5 * size


@pytest.mark.parametrize("start", task.STARTS)
def test_block_products_of_another_charge_only_raise_the_loss(start):
    A, B = torch.randn(2, N_DIMS, N_DIMS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    W_PV, W_KQ = in_blocks(A, B)
    exact = exact_moments(start)
    alone, *_ = attention.loss_and_gradients(exact, W_PV, W_KQ)
    W_KQ[:N_DIMS] = torch.randn(N_DIMS, 2 * N_DIMS, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    more, *_ = attention.loss_and_gradients(exact, W_PV, W_KQ)
    assert more > alone + 0.01


@pytest.mark.parametrize("start", task.STARTS)
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_the_diagonal_formula_is_the_population_loss_on_the_diagonal(start, scale):
    moments = population(start, 3, 8, scale)
    for ab in (0.2, mesa.optimal_product(start, 3, 8, scale)):
        loss, *_ = attention.loss_and_gradients(moments, ab * torch.eye(3).double(), torch.eye(3).double())
        k_0 = mesa.constants(start, 3, scale)[0]
        formula = 0.5 * 3 * k_0 * mesa.relative_error(ab, start, 3, np.arange(2.0, 8.0), scale).sum()
        assert loss.item() == pytest.approx(formula, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("start", ["gaussian", "sparse", "signs"])
def test_the_optimal_product_is_a_stationary_point_of_all_entries(start):
    b = 0.7
    a = mesa.optimal_product(start, 4, 9, 1.3) / b
    eye = torch.eye(4).double()
    _, to_PV, to_KQ = attention.loss_and_gradients(population(start, 4, 9, 1.3), b * eye, a * eye)
    assert max(to_PV.abs().max(), to_KQ.abs().max()) < 1e-9


def test_all_ones_pulls_the_off_diagonal_of_both_blocks():
    eye = torch.eye(4).double()
    _, to_PV, to_KQ = attention.loss_and_gradients(population("ones", 4, 9), eye, 0.5 * eye)
    for gradient in (to_PV, to_KQ):
        off = gradient[~torch.eye(4).bool()]
        assert off.abs().min() > 0.01
        assert off.std() < 1e-9 * off.abs().max()  # no coordinate is special


def test_known_optima():
    assert mesa.optimal_product("gaussian", 5, np.inf, 2.0) == pytest.approx(1 / 20)
    assert mesa.optimal_product("sparse", 5, 3, 0.5) == pytest.approx(4)
    assert mesa.optimal_product("ones", 5, 100) == pytest.approx(0.8258, abs=5e-5)
    assert mesa.least_relative_error("gaussian") == pytest.approx(0.4)
    for start in ("sparse", "ones", "signs"):
        assert mesa.least_relative_error(start) == 0


@pytest.mark.parametrize("start", ["gaussian", "sparse", "signs"])
def test_monte_carlo_agrees_with_error_and_ratio(start):
    batch, n_dims, length = 4000, 3, 12
    ab = torch.tensor(mesa.optimal_product(start, n_dims, length))
    firsts = task.first_tokens(streams([0], "start"), batch, n_dims, start)
    xs = task.sequences(streams([0], "phases"), firsts, length)
    predictions = attention.predictions(*attention.block_start(n_dims, ab[None], torch.ones(1)), xs)
    errors = (predictions - xs[..., 2:, :]).abs().square().sum(-1)[0].double().numpy()
    k_0 = mesa.constants(start, n_dims)[0]
    expected = k_0 * n_dims * mesa.relative_error(ab.item(), start, n_dims, np.arange(2.0, length))
    assert (np.abs(errors.mean(0) - expected) < 4 * errors.std(0) / batch**0.5 + 1e-9).all()
    # Prediction over truth is ab x² in every coordinate, up to crosstalk of mean zero.
    alive = firsts[0] != 0
    ratio = (predictions / torch.where(xs[..., 2:, :] == 0, 1, xs[..., 2:, :]))[0, :, -1][alive].real
    difference = ratio - ab * firsts[0][alive] ** 2
    assert difference.mean().abs() < 4 * difference.std() / len(difference) ** 0.5 + 1e-6


@pytest.mark.parametrize("start", task.STARTS)
def test_first_tokens_have_the_moments_that_are_assumed(start):
    n = 200000
    firsts = task.first_tokens(streams([0], "start"), n, 2, start)[0].numpy()
    for powers in ([2, 0], [4, 0], [6, 0], [2, 4], [3, 1]):
        draws = (firsts ** np.array(powers)).prod(-1)
        assert abs(draws.mean() - mesa.first_moment(start, np.array([powers]))[0]) <= 4 * draws.std() / n**0.5 + 1e-12


def test_what_has_no_answer_is_refused():
    with pytest.raises(ValueError, match="start is 'dense'"):
        mesa.optimal_product("dense", 5, 100)
    with pytest.raises(ValueError, match="length is 2; it must be at least 3"):
        mesa.optimal_product("ones", 5, 2)
    with pytest.raises(ValueError, match="length is 2"):
        mesa.population_moments("ones", 2, 2)
    with pytest.raises(ValueError, match="n_dims is 0"):
        mesa.constants("ones", 0)
    with pytest.raises(ValueError, match="scale is -1"):
        mesa.constants("ones", 2, -1.0)
    with pytest.raises(ValueError, match="n_seen is 1"):
        mesa.relative_error(0.2, "ones", 2, 1)
    with pytest.raises(ValueError, match="must stay below"):
        mesa.population_moments("ones", 20, 100)
