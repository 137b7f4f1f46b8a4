"""Weights are drawn as their source says."""

import torch

from lib.models.initialisation import he_normal, stacked_draws
from lib.seeds import generator_for


def test_initial_weights_have_variance_two_over_fan_in():
    (w,) = he_normal([(300, 200)], seeds=[0], n_copies=2)
    assert w.shape == (2, 1, 300, 200) and torch.equal(w[0], w[1])
    assert abs(w.var() * 200 / 2 - 1) < 0.05


def test_each_member_is_drawn_from_the_stream_of_its_seed_and_purpose_and_copied():
    def draw(generator):
        return torch.randn(3, 4, generator=generator)

    w = stacked_draws(draw, [0, 7], "W", n_copies=2)
    assert w.shape == (2, 2, 3, 4) and w.requires_grad and w.is_contiguous() and torch.equal(w[0], w[1])
    assert torch.equal(w[0, 1], draw(generator_for(7, "W")))
    assert torch.equal(w[0], stacked_draws(draw, [0, 7], "W"))
    assert not torch.equal(w[0], stacked_draws(draw, [0, 7], "V"))
