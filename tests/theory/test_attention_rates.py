"""The laws of convergence against the flow that they describe, integrated, and against descent."""

import numpy as np
import pytest
import torch
from torch.nn import Parameter
from torch.nn.functional import softplus

from lib.descend import descend
from lib.models.token_attention import attend, log_missing
from lib.optimizers import Armijo, NormalizedGD, Polyak
from lib.tasks.token_sequences import TokenData, signal_tokens, unit_tokens
from lib.theory.attention_rates import LINE_SEARCH_RATE, Path, asymptotic_path, logistic_gap
from lib.theory.token_selection import direction_error, frobenius_program, optimal_tokens


def problem(start: np.ndarray | None = None) -> tuple[TokenData, Path]:
    data = signal_tokens([0], n=4, T=3, d=30)
    scores = data.scores[0].numpy()
    return data, asymptotic_path(data.xs[0].numpy(), data.zs[0].numpy(), scores, optimal_tokens(scores), start)


def trained(
    data: TokenData, rule, n_steps: int, start: np.ndarray | float = 0.0, log_steps=()
) -> dict[str, torch.Tensor]:
    """Descent on the loss gap; logs W."""
    W = Parameter(torch.zeros(1, *[data.xs.shape[-1]] * 2, dtype=torch.float64) + torch.as_tensor(start))
    best = data.scores.amax(-1)

    def loss(step: int) -> torch.Tensor:
        _, log_attention = attend(data.xs, data.zs, W)
        return logistic_gap(best, (log_attention.exp() * (best[..., None] - data.scores)).sum(-1)).mean(-1)

    steps = log_steps or [n_steps]
    return descend(loss, rule([W]), n_steps, evaluate=lambda: W[0].clone(), log_steps=steps) | {"W": W.detach()[0]}


def test_the_path_s_direction_solves_the_attention_svm():
    data, path = problem()
    W = frobenius_program(data.xs[0].numpy(), data.zs[0].numpy(), optimal_tokens(data.scores[0].numpy()))
    np.testing.assert_allclose(path.W_mm, W, atol=1e-9)
    assert path.multipliers.sum() == pytest.approx(path.norm**2)


def test_on_the_path_gradient_and_loss_are_what_the_law_says():
    """At τ = 25 the leading terms are exact to e^{-25}; autograd is the independent computation."""
    data, path = problem()
    tau = 25.0
    W = torch.tensor(tau * path.W_mm + path.offset)[None].requires_grad_()
    _, log_attention = attend(data.xs, data.zs, W)
    best = data.scores.amax(-1)
    gap = logistic_gap(best, (log_attention.exp() * (best[..., None] - data.scores)).sum(-1)).mean()
    (gradient,) = torch.autograd.grad(gap, W)
    np.testing.assert_allclose(gradient[0].numpy(), -np.exp(-tau) * path.W_mm, atol=1e-8 * np.exp(-tau))
    assert gap.item() == pytest.approx(path.loss_gap(np.array([tau]))[0], rel=1e-8)
    missing = log_missing(log_attention, data.scores == 1).exp()[0].detach().numpy()
    np.testing.assert_allclose(missing, path.missing(np.array([tau]))[0], rtol=1e-8)


def test_gradient_descent_s_loss_gap_is_the_squared_norm_over_time():
    data, path = problem()
    out = trained(data, lambda params: torch.optim.SGD(params, lr=50.0), 1500)
    assert out["loss"][-1].item() == pytest.approx(path.norm**2 / (50.0 * 1500), rel=0.02)


@pytest.mark.parametrize("name", ["normalised", "Polyak", "line search"])
def test_adaptive_steps_close_the_gap_at_their_rates(name):
    data, path = problem()
    rule, rate = {
        "normalised": (lambda params: NormalizedGD(params, lr=0.2), 0.2 / path.norm),
        "Polyak": (lambda params: Polyak(params, lr=0.3), 0.3),
        "line search": (Armijo, LINE_SEARCH_RATE),
    }[name]
    n_steps = int(60 / rate)
    gaps = trained(data, rule, n_steps)["loss"][:, 0].log()
    slope = (gaps[-1] - gaps[n_steps // 2]) / (n_steps - 1 - n_steps // 2)
    assert slope.item() == pytest.approx(-rate, rel=2e-3)


def test_the_direction_error_is_that_of_the_path_at_the_same_norm_from_any_start():
    start = 3 * np.random.default_rng(0).normal(size=(30, 30)) / 30
    for W_0 in (np.zeros((30, 30)), start):
        data, path = problem(W_0)
        out = trained(data, lambda params: NormalizedGD(params, lr=0.2), 800, W_0)
        W = out["W"].numpy()
        error = direction_error(W, path.W_mm)
        tau = path.tau_at_norm(np.array([np.linalg.norm(W)]))
        assert path.direction_error(tau)[0] == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize("rule", ["normalised", "Polyak"])
def test_the_path_attracts_below_the_step_limit_and_not_above(rule):
    data, path = problem()
    limit = path.step_limit * (path.norm if rule == "normalised" else 1)
    spread = {}
    for share in (0.9, 1.1):
        make = {"normalised": NormalizedGD, "Polyak": Polyak}[rule]
        W = trained(data, lambda params, lr=share * limit, make=make: make(params, lr=lr), 300)["W"].numpy()
        spread[share] = np.ptp(path.features @ (W - path.offset).ravel())  # of the margins' deviations from the path
    assert spread[0.9] < 1e-6
    assert spread[1.1] > 0.1


def test_large_scores_do_not_overflow():
    data, _ = problem()
    xs, zs, scores = (a[0].numpy() for a in (data.xs, data.zs, data.scores))
    assert np.isfinite(asymptotic_path(xs, zs, 600 * scores, optimal_tokens(scores)).offset).all()


def test_the_loss_gap_and_its_gradient_are_the_logistic_loss_s():
    best, shortfall = torch.tensor([2.0, -0.5], dtype=torch.float64), torch.tensor([0.3, 1.5], dtype=torch.float64)
    torch.testing.assert_close(logistic_gap(best, shortfall), softplus(shortfall - best) - softplus(-best))
    assert torch.autograd.gradcheck(lambda s: logistic_gap(best, s), shortfall.requires_grad_())
    tiny = logistic_gap(best, torch.full((2,), 1e-200, dtype=torch.float64))
    torch.testing.assert_close(tiny / 1e-200, torch.sigmoid(-best))


def test_constraints_that_are_not_active_change_no_rate():
    data = unit_tokens([1], n=6, T=8, d=10)
    scores = data.scores[0].numpy()
    path = asymptotic_path(data.xs[0].numpy(), data.zs[0].numpy(), scores, optimal_tokens(scores))
    assert (path.multipliers == 0).any()
    gaps = trained(data, lambda params: Polyak(params, lr=0.3), 400)["loss"][:, 0].log()
    assert (gaps[-1] - gaps[200]).item() / 199 == pytest.approx(-0.3, rel=0.02)


def test_problems_without_such_a_path_are_refused():
    data, path = problem()
    xs, zs, scores = (a[0].numpy() for a in (data.xs, data.zs, data.scores))
    with pytest.raises(ValueError, match="better than all others"):
        asymptotic_path(
            xs, zs, scores, optimal_tokens(-scores + 1e-3 * np.random.default_rng(0).normal(size=scores.shape))
        )
    with pytest.raises(ValueError, match="several tokens in one sequence"):
        asymptotic_path(xs, zs, scores, np.array([[True, True, False]] * 4))
    with pytest.raises(ValueError, match=r"scores have shape \(4, 2\)"):
        asymptotic_path(xs, zs, scores[:, 1:], optimal_tokens(scores))
    with pytest.raises(ValueError, match=r"start has shape \(2, 2\)"):
        asymptotic_path(xs, zs, scores, optimal_tokens(scores), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="norms must be at least"):
        path.tau_at_norm(np.array([1e-3]))
