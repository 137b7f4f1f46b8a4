"""The baselines against scikit-learn, autograd and their definitions."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor

from lib.theory import regression_baselines as baselines


def problem(n_points=9, n_dims=4, batch=3):
    g = torch.Generator().manual_seed(0)
    xs, queries = torch.randn(batch, n_points, n_dims, generator=g), torch.randn(batch, 5, n_dims, generator=g)
    return xs, torch.randn(batch, n_points, generator=g), queries


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (baselines.least_squares, LinearRegression(fit_intercept=False)),
        (partial(baselines.ridge, penalty=0.7), Ridge(alpha=0.7, fit_intercept=False)),
        (partial(baselines.nearest_neighbours, n_neighbours=2), KNeighborsRegressor(n_neighbors=2)),
    ],
)
def test_a_baseline_equals_scikit_learn_s(ours, theirs):
    xs, ys, queries = problem()
    expected = [theirs.fit(x.numpy(), y.numpy()).predict(q.numpy()) for x, y, q in zip(xs, ys, queries, strict=True)]
    torch.testing.assert_close(ours(xs, ys, queries), torch.tensor(np.stack(expected)).float(), atol=1e-4, rtol=1e-4)


def test_gradient_descent_follows_autograd_s_gradient():
    xs, ys, queries = problem()
    weights = torch.zeros(3, 4, requires_grad=True)
    for _ in range(3):
        loss = 0.5 * (torch.einsum("bnd,bd->bn", xs, weights) - ys).square().sum()
        weights = (weights - 0.05 * torch.autograd.grad(loss, weights)[0]).detach().requires_grad_()
    expected = torch.einsum("bqd,bd->bq", queries, weights)
    got = baselines.gradient_descent(xs, ys, queries, rate=0.05, n_steps=3)
    torch.testing.assert_close(got, expected.detach(), atol=1e-5, rtol=1e-5)


def test_many_steps_of_gradient_descent_reach_least_squares():
    xs, ys, queries = problem(n_points=40)
    many = baselines.gradient_descent(xs, ys, queries, rate=0.02, n_steps=500)
    torch.testing.assert_close(many, baselines.least_squares(xs, ys, queries), atol=1e-4, rtol=1e-3)


def test_averaging_is_the_mean_of_targets_times_inputs():
    xs, ys, queries = problem()
    expected = torch.einsum("bqd,bd->bq", queries, (ys[..., None] * xs).mean(-2))
    torch.testing.assert_close(baselines.averaging(xs, ys, queries), expected)


def test_least_squares_interpolates_with_fewer_points_than_dimensions():
    xs, ys, _ = problem(n_points=3)
    torch.testing.assert_close(baselines.least_squares(xs, ys, xs), ys, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "baseline",
    [
        baselines.zero,
        baselines.least_squares,
        partial(baselines.ridge, penalty=0.5),
        baselines.averaging,
        baselines.nearest_neighbours,
        partial(baselines.gradient_descent, rate=0.1, n_steps=2),
    ],
)
def test_every_baseline_predicts_each_point_from_those_before_it(baseline):
    xs, ys, _ = problem()
    predictions = baselines.each_prefix(baseline, xs, ys)
    assert predictions.shape == ys.shape
    assert (predictions[:, 0] == 0).all()
    torch.testing.assert_close(predictions[:, 6], baseline(xs[:, :6], ys[:, :6], xs[:, 6:7])[:, 0])


def test_options_that_cannot_be_are_refused():
    xs, ys, queries = problem()
    with pytest.raises(ValueError, match=r"penalty is 0\.0; it must be positive"):
        baselines.ridge(xs, ys, queries, penalty=0.0)
    with pytest.raises(ValueError, match="n_neighbours is 0"):
        baselines.nearest_neighbours(xs, ys, queries, n_neighbours=0)
    with pytest.raises(ValueError, match="n_steps is 0"):
        baselines.gradient_descent(xs, ys, queries, rate=0.1, n_steps=0)
