"""Diagonal linear networks: gradients, implicit bias, refusals."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from lib.models.diagonal_network import descend_diagonal


def problem():
    g = torch.Generator().manual_seed(0)
    xs = torch.randn(8, 20, generator=g, dtype=torch.float64)
    return xs, xs @ torch.zeros(20, dtype=torch.float64).index_fill(0, torch.arange(2), 1.0)


def test_a_step_is_that_of_automatic_differentiation():
    xs, ys = problem()
    g = torch.Generator().manual_seed(1)
    u, v = (torch.randn(20, generator=g, dtype=torch.float64).requires_grad_() for _ in range(2))
    loss = (xs @ (u * v) - ys).square().mean() / 2
    grads = torch.autograd.grad(loss, [u, v])
    after = descend_diagonal(u.detach(), v.detach(), xs, ys, torch.tensor(0.1).double(), 1)
    for new, old, grad in zip(after[:2], (u, v), grads, strict=True):
        assert torch.allclose(new, old.detach() - 0.1 * grad)


def test_a_small_start_ends_at_the_least_l1_norm_and_a_large_one_at_the_least_l2_norm():
    xs, ys = problem()
    u = torch.tensor([1e-4, 8.0]).double()[:, None].expand(2, 20)
    lr = torch.tensor([0.15, 2e-4]).double()
    u, v, losses = descend_diagonal(u, 0 * u, xs, ys, lr, 20000, enough=1e-16)
    assert (losses < 1e-8).all()
    beta = u * v
    solution = linprog(np.ones(40), A_eq=torch.cat([xs, -xs], 1).numpy(), b_eq=ys.numpy(), bounds=(0, None))
    assert float(beta[0].abs().sum()) == pytest.approx(solution.fun, rel=0.03)
    assert float(beta[1].norm()) == pytest.approx(float((torch.linalg.pinv(xs) @ ys).norm()), rel=0.02)


def test_what_makes_no_sense_is_refused_by_name():
    xs, ys = problem()
    u = torch.ones(20).double()
    with pytest.raises(ValueError, match="n_steps is 0"):
        descend_diagonal(u, u, xs, ys, torch.tensor(0.1).double(), 0)
    with pytest.raises(ValueError, match="lr has the smallest entry"):
        descend_diagonal(u, u, xs, ys, torch.tensor(-0.1).double(), 1)
