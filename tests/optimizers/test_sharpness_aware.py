"""Sharpness-aware gradients, against an independent implementation."""

import pytest
import torch
from pytorch_optimizer import SAM

from lib.optimizers.sharpness_aware import sharpness_aware_gradients


def loss(weights):
    return (weights[0].tanh() @ weights[1]).square().mean((-2, -1)) + weights[0].cos().sum((-2, -1))


def drawn():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 4, generator=g), torch.randn(2, 4, 5, generator=g)]


def test_a_step_is_that_of_the_published_package():
    weights = drawn()
    gradients = sharpness_aware_gradients(loss, weights, 0.3, n_stack=1)
    for i in range(2):
        alone = [torch.nn.Parameter(w[i].clone()) for w in weights]
        optimizer = SAM(alone, torch.optim.SGD, rho=0.3, lr=1.0)

        def closure(alone=alone, optimizer=optimizer):
            optimizer.zero_grad()
            value = loss(alone)
            value.backward()
            return value

        closure()
        optimizer.step(closure)
        for before, after, gradient in zip(weights, alone, gradients, strict=True):
            assert torch.allclose(after, before[i] - gradient[i], atol=1e-5)


def test_radius_zero_is_the_gradient():
    weights = [w.requires_grad_() for w in drawn()]
    expected = torch.autograd.grad(loss(weights).sum(), weights)
    for a, b in zip(sharpness_aware_gradients(loss, weights, 0.0, n_stack=1), expected, strict=True):
        assert torch.equal(a, b)


def test_a_negative_radius_is_refused():
    with pytest.raises(ValueError, match="radius is -1"):
        sharpness_aware_gradients(loss, drawn(), -1.0, n_stack=1)
