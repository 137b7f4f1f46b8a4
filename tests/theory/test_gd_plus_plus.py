"""The construction is gradient descent, its sensitivity is the weight vector that it makes, its scale is free."""

import pytest
import torch

from lib.models.linear_attention import linear_attention
from lib.tasks.in_context_regression import linear_targets, merged_tokens, streams, uniform_inputs
from lib.theory import regression_baselines
from lib.theory.gd_plus_plus import (
    alignment,
    construction,
    extracted_rates,
    implicit_weights,
    interpolated,
    key_query_scale,
    predict,
    rescaled,
    sensitivity,
)

RATES = torch.tensor([0.6, 1.1, 0.4], dtype=torch.float64)
SHRINKAGES = torch.tensor([0.17, 0.05, 0.3], dtype=torch.float64)


def prompts(batch=50, n_points=11, n_dims=4):
    generators = streams([0, 1], "test of the construction")
    xs = uniform_inputs(generators, batch, n_points, n_dims)
    return xs.double(), linear_targets(generators, xs)[0].double()


def through_layers(xs, ys, layers):
    """Minus the query's last entry after residual linear attention in which the query is no key."""
    tokens = merged_tokens(xs, ys)
    for W_KQ, W_PV in layers:
        tokens = tokens + linear_attention(tokens, tokens[..., :-1, :], W_KQ, W_PV)
    return -tokens[..., -1, -1]


def last_prediction(xs, ys, *rates):
    return predict(xs[..., :-1, :], ys[..., :-1], xs[..., -1:, :], *rates)[..., 0]


def constructed(rates, shrinkages, n_dims=4):
    return [
        construction(n_dims, eta, gamma, torch.float64)
        for eta, gamma in zip(rates.tolist(), shrinkages.tolist(), strict=True)
    ]


def test_one_constructed_layer_is_one_step_of_gradient_descent():
    xs, ys = prompts()
    expected = regression_baselines.gradient_descent(xs[..., :-1, :], ys[..., :-1], xs[..., -1:, :], rate=0.6)[..., 0]
    torch.testing.assert_close(through_layers(xs, ys, [construction(4, 0.6, dtype=torch.float64)]), expected)
    assert expected.abs().mean() > 0.1


def test_three_constructed_layers_without_shrinkage_are_three_steps_of_gradient_descent_on_autograd():
    xs, ys = prompts()
    weights = torch.zeros(2, 50, 4, dtype=torch.float64, requires_grad=True)
    for rate in RATES:
        residuals = ys[..., :-1] - (xs[..., :-1, :] @ weights[..., None])[..., 0]
        (gradient,) = torch.autograd.grad(residuals.square().sum() / 2, weights)
        weights = (weights - rate * gradient).detach().requires_grad_()
    torch.testing.assert_close(implicit_weights(xs[..., :-1, :], ys[..., :-1], RATES), weights.detach())
    expected = (xs[..., -1, :] * weights).sum(-1).detach()
    torch.testing.assert_close(through_layers(xs, ys, constructed(RATES, 0 * RATES)), expected)


def test_constructed_layers_with_shrinkage_are_gd_plus_plus():
    xs, ys = prompts()
    expected = through_layers(xs, ys, constructed(RATES, SHRINKAGES))
    torch.testing.assert_close(last_prediction(xs, ys, RATES, SHRINKAGES), expected)
    plain = last_prediction(xs, ys, RATES)
    assert (plain - expected).abs().mean() > 0.01  # shrinkage matters here


def test_the_sensitivity_of_gd_plus_plus_is_its_implicit_weight_vector():
    xs, ys = prompts()
    gradient = sensitivity(lambda xs, ys: last_prediction(xs, ys, RATES, SHRINKAGES), xs, ys)
    torch.testing.assert_close(gradient, implicit_weights(xs[..., :-1, :], ys[..., :-1], RATES, SHRINKAGES))


def test_sensitivity_works_where_gradients_are_off_and_leaves_the_inputs_alone():
    xs, ys = prompts(batch=3)
    with torch.no_grad():
        assert sensitivity(lambda xs, ys: xs[..., -1, 0] ** 2, xs, ys)[..., 0].equal(2 * xs[..., -1, 0])
    assert not xs.requires_grad


def test_alignment_of_a_model_with_itself_is_perfect_and_with_its_opposite_is_not():
    xs, ys = prompts()
    weights = implicit_weights(xs[..., :-1, :], ys[..., :-1], RATES)
    predictions = last_prediction(xs, ys, RATES)
    same = alignment(predictions, weights, predictions, weights)
    opposite = alignment(predictions, weights, -predictions, -weights)
    assert same["prediction_difference"].equal(torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(same["cosine"], torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(opposite["cosine"], -torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(opposite["prediction_difference"], 2 * predictions.abs().mean(-1))
    torch.testing.assert_close(opposite["sensitivity_difference"], 2 * weights.norm(dim=-1).mean(-1))


def test_scale_may_move_between_the_two_matrices_without_a_change_of_the_prediction():
    xs, ys = prompts()
    W_KQ, W_PV = construction(4, 0.6, 0.1, torch.float64)
    moved = (torch.tensor([2.0, -0.3])[:, None, None] * W_KQ, W_PV / torch.tensor([2.0, -0.3])[:, None, None])
    torch.testing.assert_close(key_query_scale(moved[0]), torch.tensor([2.0, -0.3], dtype=torch.float64))
    torch.testing.assert_close(through_layers(xs, ys, [moved] * 2), through_layers(xs, ys, [(W_KQ, W_PV)] * 2))
    for mine, theirs in zip(rescaled(*moved), (W_KQ, W_PV), strict=True):
        torch.testing.assert_close(mine, theirs.expand(2, 5, 5))
    for value, expected in zip(extracted_rates(*moved), (0.6, 0.1), strict=True):
        torch.testing.assert_close(value, torch.full((2,), expected, dtype=torch.float64))


def test_interpolation_ends_at_the_rescaled_layer_and_at_the_construction():
    generator = torch.Generator().manual_seed(0)
    W_KQ, W_PV = torch.randn(2, 3, 5, 5, generator=generator).unbind()
    target = construction(4, 0.6)
    for share, expected in ((0.0, rescaled(W_KQ, W_PV)), (1.0, target)):
        for mine, theirs in zip(interpolated(W_KQ, W_PV, target, share), expected, strict=True):
            torch.testing.assert_close(mine, theirs.expand(3, 5, 5))
    half = interpolated(W_KQ, W_PV, target)[1]
    torch.testing.assert_close(half, (rescaled(W_KQ, W_PV)[1] + target[1]) / 2)


def test_impossible_values_are_refused_by_name():
    with pytest.raises(ValueError, match="n_dims must be at least 1, got 0"):
        construction(0, 0.5)
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\], got 1.5"):
        interpolated(torch.eye(3), torch.eye(3), construction(2, 0.5), share=1.5)
