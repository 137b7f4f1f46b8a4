"""StableMax: equal to a softmax of compressed logits, and alive where softmax has collapsed."""

import torch

from lib.models.stablemax import log_stablemax, stable_score, stablemax_cross_entropy
from lib.theory.softmax_collapse import cross_entropy


def drawn(*shape, scale=100.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_stablemax_is_a_softmax_of_compressed_logits():
    z = drawn(4, 50, 11)
    compressed = torch.log_softmax(z.sign() * z.abs().log1p(), -1)
    torch.testing.assert_close(log_stablemax(z), compressed, rtol=0, atol=1e-12)


def test_the_score_meets_the_exponential_at_zero_in_value_and_slope():
    for x in (-1e-12, 0.0, 1e-12):
        at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        score = stable_score(at)
        score.backward()
        assert abs(score.item() - 1) < 1e-11
        assert abs(at.grad.item() - 1) < 1e-11


def test_the_cross_entropy_is_minus_the_log_probability_and_broadcasts():
    z, ys = drawn(3, 2, 20, 5), torch.arange(40).reshape(2, 20) % 5
    picked = log_stablemax(z).gather(-1, ys.expand(3, 2, 20)[..., None])[..., 0]
    torch.testing.assert_close(stablemax_cross_entropy(z, ys), -picked)


def test_the_gradient_by_hand_is_autograd_s():
    z, ys = drawn(3, 2, 20, 5, scale=3.0).requires_grad_(), torch.arange(40).reshape(2, 20) % 5
    upstream = drawn(3, 2, 20)
    by_hand = torch.autograd.grad(stablemax_cross_entropy(z, ys), z, upstream)
    picked = log_stablemax(z).gather(-1, ys.expand(3, 2, 20)[..., None])[..., 0]
    torch.testing.assert_close(by_hand, torch.autograd.grad(-picked, z, upstream))
    single = z.detach().float().requires_grad_()
    assert torch.autograd.grad(stablemax_cross_entropy(single, ys).sum(), single)[0].dtype == torch.float32


def test_gradients_are_finite_everywhere_also_where_a_branch_would_divide_by_zero():
    z = torch.tensor([[1.0, -1.0, 0.0, 1e6, -1e6]], requires_grad=True)
    stablemax_cross_entropy(z, torch.tensor([0])).sum().backward()
    assert z.grad.isfinite().all()


def test_it_still_teaches_where_softmax_has_collapsed():
    z = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    y = torch.tensor([0])
    assert cross_entropy(z, y, 64).item() == 0
    (slope,) = torch.autograd.grad(stablemax_cross_entropy(z, y).sum(), z)
    assert slope[0, 0] < -1e-4


def test_adding_a_number_to_all_logits_changes_stablemax_but_not_softmax():
    z = drawn(1, 6, scale=1.0)
    assert not torch.allclose(log_stablemax(z), log_stablemax(z + 1))
    torch.testing.assert_close(torch.log_softmax(z, -1), torch.log_softmax(z + 1, -1))
