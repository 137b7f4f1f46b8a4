"""Effective ranks, projections and mixed inputs, on functions where all are known."""

import pytest
import torch

from lib.theory.low_dimensional import effective_rank, leading_projection, mixed_inputs


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_effective_rank_counts_equal_directions_and_ignores_scale_and_rotation():
    Q = torch.linalg.qr(randn(6, 6))[0]
    W = 3 * Q @ torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]))
    assert float(effective_rank(W)) == pytest.approx(3, rel=1e-4)
    shares = torch.tensor([0.9, 0.1])
    entropy = -(shares * shares.log()).sum()
    assert float(effective_rank(torch.diag(shares.sqrt()))) == pytest.approx(float(entropy.exp()), rel=1e-5)


@pytest.mark.parametrize("n_rows", [3, 20])
def test_the_projection_is_onto_the_leading_directions(n_rows):
    W = randn(2, n_rows, 5)
    P = leading_projection(W, 2)
    torch.testing.assert_close(P @ P, P, rtol=1e-4, atol=1e-5)
    Vh = torch.linalg.svd(W)[2][:, :2]
    torch.testing.assert_close(P, Vh.mT @ Vh, rtol=1e-3, atol=1e-4)


def test_a_function_of_the_projection_alone_changes_with_it_alone():
    xs, partners = randn(2, 500, 4), torch.randperm(500, generator=torch.Generator().manual_seed(1))
    P = torch.diag(torch.tensor([1.0, 0.0, 0.0, 0.0])).expand(2, 4, 4)
    changes = mixed_inputs(lambda x: x[..., 0], xs, P, partners)
    assert changes["P⊥-LC"].max() < 1e-6 and changes["P⊥-pC"].max() == 0
    # Two independent normal numbers: E|a - b| / E|a| = √2, and opposite signs half of the time.
    assert torch.allclose(changes["P-LC"], torch.tensor(2**0.5), atol=0.1)
    assert torch.allclose(changes["P-pC"], torch.tensor(0.5), atol=0.07)
    other = mixed_inputs(lambda x: x[..., 1], xs, P, partners)
    assert other["P-LC"].max() < 1e-6 and other["P⊥-LC"].min() > 1.2


def test_a_rank_that_is_no_rank_is_refused():
    with pytest.raises(ValueError, match="rank is 6; it must lie in 1…5"):
        leading_projection(randn(3, 5), 6)
