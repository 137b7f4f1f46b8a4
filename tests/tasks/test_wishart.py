"""Sample covariances against those of drawn points, and against the moments of the Wishart law."""

import pytest
import torch
from scipy.stats import ks_2samp

from lib.models.restricted_attention import sample_covariance
from lib.seeds import generator_for
from lib.tasks import in_context_regression as task
from lib.tasks.wishart import sample_covariances

D, BATCH = 3, 40_000
FACTOR = torch.tensor([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [-1.0, 0.3, 0.4]])
COVARIANCE = FACTOR @ FACTOR.mT


def drawn(n_points: int, seed: int = 0) -> torch.Tensor:
    return sample_covariances([generator_for(seed, "test")], COVARIANCE.expand(1, BATCH, D, D), n_points)[0].double()


@pytest.mark.parametrize("n_points", [3, 5, 50])
def test_mean_and_covariances_are_those_of_the_wishart_law(n_points: int):
    S, C = drawn(n_points), COVARIANCE.double()
    # cov(S_ij, S_kl) = (Σ_ik Σ_jl + Σ_il Σ_jk) / n
    expected = (torch.einsum("ik,jl->ijkl", C, C) + torch.einsum("il,jk->ijkl", C, C)) / n_points
    spread = expected.diagonal(dim1=0, dim2=2).diagonal(dim1=0, dim2=1).sqrt()
    error = (S.mean(0) - C).abs() / spread * BATCH**0.5
    assert error.max() < 4.5  # standard errors; nine entries
    measured = torch.einsum("bij,bkl->ijkl", S - C, S - C) / BATCH
    scale = torch.einsum("ij,kl->ijkl", spread, spread)
    # The fourth moments of S, of order 1/n beyond a Gaussian's, make the error some (3 + 12/n)/√BATCH.
    assert ((measured - expected) / scale).abs().max() < 5 * ((2 + 12 / n_points) / BATCH) ** 0.5


@pytest.mark.parametrize("n_points", [3, 20])
def test_eigenvalues_are_distributed_as_those_of_drawn_points(n_points: int):
    xs = task.gaussian_inputs([generator_for(1, "points")], BATCH, n_points + 1, D, COVARIANCE)
    expected = torch.linalg.eigvalsh(sample_covariance(xs)[0])
    for ours, theirs in zip(torch.linalg.eigvalsh(drawn(n_points).float()).T, expected.T, strict=True):
        assert ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-4


def test_seeds_do_not_depend_on_their_neighbours():
    covariances = COVARIANCE.expand(2, 5, D, D)
    both = sample_covariances([generator_for(s, "test") for s in (4, 7)], covariances, 8)
    alone = sample_covariances([generator_for(7, "test")], covariances[:1], 8)
    torch.testing.assert_close(both[1], alone[0], rtol=0, atol=0)


def test_fewer_points_than_dimensions_are_refused():
    with pytest.raises(ValueError, match="n_points is 2; it must be at least the number of dimensions, 3"):
        sample_covariances([generator_for(0, "test")], COVARIANCE.expand(1, 4, D, D), 2)
