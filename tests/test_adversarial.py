"""Adversaries: what they may do, what they find on linear models, and what training against them gives."""

import pytest
import torch
from torch import nn

from lib.adversarial import adversarial_train, worst_inputs
from lib.models.linear import cross_entropy
from lib.models.mlp import MLP
from lib.train import minibatches, train


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def linear(seeds=(0, 1), d=6):
    return MLP([d, 2], seeds=list(seeds))


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_on_a_linear_model_the_adversary_reaches_the_dual_norm(norm, dual):
    model, xs = linear(), randn(2, 8, 6)
    ys = torch.arange(8).remainder(2).expand(2, 8)
    attacked = worst_inputs(model, xs, ys, radius=0.3, norm=norm, n_steps=3)
    slopes = model.weights[0][:, 1] - model.weights[0][:, 0]
    signs = 2.0 * ys - 1
    before, after = (signs * torch.einsum("sd,snd->sn", slopes, x) for x in (xs, attacked))
    expected = before - 0.3 * slopes.norm(p=dual, dim=-1)[:, None]
    torch.testing.assert_close(after, expected.detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_adversary_stays_in_the_ball_and_in_bounds_and_raises_the_loss(norm):
    model, xs = MLP([6, 16, 3], seeds=[0, 1]), randn(2, 20, 6).sigmoid()
    ys = torch.arange(20).remainder(3).expand(2, 20)
    attacked = worst_inputs(model, xs, ys, radius=0.2, norm=norm, n_steps=5, bounds=(0.0, 1.0))
    size = (attacked - xs).abs().amax(-1) if norm == "linf" else (attacked - xs).norm(dim=-1)
    assert float(size.max()) <= 0.2 + 1e-6
    assert float(attacked.min()) >= 0
    assert float(attacked.max()) <= 1
    assert (cross_entropy(model(attacked), ys) > cross_entropy(model(xs), ys)).all()


def test_radius_zero_is_ordinary_training():
    xs, ys = randn(2, 40, 6), torch.arange(40).remainder(2).expand(2, 40)
    batches, models = minibatches(40, 10, 12, [0, 1]), (linear(), linear())
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
    attack = dict(radius=0.0, norm="l2", n_steps=3)
    losses = adversarial_train(models[0], optimizers[0], xs, ys, batches, **attack)
    log = train(models[1], optimizers[1], xs, ys, batches, evaluate=lambda: torch.zeros(2), log_steps=[])
    torch.testing.assert_close(losses, log["loss"])
    torch.testing.assert_close(models[0].weights[0], models[1].weights[0])


def test_a_stacked_member_equals_the_solo_run():
    xs, ys = randn(2, 40, 6), torch.arange(40).remainder(3).expand(2, 40)
    weights: list[nn.Parameter] = []
    for seeds in ([0, 1], [1]):
        model = MLP([6, 8, 3], seeds)
        data = (xs, ys) if len(seeds) == 2 else (xs[1:], ys[1:])
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        batches = minibatches(40, 10, 10, seeds)
        adversarial_train(model, optimizer, *data, batches, radius=0.2, norm="l2", n_steps=2)
        weights.append(model.weights[0])
    torch.testing.assert_close(weights[0][1], weights[1][0], atol=1e-5, rtol=1e-4)


def test_training_against_the_ball_shrinks_what_only_the_adversary_uses():
    """A strong coordinate and a weak one that both tell the label; the ball is larger than the weak one's margin."""
    ys = torch.arange(200).remainder(2)[None]
    xs = torch.stack([2.0 * ys - 1, 0.1 * (2.0 * ys - 1)], -1)
    shares = []
    for radius in (0.0, 0.3):
        model = linear([0], 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        batches = minibatches(200, 50, 300, [0])
        adversarial_train(model, optimizer, xs, ys, batches, radius=radius, norm="linf", n_steps=3)
        slopes = (model.weights[0][0, 1] - model.weights[0][0, 0]).detach()
        shares.append(float(slopes[1].abs() / slopes.abs().sum()))
    assert shares[1] < 0.5 * shares[0]


def test_what_makes_no_sense_is_refused():
    model, xs, ys = linear(), randn(2, 4, 6), torch.zeros(2, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="norm is 'l1'; it must be one of l2, linf"):
        worst_inputs(model, xs, ys, radius=0.1, norm="l1", n_steps=1)
    with pytest.raises(ValueError, match=r"radius is -1.0; it must not be negative"):
        worst_inputs(model, xs, ys, radius=-1.0, norm="l2", n_steps=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="norm is 'l1'"):
        adversarial_train(model, optimizer, xs, ys, minibatches(4, 2, 1, [0, 1]), radius=0.1, norm="l1", n_steps=1)
