"""Closed forms of multi-head regression, against Monte Carlo, grids and the algebra that they summarise."""

import math
from itertools import pairwise

import pytest
import torch

from lib.models.softmax_attention import SoftmaxRegressor, attention_outputs, softmax_attention
from lib.theory import multi_head_regression as theory
from lib.theory.regression_baselines import gradient_descent

L, D, NOISE = 40, 5, 0.1


def prompts(n: int, n_points: int, n_dims: int, seed: int = 0, noise_var: float = NOISE, factor=None, w_factor=None):
    """n prompts of n_points and a query, in float64: (xs, ys, queries, targets with noise)."""
    g = torch.Generator().manual_seed(seed)
    xs = torch.randn(n, n_points + 1, n_dims, generator=g, dtype=torch.float64)
    w = torch.randn(n, n_dims, generator=g, dtype=torch.float64)
    xs = xs if factor is None else xs @ factor.mT
    w = w / n_dims**0.5 if w_factor is None else w @ w_factor.mT
    ys = (xs @ w[..., None])[..., 0]
    ys = ys + noise_var**0.5 * torch.randn(ys.shape, generator=g, dtype=torch.float64)
    return xs[:, :-1], ys[:, :-1], xs[:, -1:], ys[:, -1:]


def heads(omega, mu, n_dims: int):
    """The weights of heads ω I and μ on tokens (x, y)."""
    W_KQ, w_OV = torch.zeros(len(omega), n_dims + 1, n_dims + 1), torch.zeros(len(omega), n_dims + 1)
    for h, (o, m) in enumerate(zip(omega, mu, strict=True)):
        W_KQ[h, :n_dims, :n_dims] = o * torch.eye(n_dims)
        w_OV[h, -1] = m
    return W_KQ.double(), w_OV.double()


def attend(xs, ys, queries, omega, mu):
    tokens = torch.cat([xs, ys[..., None]], -1)
    looking = torch.nn.functional.pad(queries, (0, 1))
    return softmax_attention(looking, tokens, *heads(omega, mu, xs.shape[-1]), scale=1.0)


def measured(predictions, targets):
    """Mean squared error and its standard error."""
    errors = (predictions - targets).square().flatten()
    return errors.mean().item(), errors.std().item() / len(errors) ** 0.5


def test_the_approximate_loss_is_too_small_by_about_nine_per_cent_at_the_papers_size():
    xs, ys, queries, targets = prompts(40_000, L, D)
    for omega, mu in (([1 / D**0.5], [1.6277]), ([0.13, -0.13], [3.45, -3.45])):
        loss = theory.approximate_loss(torch.tensor(omega), torch.tensor(mu), L, D, NOISE).item()
        error, standard_error = measured(attend(xs, ys, queries, omega, mu), targets)
        assert error - loss > 4 * standard_error
        assert abs(1 - loss / error - 0.09) < 4 * standard_error / error


def test_the_approximate_loss_becomes_exact_as_one_over_the_dimension():
    gaps, margins = [], []
    for n_dims, n in ((5, 20_000), (10, 6_000), (20, 2_000)):
        n_points, eye = 8 * n_dims, torch.eye(n_dims, dtype=torch.float64)
        omega = torch.tensor([0.3, -0.3], dtype=torch.float64) / n_dims**0.5
        mu = theory.optimal_mu(omega, n_points, n_dims, NOISE)
        step = (omega * mu).sum().item()
        xs, ys, queries, targets = prompts(n, n_points, n_dims)
        softmax = (attend(xs, ys, queries, omega.tolist(), mu.tolist()) - targets).square()
        # Debiased descent makes nearly the same errors, and its risk is known exactly.
        descent = (theory.debiased_gradient_descent(xs, ys, queries, preconditioner=step) - targets).square()
        error = (softmax - descent).mean() + NOISE + theory.risk(step * eye, eye, eye / n_dims, n_points, NOISE)
        gaps.append(1 - (theory.approximate_loss(omega, mu, n_points, n_dims, NOISE) / error).item())
        margins.append(4 * ((softmax - descent).std() / n**0.5 / error).item())
    assert gaps[0] > 0.05 + margins[0]
    for gap, margin, share in zip(gaps, margins, (1, 2, 4), strict=True):
        assert margin < 0.02
        assert abs(gap - gaps[0] / share) < margin + margins[0] / share


def test_no_single_head_beats_the_single_head_optimum():
    omega, mu = torch.meshgrid(torch.linspace(0.05, 1, 96), torch.linspace(0.05, 4, 80), indexing="ij")
    losses = theory.approximate_loss(omega[..., None].double(), mu[..., None].double(), L, D, NOISE)
    best = theory.single_head_optimum(L, D, NOISE)
    least = theory.approximate_loss(*(torch.tensor([b], dtype=torch.float64) for b in best), L, D, NOISE).item()
    assert least <= losses.min().item() < least + 1e-3
    assert round(least, 4) == 0.3721
    where = losses.flatten().argmin()
    assert abs(omega.flatten()[where] - best[0]) < 0.02 and abs(mu.flatten()[where] - best[1]) < 0.1


def test_the_valley_of_two_heads_is_where_the_gradient_in_mu_vanishes():
    omega = torch.linspace(0.02, 0.8, 40, dtype=torch.float64)
    pair = torch.stack([omega, -omega], -1)
    mu = theory.two_head_mu(omega, L, D, NOISE)
    torch.testing.assert_close(theory.optimal_mu(pair, L, D, NOISE), torch.stack([mu, -mu], -1))
    losses = theory.approximate_loss(pair, torch.stack([mu, -mu], -1), L, D, NOISE)
    torch.testing.assert_close(losses, theory.two_head_loss(omega, L, D, NOISE))
    both = torch.stack([mu, -mu], -1).requires_grad_()
    (slope,) = torch.autograd.grad(theory.approximate_loss(pair, both, L, D, NOISE).sum(), both)
    assert slope.abs().max() < 1e-10


def test_two_heads_lose_least_as_omega_vanishes_where_their_product_is_the_optimal_step():
    omega = torch.linspace(1e-3, 1, 100, dtype=torch.float64)
    losses = theory.two_head_loss(omega, L, D, NOISE)
    assert (losses.diff() > 0).all()
    step = theory.optimal_step(L, D, NOISE)
    torch.testing.assert_close((2 * omega * theory.two_head_mu(omega, L, D, NOISE))[0].item(), step, rtol=1e-5, atol=0)
    torch.testing.assert_close(losses[0].item(), 1 + NOISE - step, rtol=1e-5, atol=0)


def test_more_than_two_heads_gain_nothing():
    g = torch.Generator().manual_seed(0)
    omega = 0.8 * torch.rand(200, 6, generator=g, dtype=torch.float64) - 0.4
    mu = theory.optimal_mu(omega, L, D, NOISE)
    losses = theory.approximate_loss(omega, mu, L, D, NOISE)
    assert losses.min() > 1 + NOISE - theory.optimal_step(L, D, NOISE) - 1e-9
    assert losses.min() < 0.25  # the draws come near the bound


def test_two_heads_alike_are_a_minimum_until_one_has_a_negative_share():
    omega, mu = theory.single_head_optimum(L, D, NOISE)

    def eigenvalues(share: float) -> torch.Tensor:
        at = torch.tensor([omega, omega, share * mu, (1 - share) * mu], dtype=torch.float64, requires_grad=True)

        def loss(point: torch.Tensor) -> torch.Tensor:
            return theory.approximate_loss(point[:2], point[2:], L, D, NOISE)

        (slope,) = torch.autograd.grad(loss(at), at)
        assert slope.abs().max() < 1e-12
        return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, at.detach()))

    for share in (0.5, 0.7, 0.9):
        flat, *rest = eigenvalues(share)
        assert abs(flat) < 1e-9 and min(rest) > 0.1
    assert eigenvalues(1.1)[0] < -0.1


def test_two_opposite_heads_are_debiased_descent_as_omega_vanishes():
    xs, ys, queries, _ = prompts(200, L, D, seed=1)
    gaps = []
    for omega in (0.1, 0.05, 0.025):
        two = attend(xs, ys, queries, [omega, -omega], [0.44 / omega, -0.44 / omega])
        gaps.append((two - theory.debiased_gradient_descent(xs, ys, queries, preconditioner=0.88)).abs().mean().item())
    # The pair is odd in ω, so the first term left out is relatively of order ω².
    for larger, smaller in pairwise(gaps):
        assert 3.5 < larger / smaller < 4.5
    assert gaps[-1] < 0.01


def test_debiased_descent_is_descent_on_centred_inputs_and_ignores_an_offset_of_the_targets():
    xs, ys, queries, _ = prompts(50, 10, 3, seed=2)
    debiased = theory.debiased_gradient_descent(xs, ys, queries, preconditioner=0.7)
    plain = gradient_descent(xs - xs.mean(-2, keepdim=True), ys, queries, rate=0.07)
    torch.testing.assert_close(debiased, plain)
    shifted = theory.debiased_gradient_descent(xs, ys + 5, queries, preconditioner=0.7 * torch.eye(3).double())
    torch.testing.assert_close(debiased, shifted)
    assert (gradient_descent(xs, ys + 5, queries, rate=0.07) - gradient_descent(xs, ys, queries, rate=0.07)).std() > 0.1


@pytest.mark.parametrize("centred", [True, False])
def test_the_exact_risk_agrees_with_monte_carlo(centred):
    g = torch.Generator().manual_seed(3)
    A, B, gamma = (torch.randn(3, 3, generator=g, dtype=torch.float64) for _ in range(3))
    covariance, weight_covariance = A @ A.mT, B @ B.mT
    xs, ys, queries, _ = prompts(50_000, 8, 3, noise_var=0.5, factor=A, w_factor=B)
    # Without the query's noise the target is wᵀ x_q; the same draws again, less noise, give it.
    targets = prompts(50_000, 8, 3, noise_var=0.0, factor=A, w_factor=B)[3]
    if centred:
        predictions = theory.debiased_gradient_descent(xs, ys, queries, preconditioner=0.1 * gamma)
    else:
        predictions = (queries @ (0.1 * gamma) @ (xs.mT @ ys[..., None] / 8))[..., 0]
    error, standard_error = measured(predictions, targets)
    exact = theory.risk(0.1 * gamma, covariance, weight_covariance, 8, 0.5, centred).item()
    assert abs(exact - error) < 4 * standard_error
    assert 4 * standard_error < 0.1 * exact


def test_the_best_preconditioner_has_no_slope_and_its_closed_form():
    index = torch.arange(4.0, dtype=torch.float64)
    covariance = 0.6 ** (index[:, None] - index).abs()
    eye = torch.eye(4, dtype=torch.float64)
    best = theory.optimal_preconditioner(covariance, eye / 4, 30, NOISE)
    closed = torch.linalg.inv(covariance + (covariance.trace() + 4 * NOISE) / 30 * eye)
    torch.testing.assert_close(best, closed)
    torch.testing.assert_close(
        theory.optimal_preconditioner(eye, eye / 4, 30, NOISE), theory.optimal_step(30, 4, NOISE) * eye
    )
    free = best.clone().requires_grad_()
    (slope,) = torch.autograd.grad(theory.risk(free, covariance, eye / 4, 30, NOISE), free)
    assert slope.abs().max() < 1e-12
    assert theory.risk(best, covariance, eye / 4, 30, NOISE) < theory.risk(0.5 * eye, covariance, eye / 4, 30, NOISE)


def test_plain_descent_tuned_by_itself_beats_debiased_descent_by_one_point_of_the_context():
    eye = torch.eye(D, dtype=torch.float64)
    m = (1 + NOISE) * D
    for n_points in (10, 40, 100):
        plain, debiased = (
            theory.risk(
                theory.optimal_preconditioner(eye, eye / D, n_points, NOISE, centred),
                eye, eye / D, n_points, NOISE, centred,
            ).item()
            for centred in (False, True)
        )  # fmt: skip
        expected = (1 + m) / ((n_points + 1 + m) * (n_points + m))
        assert math.isclose(debiased - plain, expected, rel_tol=1e-9)


def test_circuit_numbers_are_read_from_the_weights():
    W_KQ, w_OV = heads([0.3, -0.2], [2.0, -1.0], D)
    omega, mu = theory.circuit_numbers(W_KQ, w_OV[:, None], scale=0.5)
    torch.testing.assert_close(omega, torch.tensor([0.15, -0.1], dtype=torch.float64))
    torch.testing.assert_close(mu, torch.tensor([2.0, -1.0], dtype=torch.float64))
    model = SoftmaxRegressor(D, 3, seeds=[0, 1])
    assert theory.circuit_numbers(*model.products(), model.scale)[0].shape == (2, 3)
    xs, ys, queries, _ = prompts(4, 6, D)
    tokens, looking = torch.cat([xs, ys[..., None]], -1), torch.nn.functional.pad(queries, (0, 1))
    outputs = attention_outputs(looking, tokens, W_KQ, w_OV[:, None], scale=0.5)[..., 0]
    torch.testing.assert_close(outputs, attend(xs, ys, queries, omega.tolist(), mu.tolist()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 5, 0.1), "n_points is 0"), ((40, 0, 0.1), "n_dims is 0"), ((40, 5, -1.0), r"noise_var is -1\.0")],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        theory.optimal_step(*arguments)


def test_risks_need_two_points_to_centre_and_no_negative_noise():
    eye = torch.eye(2)
    with pytest.raises(ValueError, match="n_points is 1; it must be at least 2"):
        theory.risk(eye, eye, eye, 1, 0.0)
    with pytest.raises(ValueError, match=r"noise_var is -0\.5"):
        theory.optimal_preconditioner(eye, eye, 5, -0.5)
