"""What the general training loop promises."""

import pytest
import torch
from torch.nn import Parameter
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from lib.descend import descend
from lib.optimizers import Armijo, NormalizedGD, PerMemberLR, Polyak


def quadratic(targets):
    """Members (seed, n, 1) that each descend to their own targets."""
    W = Parameter(torch.zeros_like(targets))
    return W, lambda step: (W - targets).square().sum((-2, -1)) / 2


TARGETS = torch.tensor([[[1.0], [-2.0]], [[0.5], [3.0]]])


@pytest.mark.parametrize("rule", [Polyak, Armijo])
def test_rules_that_need_the_loss_get_it(rule):
    W, loss = quadratic(TARGETS)
    out = descend(loss, rule([W]), 60)
    assert torch.allclose(W, TARGETS, atol=1e-4)
    assert out["loss"].shape == (60, 2) and torch.equal(out["loss"][0], TARGETS.square().sum((-2, -1)) / 2)


def test_without_extras_it_is_gradient_descent():
    W, loss = quadratic(TARGETS)
    out = descend(loss, SGD([W], lr=0.1), 5)
    torch.testing.assert_close(W.detach(), TARGETS * (1 - 0.9**5))
    torch.testing.assert_close(out["loss"][4], TARGETS.square().sum((-2, -1)) / 2 * 0.9**8)


def test_groups_follow_their_own_schedules():
    first, second = Parameter(torch.zeros(1, 1, 1)), Parameter(torch.zeros(1, 1, 1))
    optimizer = NormalizedGD([{"params": [first]}, {"params": [second], "lr": 0.5}], lr=1.0)
    scheduler = LambdaLR(optimizer, [lambda t: 1.0, lambda t: 1 / (t + 1)])
    descend(lambda step: -(first + second).sum((-2, -1)), optimizer, 3, scheduler=scheduler)
    assert first.item() == pytest.approx(3) and second.item() == pytest.approx(0.5 * (1 + 1 / 2 + 1 / 3))


def test_it_logs_when_told_and_gives_each_step_its_number():
    W, _ = quadratic(TARGETS)
    seen = []

    def loss(step):
        seen.append(step)
        return W.sum((-2, -1))

    out = descend(loss, SGD([W], lr=1.0), 4, evaluate=lambda: W.detach().clone(), log_steps=[0, 3])
    assert seen == [0, 1, 2, 3]
    torch.testing.assert_close(out["log"][:, 0, 0, 0], torch.tensor([0.0, -3.0]))


def test_a_learning_rate_per_member_is_kept_apart():
    W, loss = quadratic(TARGETS)
    descend(loss, PerMemberLR([W], SGD, torch.tensor([0.0, 0.1])), 3)
    assert not W[0].any() and W[1].all()


def test_a_member_that_diverges_shows_it_and_leaves_the_others_alone():
    W, loss = quadratic(TARGETS)
    out = descend(loss, PerMemberLR([W], SGD, torch.tensor([0.5, 1e6])), 50)
    assert not out["loss"][-1, 1].isfinite()
    torch.testing.assert_close(W[0].detach(), TARGETS[0])


def test_what_cannot_be_is_refused():
    W, loss = quadratic(TARGETS)
    with pytest.raises(ValueError, match="n_steps is 0"):
        descend(loss, SGD([W], lr=0.1), 0)
    with pytest.raises(ValueError, match=r"log_steps is \[2, 1\]"):
        descend(loss, SGD([W], lr=0.1), 3, log_steps=[2, 1])
