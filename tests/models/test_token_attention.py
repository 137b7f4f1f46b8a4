"""Attention with one query per sequence: the textbook formula, and its gradients where attention is saturated."""

from fractions import Fraction

import pytest
import torch
from scipy.special import softmax

from lib.models.token_attention import attend, log_missing


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_softmax_of_the_scores():
    xs, zs, W = drawn(0, 3, 4, 5, 6), drawn(1, 3, 4, 6), drawn(2, 3, 6, 6)
    context, log_attention = attend(xs, zs, W)
    for run in range(3):
        for i in range(4):
            attention = softmax((xs[run, i] @ W[run] @ zs[run, i]).numpy())
            torch.testing.assert_close(log_attention[run, i].exp(), torch.tensor(attention))
            torch.testing.assert_close(context[run, i], torch.tensor(attention) @ xs[run, i])


def test_gradients_agree_with_finite_differences():
    xs, zs, W = drawn(0, 2, 3, 4, 5), drawn(1, 2, 3, 5), drawn(2, 2, 5, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda W: attend(xs, zs, W), W)


def test_the_gradient_keeps_its_direction_when_attention_is_saturated():
    """At attention 1 - 1e-26 the exact gradient, in rational arithmetic, against ours and against the textbook formula."""
    xs = torch.tensor([[[1.0, 0.25], [0.0, 1.0], [0.5, -1.0]]], dtype=torch.float64)
    zs, v = torch.tensor([[60.0, 0.0]], dtype=torch.float64), torch.tensor([1.0, 0.3], dtype=torch.float64)
    W = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    context, log_attention = attend(xs, zs, W)
    (context @ v).sum().backward()
    a = [Fraction(value) for value in log_attention.exp()[0].tolist()]
    a[0] = 1 - a[1] - a[2]
    scores = [Fraction(x) + Fraction(0.3) * Fraction(y) for x, y in xs[0].tolist()]
    mean = sum(p * s for p, s in zip(a, scores, strict=True))
    exact = [
        sum(p * (s - mean) * Fraction(x[k]) for p, s, x in zip(a, scores, xs[0].tolist(), strict=True)) * 60
        for k in (0, 1)
    ]
    assert float(a[1] + a[2]) < 1e-12
    torch.testing.assert_close(
        W.grad[:, 0], torch.tensor([float(g) for g in exact], dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_what_is_missing_is_not_lost_below_the_precision_of_one():
    xs = torch.tensor([[[1.0], [0.0], [0.0]]], dtype=torch.float64)
    _, log_attention = attend(xs, torch.full((1, 1), 500.0, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    missing = log_missing(log_attention, torch.tensor([[True, False, False]]))
    torch.testing.assert_close(missing, torch.tensor([-500.0], dtype=torch.float64) + torch.tensor(2.0).double().log())


def test_keys_and_queries_give_their_product_s_attention():
    xs, zs, K, Q = drawn(0, 4, 5, 6), drawn(1, 4, 6), drawn(2, 6, 3), drawn(3, 6, 3)
    scores = ((xs @ K) @ (zs @ Q)[..., None])[..., 0]
    torch.testing.assert_close(attend(xs, zs, K @ Q.mT)[1], scores.log_softmax(-1))


def test_a_stacked_layer_is_the_layer_alone():
    xs, zs, W = drawn(0, 3, 4, 5, 6), drawn(1, 3, 4, 6), drawn(2, 3, 6, 6)
    together = attend(xs, zs, W)
    alone = attend(xs[1], zs[1], W[1])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1], b, rtol=1e-12, atol=1e-14)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="at least one token"):
        attend(torch.ones(2, 0, 3), torch.ones(2, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match="do not fit"):
        attend(torch.ones(2, 4, 3), torch.ones(2, 2), torch.ones(3, 3))
    with pytest.raises(ValueError, match="do not fit"):
        attend(torch.ones(2, 4, 3), torch.ones(2, 3), torch.ones(2, 3))
