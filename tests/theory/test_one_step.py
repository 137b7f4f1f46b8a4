"""The optimal single step against Monte Carlo and a numerical minimum."""

import pytest
import torch
from scipy.optimize import minimize_scalar

from lib.tasks import in_context_regression as task
from lib.theory.one_step import optimal_rate, risk, uniform_moments
from lib.theory.regression_baselines import gradient_descent

SETTINGS = [  # n_context, n_dims, moments, noise variance, weight variance
    (10, 10, uniform_moments(0.5), 0.0, 1.0),
    (20, 5, (1.0, 3.0), 0.25, 1.0),
    (7, 4, (1.0, 3.0), 0.5, 2.0),
]


@pytest.mark.parametrize(("n", "d", "moments", "noise", "weight"), SETTINGS)
def test_the_risk_is_the_mean_squared_error_of_simulated_prompts(n, d, moments, noise, weight):
    g, h = task.streams([0], "risk x"), task.streams([0], "risk w")
    uniform = moments[1] / moments[0] ** 2 < 2
    draw = task.uniform_inputs if uniform else task.gaussian_inputs
    xs = draw(g, 200_000, n + 1, d)
    ys, _ = task.linear_targets(h, xs, weight * torch.eye(d), noise_std=noise**0.5)
    for factor in (0.5, 1.0):
        rate = factor * optimal_rate(n, d, *moments, noise, weight)
        predicted = gradient_descent(xs[..., :-1, :], ys[..., :-1], xs[..., -1:, :], rate=rate)[..., 0]
        errors = (predicted - ys[..., -1]).square()
        standard_error = errors.std().item() / errors.numel() ** 0.5
        assert risk(rate, n, d, *moments, noise, weight) == pytest.approx(errors.mean().item(), abs=4 * standard_error)


@pytest.mark.parametrize(("n", "d", "moments", "noise", "weight"), SETTINGS)
def test_the_optimal_rate_is_the_minimum_of_the_risk(n, d, moments, noise, weight):
    found = minimize_scalar(lambda rate: risk(rate, n, d, *moments, noise, weight), bracket=(0, 0.1), tol=1e-12).x
    assert optimal_rate(n, d, *moments, noise, weight) == pytest.approx(found, rel=1e-5)


def test_the_optimum_s_risk_is_the_zero_predictor_s_less_what_one_step_explains():
    rate = optimal_rate(20, 10, noise_var=0.25)
    assert rate == pytest.approx(1 / (20 + 10 + 1 + 0.25))
    assert risk(rate, 20, 10, noise_var=0.25) == pytest.approx(0.25 + 10 * (1 - 20 * rate))


def test_problems_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="n_context and n_dims are 0 and 3"):
        optimal_rate(0, 3)
    with pytest.raises(ValueError, match="fourth at least its square"):
        optimal_rate(2, 3, 1.0, 0.5)
    with pytest.raises(ValueError, match=r"noise_var and weight_var are -1\.0 and 1\.0"):
        risk(0.1, 2, 3, noise_var=-1.0)
