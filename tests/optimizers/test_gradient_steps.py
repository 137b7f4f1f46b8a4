"""Steps whose length comes from the gradient's norm or from the loss."""

from itertools import pairwise

import pytest
import torch
from jaxtyping import TypeCheckError
from pytorch_optimizer import AliG
from torch import Tensor
from torch.nn import Parameter

from lib.optimizers import Armijo, JointNormalizedGD, NormalizedGD, Polyak


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_layers(seed: int = 0) -> tuple[list[Parameter], Tensor, Tensor]:
    """A stack of three bilinear models, and the targets of their products."""
    return (
        [Parameter(drawn(seed, 3, 4, 2)), Parameter(drawn(seed + 1, 3, 2, 5))],
        drawn(seed + 2, 3, 4, 5),
        drawn(9, 5, 6),
    )


def closure_for(optimizer: torch.optim.Optimizer, params: list[Parameter], target: Tensor, xs: Tensor):
    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = ((params[0] @ params[1] - target) @ xs).square().mean((-2, -1))
        losses.sum().backward()
        return losses.detach()

    return closure


def test_a_joint_step_has_one_length_over_all_parameters():
    params, target, xs = two_layers()
    starts = [p.detach().clone() for p in params]
    optimizer = JointNormalizedGD(params, lr=torch.tensor([0.1, 0.2, 0.3]))
    optimizer.step(closure_for(optimizer, params, target, xs))
    moved = sum((p - s).square().sum((-2, -1)) for p, s in zip(params, starts, strict=True)).sqrt()
    torch.testing.assert_close(moved, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), check_dtype=False)


def test_for_one_matrix_the_joint_step_is_normalized_gd():
    W, twin, gradient = Parameter(drawn(0, 3, 4, 5)), Parameter(drawn(0, 3, 4, 5)), drawn(1, 3, 4, 5)
    for rule, p in ((JointNormalizedGD, W), (NormalizedGD, twin)):
        p.grad = gradient.clone()
        rule([p], 0.1).step()
    torch.testing.assert_close(W, twin)


def test_polyak_s_step_reaches_the_minimum_of_a_cone_at_once():
    """L = |w| + 3: linear along the gradient, so that the step of factor one is exact."""
    W = Parameter(torch.tensor([[[3.0, 4.0]], [[0.3, -0.4]]]))
    optimizer = Polyak([W], minimum=3.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = W.square().sum((-2, -1)).sqrt() + 3
        losses.sum().backward()
        return losses.detach()

    optimizer.step(closure)
    torch.testing.assert_close(W.detach(), torch.zeros(2, 1, 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("max_length", [0.05, 10.0])
def test_polyak_s_step_agrees_with_a_published_optimizer(max_length):
    params, target, xs = two_layers()
    ours, theirs = [[Parameter(p.detach()[1].clone()) for p in params] for _ in range(2)]
    optimizer, published = Polyak(ours, max_length=max_length), AliG(theirs, max_lr=max_length)
    for _ in range(20):
        optimizer.step(closure_for(optimizer, ours, target[1], xs))
        published.step(lambda: published_loss(published, theirs, target[1], xs))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)  # it adds 1e-5 to ‖G‖²


@torch.enable_grad()
def published_loss(optimizer, params, target, xs):
    optimizer.zero_grad()
    loss = ((params[0] @ params[1] - target) @ xs).square().mean()
    loss.backward()
    return loss


def test_a_minimum_per_member_is_taken_by_its_member():
    W = Parameter(torch.ones(2, 1, 1))
    optimizer = Polyak([W], minimum=torch.tensor([0.0, 1.0]))

    def closure() -> Tensor:
        W.grad = torch.ones_like(W)
        return W.detach()[:, 0, 0]

    optimizer.step(closure)
    assert W.flatten().tolist() == [0.0, 1.0]


def test_the_line_search_never_lets_the_loss_rise_and_finds_steps_that_plain_descent_cannot_take():
    """On a valley with curvatures 1 and 1000 any fixed step above 0.002 diverges."""
    curvature = torch.tensor([1.0, 1000.0], dtype=torch.float64)
    W = Parameter(torch.ones(1, 1, 2, dtype=torch.float64))
    optimizer = Armijo([W], lr=1.0)
    losses, lengths = [], []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (curvature * W.square()).sum((-2, -1)) / 2
        loss.sum().backward()
        return loss.detach()

    for _ in range(200):
        losses.append(optimizer.step(closure).item())
        lengths.append(optimizer.state[W]["length"].item())
    assert all(b <= a for a, b in pairwise(losses))
    assert losses[-1] < 1e-3 * losses[0]
    assert max(lengths) > 0.002


def test_the_line_search_accepts_exactly_the_first_length_that_meets_armijo_s_condition():
    W = Parameter(torch.full((1, 1, 1), 1.0, dtype=torch.float64))
    optimizer = Armijo([W], lr=8.0, decrease=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = W.square().sum((-2, -1)) / 2
        loss.sum().backward()
        return loss.detach()

    optimizer.step(closure)  # (1 - s)² / 2 ≤ 1/2 - s/2 holds for s ≤ 1: 8, 4 and 2 are refused
    assert optimizer.state[W]["length"].item() == 1.0 and W.item() == 0.0


@pytest.mark.parametrize("rule", [JointNormalizedGD, Polyak, Armijo])
def test_an_ordinary_model_with_vectors_among_its_parameters_is_a_stack_of_no_dimensions(rule):
    model = torch.nn.Linear(4, 3, dtype=torch.float64)
    starts = [p.detach().clone() for p in model.parameters()]
    optimizer = rule(list(model.parameters()), lr=0.1, n_stack=0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(4, dtype=torch.float64)).square().sum()
        loss.backward()
        return loss.detach()

    before = optimizer.step(closure)
    moved = sum((p - s).square().sum() for p, s in zip(model.parameters(), starts, strict=True)).sqrt()
    assert closure() < before
    if rule is JointNormalizedGD:
        assert moved.item() == pytest.approx(0.1)
    with pytest.raises(ValueError, match="at least two dimensions"):
        rule(list(model.parameters()), lr=0.1)


@pytest.mark.parametrize("rule", [NormalizedGD, JointNormalizedGD, Polyak, Armijo])
def test_steps_keep_their_direction_when_squares_of_the_gradient_underflow(rule):
    """L = 1e-250 |w - target|: the square of its gradient is 0 in float64."""
    target = torch.tensor([[[3.0, 4.0]]], dtype=torch.float64)
    W = Parameter(torch.zeros_like(target))
    optimizer = rule([W], lr=torch.tensor([1e250 if rule is Armijo else 1.0], dtype=torch.float64))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 1e-250 * torch.linalg.vector_norm(W - target, dim=(-2, -1))
        loss.sum().backward()
        return loss.detach()

    optimizer.step(closure)
    expected = target if rule is Polyak else target / 5
    torch.testing.assert_close(W.detach(), expected)


def test_a_loss_or_minimum_of_another_shape_is_refused():
    W = Parameter(torch.zeros(3, 2, 2))
    for losses in (torch.ones(()), torch.ones(2)):
        W.grad = torch.ones_like(W)
        with pytest.raises(ValueError, match=r"one loss per member, shape \(3,\); the closure returned"):
            Polyak([W]).step(lambda losses=losses: losses)
    for minimum in (float("nan"), torch.zeros(2)):
        with pytest.raises(ValueError, match="minimum must be a finite number or one per member"):
            Polyak([W], minimum=minimum)
    for n_stack in (-1, 1.5):
        with pytest.raises((ValueError, TypeCheckError), match="n_stack"):
            Polyak([W], n_stack=n_stack)


def test_bad_settings_are_refused():
    W = Parameter(torch.zeros(2, 3, 4))
    W.grad = torch.ones_like(W)
    for rule in (Polyak, Armijo):
        with pytest.raises(ValueError, match="call step\\(closure\\)"):
            rule([W]).step()
    with pytest.raises(ValueError, match="max_length must be positive, got 0"):
        Polyak([W], max_length=0)
    with pytest.raises(ValueError, match=r"decrease must be in \(0, 1\), got 1"):
        Armijo([W], decrease=1.0)
    with pytest.raises(ValueError, match="max_halvings must be in"):
        Armijo([W], max_halvings=0)
    with pytest.raises(ValueError, match="give them in one group"):
        Armijo([{"params": [W]}, {"params": [Parameter(torch.zeros(2, 3, 4))]}])
    with pytest.raises(ValueError, match="one stack"):
        JointNormalizedGD([W, Parameter(torch.zeros(3, 3, 4))], lr=0.1)
