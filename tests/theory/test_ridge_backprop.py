"""What a ridge readout sends back: equation 4 against autograd, signs of the interaction, when units are on their own."""

import pytest
import torch

from lib.theory import ridge_backprop as rb


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


F, Y = randn(2, 12, 7), randn(2, 12, 5)


def loss(features, labels, readout):
    centre = lambda x: x - x.mean(-2, keepdim=True)  # noqa: E731
    return (centre(labels) - centre(features) @ readout).square().sum() / 2


def test_the_readout_is_where_the_penalised_loss_is_flat():
    V = rb.ridge(F, Y, 0.3).requires_grad_()
    (loss(F, Y, V) + 0.15 * V.square().sum()).backward()
    assert V.grad.abs().max() < 1e-12


def test_what_is_sent_back_is_minus_the_gradient_by_the_features_and_equation_4():
    V, features = rb.ridge(F, Y, 0.3), F.clone().requires_grad_()
    loss(features, Y, V).backward()
    G = rb.backpropagated(F, Y, V)
    torch.testing.assert_close(G, -features.grad)
    torch.testing.assert_close(G, rb.backpropagated_at_ridge(F, Y, 0.3))


def test_under_a_large_ridge_only_the_signal_is_left():
    G = rb.backpropagated_at_ridge(F, Y, 1e6)
    assert rb.alignment(G, rb.signal(F, Y)).min() > 0.9999
    torch.testing.assert_close(G * 1e6, rb.signal(F, Y), rtol=1e-3, atol=1e-3)


def test_small_steps_from_zero_send_back_the_signal():
    """Proposition 1: G(t) = t ỸỸᵀF̃ + O(t²) from V = 0; one gradient step of size t gives V = t F̃ᵀỸ."""
    centred = F - F.mean(-2, keepdim=True)
    G = rb.backpropagated(F, Y, 1e-6 * centred.mT @ (Y - Y.mean(-2, keepdim=True)))
    torch.testing.assert_close(G / 1e-6, rb.signal(F, Y), rtol=1e-3, atol=1e-3)


def test_interactions_have_the_sign_against_the_similarity_that_others_leave():
    B = rb.interaction(F, 0.05)
    for member in range(2):
        for i in range(7):
            for j in range(7):
                if i != j:
                    likeness = rb.similarity_beyond_the_rest(F[member], i, j, 0.05)
                    assert torch.sign(B[member, i, j]) == -torch.sign(likeness)


def test_two_copies_of_a_unit_repel_each_other_and_two_opposite_ones_attract():
    twins = torch.cat([F, F[..., :1], -F[..., 1:2]], -1)
    B = rb.interaction(twins, 0.1)
    assert (B[:, 0, 7] < 0).all()
    assert (B[:, 1, 8] > 0).all()


def test_alignment_is_a_cosine_and_zero_for_nothing():
    assert rb.alignment(F, 3 * F).tolist() == pytest.approx([1, 1])
    assert rb.alignment(F, -F).tolist() == pytest.approx([-1, -1])
    assert rb.alignment(F, 0 * F).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rb.interaction(F, 0.0), "eta is 0.0; it must be positive"),
        (lambda: rb.similarity_beyond_the_rest(F[0], 0, 1, -1.0), "eta is -1.0"),
        (lambda: rb.similarity_beyond_the_rest(F[0], 2, 2, 0.1), "i is 2 and j 2"),
        (lambda: rb.similarity_beyond_the_rest(F[0], 0, 7, 0.1), "two different columns in 0…6"),
    ],
)
def test_bad_input_is_refused_with_its_name_and_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()
