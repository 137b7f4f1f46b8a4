"""⊥Grad: geometry, and equality with an independent implementation."""

import pytest
import torch
from pytorch_optimizer import OrthoGrad
from torch.nn import Parameter

from lib.optimizers.perp_grad import PerpGrad, perpendicular


def drawn(seed, *shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def classify(weights, xs, ys):
    """Cross-entropy per member of a two-layer homogeneous network."""
    z = torch.relu(xs @ weights[0].mT) @ weights[1].mT
    return -torch.log_softmax(z, -1).gather(-1, ys[..., None]).mean((-2, -1))


def problem(n=2):
    return drawn(5, n, 20, 6), torch.arange(20 * n).reshape(n, 20) % 4


@pytest.mark.parametrize(
    ("base", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.8}),
        (torch.optim.AdamW, {"betas": (0.9, 0.99), "eps": 1e-20}),
        (torch.optim.Adam, {}),
    ],
)
def test_a_run_is_that_of_the_published_package(base, options):
    xs, ys = problem()
    start = [drawn(0, 2, 8, 6), drawn(1, 2, 4, 8)]
    ours = [Parameter(w.clone()) for w in start]
    optimizer = PerpGrad(ours, base, lr=0.05, **{"weight_decay": 0.0} | options)
    for _ in range(30):
        optimizer.zero_grad()
        classify(ours, xs, ys).sum().backward()
        optimizer.step()
    for member in range(2):
        alone = [Parameter(w[member].clone()) for w in start]
        reference = OrthoGrad(base(alone, lr=0.05, **{"weight_decay": 0.0} | options))
        for _ in range(30):
            reference.zero_grad()
            classify(alone, xs[member], ys[member]).backward()
            reference.step()
        for a, b in zip(ours, alone, strict=True):
            torch.testing.assert_close(a[member], b, rtol=0, atol=2e-5)


def test_the_perpendicular_part_is_orthogonal_as_long_as_the_gradient_and_downhill():
    g, w = drawn(2, 3, 2, 7, 5, dtype=torch.float64), drawn(3, 3, 2, 7, 5, dtype=torch.float64)
    part = perpendicular(g, w)
    length = g.square().sum((-2, -1)).sqrt()
    assert ((part * w).sum((-2, -1)) / (length * w.square().sum((-2, -1)).sqrt())).abs().max() < 1e-14
    torch.testing.assert_close(part.square().sum((-2, -1)).sqrt(), length)
    assert ((part * g).sum((-2, -1)) > 0).all()
    bare = perpendicular(g, w, rescale=False)
    torch.testing.assert_close((bare * g).sum((-2, -1)), bare.square().sum((-2, -1)))


def test_norms_obey_pythagoras_under_plain_descent():
    xs, ys = problem()
    weights = [Parameter(drawn(0, 2, 8, 6)), Parameter(drawn(1, 2, 4, 8))]
    optimizer = PerpGrad(weights, torch.optim.SGD, lr=0.3)
    for _ in range(10):
        optimizer.zero_grad()
        classify(weights, xs, ys).sum().backward()
        before = [w.detach().square().sum((-2, -1)) for w in weights]
        steps = [0.09 * w.grad.square().sum((-2, -1)) for w in weights]
        optimizer.step()
        for w, old, step in zip(weights, before, steps, strict=True):
            torch.testing.assert_close(w.detach().square().sum((-2, -1)), old + step)


def test_it_converges_where_scale_does_not_matter():
    """The Rayleigh quotient is constant along w: its least value is the smallest eigenvalue, and ⊥Grad loses nothing."""
    A = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    w = Parameter(drawn(6, 3, 1, 4))
    optimizer = PerpGrad([w], torch.optim.SGD, lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        ((w @ A * w).sum((-2, -1)) / w.square().sum((-2, -1))).sum().backward()
        optimizer.step()
    assert ((w @ A * w).sum((-2, -1)) / w.square().sum((-2, -1)) - 1).abs().max() < 1e-3


def test_a_gradient_along_the_weights_moves_nothing():
    w = drawn(7, 2, 3, 4)
    assert torch.equal(perpendicular(2.5 * w, w), torch.zeros_like(w))
    assert torch.equal(perpendicular(w, torch.zeros_like(w)), perpendicular(w, torch.zeros_like(w), rescale=False))
    torch.testing.assert_close(perpendicular(w, torch.zeros_like(w)), w)


def test_weight_decay_is_refused():
    with pytest.raises(ValueError, match=r"weight_decay must be 0, got 0\.1"):
        PerpGrad([Parameter(torch.ones(2, 2))], torch.optim.AdamW, 0.1, weight_decay=0.1)
