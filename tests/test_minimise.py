"""What the loop around Adam promises."""

import pytest
import torch
from torch.nn import Parameter

from lib.minimise import clipped, minimise


def quadratic(targets):
    """Members (seed, n) that each descend to their own targets."""
    weights = Parameter(torch.zeros_like(targets))
    return weights, lambda step: (weights - targets).square().sum(-1)


def test_every_member_reaches_its_own_minimum():
    targets = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    weights, loss = quadratic(targets)
    out = minimise(loss, [weights], 400, lr=0.1, final=0.01)
    assert torch.allclose(weights, targets, atol=1e-2)
    assert out["loss"].shape == (400, 2) and torch.equal(out["loss"][0], targets.square().sum(-1))


def test_a_member_s_path_does_not_depend_on_its_neighbours():
    targets = torch.tensor([[1.0, -2.0], [50.0, 3.0]])
    paths = []
    for rows in ([0, 1], [0]):
        weights, loss = quadratic(targets[rows])
        minimise(loss, [weights], 20, lr=0.1, clip=0.5)
        paths.append(weights[0])
    assert torch.allclose(*paths, atol=1e-6)


def test_without_extras_it_is_torch_s_adam_also_where_a_gradient_arrives_transposed():
    xs = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    mixing = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0], [0.5, 0.0, 1.0]])

    def loss(W):  # the gradient of W through its transpose has transposed strides
        return (xs @ W.mT @ mixing - xs).square().sum((-2, -1))

    weights, twin = Parameter(torch.zeros(1, 3, 3)), Parameter(torch.zeros(1, 3, 3))
    minimise(lambda step: loss(weights), [weights], 30, lr=0.05, betas=(0.9, 0.98))
    adam = torch.optim.Adam([twin], lr=0.05, betas=(0.9, 0.98), fused=False)
    for _ in range(30):
        adam.zero_grad()
        loss(twin).sum().backward()
        adam.step()
    assert not torch.allclose(twin, twin.mT, atol=0.05)
    assert torch.allclose(weights, twin, atol=1e-6)


def test_the_learning_rate_rises_and_falls_as_told():
    # Adam's first steps on a constant gradient are exactly the learning rate long.
    weights = Parameter(torch.zeros(1, 1))
    out = minimise(
        lambda step: weights.sum(-1),
        [weights],
        5,
        lr=1.0,
        warm_up=2,
        final=0.0,
        evaluate=lambda: weights.detach().clone(),
        log_steps=range(6),
    )
    assert torch.allclose(-out["log"].flatten().diff(), torch.tensor([0.5, 1.0, 1.0, 0.5, 0.0]), atol=1e-4)


def test_clipping_bounds_the_norm_over_all_parameters_of_a_member():
    gradients = [torch.tensor([3.0, 0.1]), torch.tensor([[[4.0]], [[0.2]]])]
    one, two = clipped(gradients, 1.0)
    assert torch.allclose(one[0], torch.tensor(0.6)) and torch.allclose(two[0], torch.tensor([[0.8]]))
    assert torch.equal(one[1], gradients[0][1]) and torch.equal(two[1], gradients[1][1])


def test_a_loss_that_explodes_stops_with_advice():
    weights = Parameter(torch.ones(1, 1))
    with pytest.raises(FloatingPointError, match="smaller lr"):
        minimise(lambda step: (weights * float("inf")).sum(-1), [weights], 3, lr=1.0)


def test_bad_options_are_refused():
    weights, loss = quadratic(torch.ones(1, 1))
    with pytest.raises(ValueError, match="n_steps is 0"):
        minimise(loss, [weights], 0, lr=0.1)
    with pytest.raises(ValueError, match=r"lr and clip are 0\.0 and None"):
        minimise(loss, [weights], 1, lr=0.0)
    with pytest.raises(ValueError, match=r"log_steps is \[2, 1\]"):
        minimise(loss, [weights], 3, lr=0.1, log_steps=[2, 1])
