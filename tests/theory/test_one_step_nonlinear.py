"""The best single step for any targets, against Monte Carlo and the formulas of its special cases."""

import numpy as np
import pytest
import torch

from lib.models.linear_attention import LinearTransformer
from lib.theory import one_step
from lib.theory import one_step_nonlinear as theory

SIGMA = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.2], [0.0, -0.2, 0.4]])
N = 400000  # draws of a Monte Carlo check


def test_theorem_1_is_the_special_case_of_isotropic_inputs():
    C, S, second = theory.linear_moments(np.eye(4), np.eye(4), noise_var=0.3)
    B = theory.optimal_step(C, S, 9)
    rate = one_step.optimal_rate(9, 4, noise_var=0.3)
    assert np.allclose(B, rate * np.eye(4))
    assert theory.step_risk(B, C, S, second, 9) == pytest.approx(one_step.risk(rate, 9, 4, noise_var=0.3))


def test_theorem_2_preconditions_the_same_rate_with_the_inverse_covariance():
    C, S, _ = theory.linear_moments(SIGMA, np.linalg.inv(SIGMA), noise_var=0.3)
    A = theory.unwhitened(theory.optimal_step(C, S, 9), SIGMA)
    assert np.allclose(A, one_step.optimal_rate(9, 3, noise_var=0.3) * np.linalg.inv(SIGMA))


def test_other_weights_need_another_preconditioner():
    C, S, _ = theory.linear_moments(SIGMA, np.eye(3))
    whitened = theory.optimal_step(C, S, 9)
    assert np.abs(whitened / whitened[0, 0] - np.eye(3)).max() > 0.1


@pytest.mark.parametrize("link", theory.LINKS)
def test_the_moments_of_a_link_agree_with_monte_carlo(link):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, 3, generator=g, dtype=torch.float64)
    w = torch.nn.functional.normalize(torch.randn(N, 3, generator=g, dtype=torch.float64), dim=-1)
    f, twin = (theory.LINKS[link]((w * z).sum(-1)) for z in (x, x.flip(0)))  # two points of one prompt
    y = f + 0.5 * torch.randn(N, generator=g, dtype=torch.float64)
    C, S, second = theory.link_moments(link, 3, noise_var=0.25)
    for draws, expected in (
        ((f * twin)[:, None, None] * x[:, :, None] * x.flip(0)[:, None, :], C),
        (y.square()[:, None, None] * x[:, :, None] * x[:, None, :], S),
        (y.square(), np.array(second)),
    ):
        error = 4 * draws.std(0) / N**0.5
        assert ((draws.mean(0) - torch.tensor(expected)).abs() <= error).all()


def test_the_formula_for_the_rate_of_a_link_is_the_matrix_formula():
    for link, (c, m) in theory._MOMENTS.items():
        C, S, _ = theory.link_moments(link, 5, noise_var=0.1)
        rate = c**2 / (m + 4 + 5 * 0.1 + 19 * c**2)
        assert np.allclose(theory.optimal_step(C, S, 20), rate * np.eye(5))


def test_risk_agrees_with_monte_carlo_and_is_least_at_the_optimum():
    n, n_prompts = 6, 40000
    C, S, second = theory.linear_moments(SIGMA, np.eye(3), noise_var=0.2)
    best = theory.optimal_step(C, S, n)
    g = torch.Generator().manual_seed(1)
    z = torch.randn(n_prompts, n + 1, 3, generator=g, dtype=torch.float64)
    w = torch.randn(n_prompts, 3, generator=g, dtype=torch.float64) @ torch.tensor(theory.square_root(SIGMA))
    y = (z * w[:, None]).sum(-1) + 0.2**0.5 * torch.randn(n_prompts, n + 1, generator=g, dtype=torch.float64)
    v = (y[:, :-1, None] * z[:, :-1]).sum(1)
    for B in (best, best + 0.05 * np.eye(3), best + 0.05 * np.ones((3, 3))):
        errors = ((v @ torch.tensor(B) * z[:, -1]).sum(-1) - y[:, -1]) ** 2
        risk = theory.step_risk(B, C, S, second, n)
        assert abs(errors.mean().item() - risk) < 4 * errors.std().item() / n_prompts**0.5
        assert risk >= theory.step_risk(best, C, S, second, n)


def test_the_effective_step_is_what_the_layer_computes():
    model = LinearTransformer(3, 1, seeds=[0, 1], init_std=0.5)
    W_KQ, W_PV = model.matrices()[0]
    g = torch.Generator().manual_seed(2)
    xs, ys = torch.randn(2, 50, 5, 3, generator=g), torch.randn(2, 50, 5, generator=g)
    A, _ = theory.effective_step(W_KQ, W_PV)
    step = torch.einsum("sbn,sbnd,sde,sbe->sb", ys[..., :-1], xs[..., :-1, :], A, xs[..., -1, :])
    # Odd in the targets: what is left of the average of f and -f is the other terms, even in them.
    odd = (model(xs, ys) - model(xs, -ys)) / 2
    assert torch.allclose(odd, step, atol=1e-4)


def test_pure_descent_does_nothing_else_and_scale_does_not_matter():
    W_KQ, W_PV = torch.zeros(3, 3), torch.zeros(3, 3)
    W_KQ[:2, :2], W_PV[2, 2] = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 0.1
    A, others = theory.effective_step(W_KQ, W_PV)
    assert torch.allclose(A, 0.1 * W_KQ[:2, :2]) and others == 0
    W_PV[2, 0] = 0.05
    _, others = theory.effective_step(W_KQ, W_PV)
    assert others.item() == pytest.approx(0.5)
    assert theory.effective_step(10 * W_KQ, W_PV / 10)[1].item() == pytest.approx(0.5)


def test_what_has_no_answer_is_refused():
    singular = np.diag([1.0, 0.0])
    with pytest.raises(ValueError, match="singular or indefinite; all eigenvalues must be positive, the least is 0"):
        theory.linear_moments(singular, np.eye(2))
    with pytest.raises(ValueError, match="must be a symmetric matrix"):
        theory.square_root(np.array([[1.0, 1.0], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="weight_covariance has shape"):
        theory.linear_moments(np.eye(2), np.eye(3))
    with pytest.raises(ValueError, match="link is 'tanh'; it must be one of linear"):
        theory.link_moments("tanh", 2)
    with pytest.raises(ValueError, match="noise_var is -1"):
        theory.linear_moments(np.eye(2), np.eye(2), -1.0)
    with pytest.raises(ValueError, match="at least 1 and 0"):
        theory.link_moments("relu", 0)
    with pytest.raises(ValueError, match="n_context is 0"):
        theory.optimal_step(np.eye(2), np.eye(2), 0)
