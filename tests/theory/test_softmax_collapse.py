"""Thresholds of softmax collapse: by bisection, by numpy's own arithmetic, and the radial pull by autograd."""

import math

import numpy as np
import pytest
import torch

from lib.models.uniform_mlp import UniformMLP
from lib.theory.softmax_collapse import (
    collapse_gaps,
    collapsed,
    cross_entropy,
    dtype_of,
    radial_pull,
    unit_roundoff,
)

BITS = (16, 32, 64)


def last_gap(alive, low=1.0, high=60.0):
    """The gap at which a property of one sample ends, by bisection."""
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if alive(middle) else (low, middle)
    return low


def logits_at(gap, n_others):
    return torch.tensor([[0.0] + [-gap] * n_others], dtype=torch.float64)


@pytest.mark.parametrize("bits", BITS)
def test_the_unit_roundoff_is_the_largest_number_that_one_absorbs(bits):
    kind = {16: np.float16, 32: np.float32, 64: np.float64}[bits]
    u = unit_roundoff(bits)
    assert kind(1) + kind(u) == kind(1)
    assert kind(1) + kind(u * 1.01) > kind(1)


@pytest.mark.parametrize("bits", BITS)
def test_two_classes_collapse_at_the_predicted_gap(bits):
    (y,) = torch.zeros(1, 1, dtype=torch.long)
    for alive in (
        lambda gap: not collapsed(logits_at(gap, 1), bits).item(),
        lambda gap: cross_entropy(logits_at(gap, 1), y, bits).item() != 0,
    ):
        assert last_gap(alive) == pytest.approx({16: 11, 32: 24, 64: 53}[bits] * math.log(2), abs=5e-3)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("n_others", [2, 16, 112])
def test_many_classes_collapse_between_the_two_bounds(bits, n_others):
    low, high = collapse_gaps(bits, n_others)
    found = last_gap(lambda gap: not collapsed(logits_at(gap, n_others), bits).item())
    assert low - 0.01 <= found <= high + 0.01


def test_a_sum_in_sequence_has_the_lower_threshold_and_a_tree_the_upper_one():
    low, high = collapse_gaps(32, 64)
    one = np.float32(1)

    def sequence(gap):
        total = one
        for _ in range(64):
            total = np.float32(total + np.float32(np.exp(-gap)))
        return total != one

    def tree(gap):
        others = np.full(64, np.exp(-gap), np.float32)
        while len(others) > 1:
            others = others[::2] + others[1::2]
        return np.float32(one + others[0]) != one

    assert last_gap(sequence) == pytest.approx(low, abs=1e-3)
    assert last_gap(tree) == pytest.approx(high, abs=1e-3)


def test_a_collapsed_sample_has_no_loss_and_no_pull_on_its_true_logit():
    z = logits_at(20.0, 1).float().requires_grad_()
    y = torch.zeros(1, dtype=torch.long)
    cross_entropy(z, y, 32).sum().backward()
    assert z.grad[0, 0] == 0
    again = z.detach().requires_grad_()
    cross_entropy(again, y, 64).sum().backward()
    assert again.grad[0, 0] < 0


def test_cross_entropy_is_torch_s_in_every_precision_and_broadcasts_over_copies():
    z = torch.randn(3, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    ys = torch.arange(10).reshape(2, 5) % 7
    for bits in (32, 64):
        ours = cross_entropy(z, ys, bits)
        assert ours.dtype == dtype_of(bits)
        theirs = torch.nn.functional.cross_entropy(
            z.to(dtype_of(bits)).flatten(0, 2), ys.expand(3, 2, 5).flatten(), reduction="none"
        )
        torch.testing.assert_close(ours.flatten(), theirs)


def test_every_layer_of_a_homogeneous_network_feels_the_same_radial_pull():
    xs = torch.randn(2, 30, 6, generator=torch.Generator().manual_seed(1))
    ys = torch.arange(60).reshape(2, 30) % 4
    for bias in (False, True):
        model = UniformMLP([6, 16, 16, 4], seeds=[0, 1], bias=bias).double()
        z = model(xs.double())
        loss = cross_entropy(z, ys, 64).mean(-1)
        slopes = torch.autograd.grad(loss.sum(), list(model.weights))
        pulls = torch.stack([-(g * w).sum((-2, -1)) for g, w in zip(slopes, model.weights, strict=True)])
        expected = radial_pull(z, ys).expand_as(pulls)
        if bias:
            assert (pulls - expected).abs().max() > 1e-2  # a bias breaks homogeneity in its layer's weights
        else:
            torch.testing.assert_close(pulls, expected, rtol=1e-9, atol=1e-12)


def test_the_radial_pull_is_the_slope_of_the_loss_under_scaled_logits():
    z = torch.randn(4, 50, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ys = torch.arange(200).reshape(4, 50) % 5
    h = 1e-6
    up, down = (cross_entropy(z * (1 + s), ys, 64).mean(-1) for s in (h, -h))
    torch.testing.assert_close(radial_pull(z, ys), (down - up) / (2 * h), rtol=1e-6, atol=1e-8)


def test_the_radial_pull_is_positive_once_all_samples_are_right():
    z = torch.randn(3, 40, 6, generator=torch.Generator().manual_seed(3))
    assert (radial_pull(z, z.argmax(-1)) > 0).all()


def test_unknown_precisions_and_missing_competitors_are_refused():
    with pytest.raises(ValueError, match="bits is 8; it must be one of 16, 32, 64"):
        unit_roundoff(8)
    with pytest.raises(ValueError, match="bits is 128; it must be one of"):
        collapsed(torch.zeros(1, 2), 128)
    with pytest.raises(ValueError, match="n_others is 0; it must be at least 1"):
        collapse_gaps(32, 0)
