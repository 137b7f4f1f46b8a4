"""Causal linear attention: the direct computation, its moments, and their gradients."""

import pytest
import torch

from lib.models import autoregressive_attention as attention
from lib.tasks import unitary_autoregression as task
from lib.tasks.in_context_regression import streams


def dataset(start="gaussian", seeds=(0,), batch=7, n_dims=2, length=6):
    firsts = task.first_tokens(streams(seeds, "start"), batch, n_dims, start)
    return task.sequences(streams(seeds, "phases"), firsts, length)


def weights(*stack, n_dims=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    W_PV = torch.randn(*stack, n_dims, 2 * n_dims, dtype=torch.complex128, generator=g)
    return W_PV, torch.randn(*stack, 2 * n_dims, 2 * n_dims, dtype=torch.complex128, generator=g)


def test_predictions_are_the_paper_s_formula_written_out():
    xs, (W_PV, W_KQ) = dataset(), weights(1)
    out = attention.predictions(W_PV, W_KQ, xs)
    tokens = task.embedded(xs).to(torch.complex128)[0]
    for t in range(2, 6):
        seen = tokens[:, :t].mT  # columns e_1 … e_t
        by_hand = W_PV[0] @ seen @ seen.mH @ W_KQ[0] @ tokens[:, t - 1, :, None] / (t - 1)
        assert torch.allclose(out[0, :, t - 2], by_hand[..., 0], atol=1e-5)


def test_a_prediction_does_not_see_later_tokens():
    xs, (W_PV, W_KQ) = dataset(), weights(1)
    changed = xs.clone()
    changed[..., 4:, :] += 1
    before, after = (attention.predictions(W_PV, W_KQ, x) for x in (xs, changed))
    assert torch.equal(before[..., :3, :], after[..., :3, :])
    assert not torch.allclose(before[..., 3, :], after[..., 3, :])


def test_the_start_of_the_paper_is_gradient_descent_on_the_prompt():
    xs = dataset(n_dims=3)
    W_PV, W_KQ = attention.block_start(3, torch.tensor([0.4]), torch.tensor([0.5]))
    now, before = xs.to(torch.complex128)[0, :, 1:-1], xs.to(torch.complex128)[0, :, :-2]
    for t in range(2, 6):
        # ½ Σ |x_{i+1} - W x_i|² from W = 0 has gradient -Σ x_{i+1} x_i^H; one step of rate ab/(t-1), then W x_t.
        W_hat = 0.2 / (t - 1) * now[:, : t - 1].mT @ before[:, : t - 1].conj()
        by_hand = (W_hat @ xs[0, :, t - 1, :, None].to(torch.complex128))[..., 0]
        assert torch.allclose(attention.predictions(W_PV, W_KQ, xs)[0, :, t - 2], by_hand, atol=1e-6)
    assert attention.product_ab(W_PV, W_KQ).item() == pytest.approx(0.2)


@pytest.mark.parametrize("start", task.STARTS)
def test_the_loss_from_moments_equals_the_loss_from_sequences(start):
    xs = dataset(start, seeds=(0, 1))
    W_PV, W_KQ = weights(3, 2)
    direct = attention.sequence_loss(W_PV, W_KQ, xs)
    reduced, *_ = attention.loss_and_gradients(attention.moments(xs, chunk=3), W_PV, W_KQ)
    assert reduced.shape == (3, 2)
    assert torch.allclose(reduced, direct, rtol=2e-6)


def test_gradients_from_moments_equal_autograd_s_from_sequences():
    xs = dataset(seeds=(0, 1))
    W_PV, W_KQ = (w.requires_grad_() for w in weights(3, 2))
    attention.sequence_loss(W_PV, W_KQ, xs).sum().backward()
    with torch.no_grad():
        _, to_PV, to_KQ = attention.loss_and_gradients(attention.moments(xs), W_PV, W_KQ)
    for ours, theirs in ((to_PV, W_PV.grad), (to_KQ, W_KQ.grad)):
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_scaled_moments_are_those_of_scaled_sequences():
    xs, (W_PV, W_KQ) = dataset(), weights(1)
    scaled = attention.moments(xs).scaled(0.5)
    loss, *_ = attention.loss_and_gradients(scaled, W_PV, W_KQ)
    assert torch.allclose(loss, attention.sequence_loss(W_PV, W_KQ, xs / 2), rtol=1e-5)


def test_packed_numbers_hold_the_whole_hermitian_matrix():
    e = torch.randn(5, 4, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    outer = e[..., :, None] * e[..., None, :].conj()
    unpacked = attention.packed(e).to(torch.complex128) @ attention.unpacking(4).mT
    assert torch.allclose(unpacked, outer.flatten(-2))


def test_a_stacked_member_equals_its_solo_run():
    W_PV, W_KQ = attention.block_start(2, torch.tensor([[0.1], [0.5]]), torch.tensor([[0.2], [1.5]]))
    together = train(attention.moments(dataset(seeds=(3, 7))), W_PV.expand(2, 2, 2, 4), W_KQ.expand(2, 2, 4, 4))
    alone = train(attention.moments(dataset(seeds=(7,))), W_PV[1:], W_KQ[1:])
    for stacked, solo in zip(together, alone, strict=True):
        assert (stacked[1, 1] - solo[0, 0]).abs().max() < 1e-5


def train(data, W_PV, W_KQ, lr=1e-3, n_steps=20):
    for _ in range(n_steps):
        _, to_PV, to_KQ = attention.loss_and_gradients(data, W_PV, W_KQ)
        W_PV, W_KQ = W_PV - lr * to_PV, W_KQ - lr * to_KQ
    return W_PV, W_KQ


def test_what_does_not_fit_is_refused():
    W_PV, W_KQ = weights(1)
    with pytest.raises(ValueError, match="length is 2; it must be at least 3"):
        attention.predictions(W_PV, W_KQ, torch.zeros(1, 1, 2, 2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="length is 2"):
        attention.moments(torch.zeros(1, 1, 2, 2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="xs have 3 dimensions; the weights were made for 2"):
        attention.predictions(W_PV, W_KQ, dataset(n_dims=3))
    with pytest.raises(ValueError, match="must end in"):
        attention.predictions(W_PV, W_KQ[..., :3, :3], dataset())
    with pytest.raises(ValueError, match="the moments were taken of 216 and 3"):
        attention.loss_and_gradients(attention.moments(dataset(n_dims=3, batch=2)), W_PV, W_KQ)
