"""Closed forms of the signal coordinates against programs, descent and enumeration."""

import numpy as np
import pytest
import torch

from lib.theory.signal_margin import max_margin, max_margin_neurons, robust_margins, threshold_neurons
from lib.theory.variation_margin import sphere_grid, variation_margin


def points(k):
    return np.concatenate([np.eye(k), -np.eye(k)]), np.repeat([1.0, -1.0], k)


def function(neurons, outputs, xs):
    return np.maximum(xs @ neurons[:, :-1].T + neurons[:, -1], 0) @ outputs


@pytest.mark.parametrize("k", [1, 2])
def test_the_largest_margin_is_that_of_a_fine_grid_of_neurons(k):
    margin, _ = variation_margin(*points(k), sphere_grid(k, 3000))
    assert margin <= max_margin(k) + 1e-9
    assert margin == pytest.approx(max_margin(k), rel=2 / 3000 ** (1 / k))  # the grid is that wide


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_no_single_neuron_beats_the_bound_under_uniform_weights(k):
    """Weak duality: the largest mean of label times activation over the unit sphere, by ascent from many starts."""
    xs, ys = (torch.from_numpy(part) for part in points(k))
    theta = torch.randn(300, k + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    for step in range(600):
        unit = theta / theta.norm(dim=1, keepdim=True)
        value = (torch.relu(unit[:, :-1] @ xs.T + unit[:, -1:]) @ ys / (2 * k)).abs()
        (g,) = torch.autograd.grad(value.sum(), theta)
        with torch.no_grad():
            theta.copy_(unit + 0.3 / (1 + 0.1 * step) * g * k**0.5)
    best = float(value.detach().max())
    assert best <= max_margin(k) + 1e-12
    assert best == pytest.approx(max_margin(k), rel=1e-2)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_two_neurons_are_of_norm_one_and_reach_the_bound(k):
    neurons, (xs, ys) = max_margin_neurons(k, 2), points(k)
    assert np.allclose(np.linalg.norm(neurons, axis=1), 1)
    margins = ys * function(neurons, [0.5, -0.5], np.c_[xs, np.zeros((2 * k, 2))])
    assert np.allclose(margins, max_margin(k))


@pytest.mark.parametrize("radius", [0.0, 0.1, 0.3, 0.5])
def test_robust_margins_are_the_worst_of_all_corners(radius):
    k = 4
    xs, ys = points(k)
    corners = radius * np.stack(np.meshgrid(*[[-1, 1]] * k), -1).reshape(-1, k)
    threshold = threshold_neurons(k, radius)
    assert np.allclose(np.linalg.norm(threshold, axis=1), 1)
    cases = (max_margin_neurons(k), np.array([0.5, -0.5])), (threshold, np.repeat([0.5, -0.5], k) / k)
    for (neurons, outputs), closed in zip(cases, robust_margins(k, np.array([radius])), strict=True):
        worst = (ys[:, None] * function(neurons, outputs, xs[:, None] + corners)).min()
        assert worst == pytest.approx(closed[0], abs=1e-12)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="n_relevant is 0; it must be at least 1"):
        max_margin(0)
    with pytest.raises(ValueError, match="n_relevant is 0; it must be at least 1"):
        max_margin_neurons(0)
    with pytest.raises(ValueError, match=r"radius is 0.6; it must lie in 0…0.5"):
        threshold_neurons(2, 0.6)
    with pytest.raises(ValueError, match=r"radii is \[0.6\]; all must lie in 0…0.5"):
        robust_margins(2, np.array([0.6]))
