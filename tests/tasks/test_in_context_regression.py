"""What the in-context regression tasks promise."""

import pytest
import torch

from lib.tasks import in_context_regression as task

N = 40000  # prompts of a Monte Carlo check; the standard error of a mean of unit variance is 0.005


def test_gaussian_inputs_have_the_given_covariance():
    covariance = torch.tensor([[2.0, 0.6], [0.6, 0.5]])
    xs = task.gaussian_inputs(task.streams([0], "t"), N, 2, 2, covariance)[0].flatten(0, 1)
    assert torch.allclose(xs.T @ xs / len(xs), covariance, atol=4 * 2 * 2**0.5 / (2 * N) ** 0.5)


def test_a_covariance_per_prompt_reaches_its_own_prompt():
    covariances = torch.eye(2).repeat(1, 2, 1, 1)
    covariances[0, 1] *= 1e6
    xs = task.gaussian_inputs(task.streams([0], "t"), 2, 500, 2, covariances)
    assert torch.allclose(xs.std(dim=(0, 2, 3)), torch.tensor([1.0, 1000.0]), rtol=0.1)


def test_uniform_inputs_fill_their_range_and_have_its_moments():
    xs = task.uniform_inputs(task.streams([0], "t"), N, 1, 2, half_width=0.5)
    assert xs.abs().max() <= 0.5
    assert xs.square().mean().item() == pytest.approx(0.5**2 / 3, rel=0.02)


def test_targets_are_linear_with_the_weights_that_are_returned():
    xs = task.gaussian_inputs(task.streams([0, 1], "t"), 3, 4, 5)
    ys, weights = task.linear_targets(task.streams([0, 1], "w"), xs)
    assert torch.allclose(ys, torch.einsum("sbnd,sbd->sbn", xs, weights), atol=1e-5)


def test_weights_and_noise_have_the_given_covariance_and_size():
    omega = torch.tensor([[1.0, -0.5], [-0.5, 2.0]])
    xs = task.gaussian_inputs(task.streams([0], "t"), N, 1, 2)
    ys, weights = task.linear_targets(task.streams([0], "w"), xs, omega, noise_std=0.5)
    assert torch.allclose(weights[0].T @ weights[0] / N, omega, atol=4 * 2 * 2**0.5 / N**0.5)
    noise = ys - torch.einsum("sbnd,sbd->sbn", xs, weights)
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)


def test_exponential_covariances_are_diagonal_with_mean_one():
    covariances = task.exponential_covariances(task.streams([0], "c"), N, 3)
    diagonal = covariances.diagonal(dim1=-2, dim2=-1)
    assert torch.equal(torch.diag_embed(diagonal), covariances)
    assert torch.allclose(diagonal.mean((0, 1)), torch.ones(3), atol=0.02)


def test_rotated_covariances_have_log_uniform_eigenvalues_and_no_preferred_axis():
    covariances = task.rotated_covariances(task.streams([0], "c"), 20000, 3, 1.0, 16.0)[0]
    logs = torch.linalg.eigvalsh(covariances).log() / torch.log(torch.tensor(16.0))
    assert logs.min() > -1e-4 and logs.max() < 1 + 1e-4
    assert logs.mean().item() == pytest.approx(0.5, abs=0.01)
    diagonal = covariances.diagonal(dim1=-2, dim2=-1)
    assert torch.allclose(diagonal.mean(0), torch.full((3,), 15 / torch.log(torch.tensor(16.0)).item()), rtol=0.03)


def test_a_sine_stays_within_its_amplitude_and_starts_at_its_phase():
    xs, ys = task.sines(task.streams([0], "s"), 50, 7, amplitude=(2.0, 2.0), phase=(0.5, 0.5))
    assert torch.allclose(ys, 2 * torch.sin(xs[..., 0] + 0.5))


def test_the_query_s_target_is_hidden_and_all_else_is_kept():
    xs, ys = torch.randn(2, 4, 3), torch.randn(2, 4)
    tokens = task.merged_tokens(xs, ys)
    assert torch.equal(tokens[..., :3], xs)
    assert torch.equal(tokens[:, :-1, 3], ys[:, :-1]) and (tokens[:, -1, 3] == 0).all()


def test_interleaved_tokens_alternate_inputs_and_padded_targets():
    xs, ys = torch.randn(2, 4, 3), torch.randn(2, 4)
    tokens = task.interleaved_tokens(xs, ys)
    assert torch.equal(tokens[:, ::2], xs)
    assert torch.equal(tokens[:, 1::2, 0], ys) and (tokens[:, 1::2, 1:] == 0).all()


def test_a_seed_draws_the_same_alone_and_in_company():
    def draw(seeds):
        generators = task.streams(seeds, "t")
        covariances = task.rotated_covariances(generators, 3, 2, 1.0, 4.0)
        xs = task.gaussian_inputs(generators, 3, 5, 2, covariances)
        return task.linear_targets(generators, xs, noise_std=0.1)[0]

    assert torch.allclose(draw([0, 7])[1], draw([7])[0], atol=1e-6)


def test_a_number_for_the_weights_covariance_is_a_multiple_of_the_identity():
    xs = task.gaussian_inputs(task.streams([0], "t"), 5, 2, 3)
    number, matrix = (task.linear_targets(task.streams([0], "w"), xs, omega)[1] for omega in (0.25, torch.eye(3) / 4))
    assert torch.allclose(number, matrix)
    with pytest.raises(ValueError, match="weight_covariance is -1"):
        task.linear_targets(task.streams([0], "w"), xs, -1.0)


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (torch.eye(3), r"covariance has shape \(3, 3\).*n_dims = 2"),
        (torch.ones(2, 2), "covariance is singular or indefinite.*least is"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "covariance must be symmetric"),
    ],
)
def test_a_covariance_that_cannot_be_is_refused(covariance, message):
    with pytest.raises(ValueError, match=message):
        task.gaussian_inputs(task.streams([0], "t"), 1, 1, 2, covariance)
    with pytest.raises(ValueError, match="weight_" + message):
        task.linear_targets(task.streams([0], "t"), torch.ones(1, 1, 1, 2), covariance)


def test_sizes_and_ranges_that_cannot_be_are_refused():
    g = task.streams([0], "t")
    with pytest.raises(ValueError, match="n_dims is 0; it must be at least 1"):
        task.gaussian_inputs(g, 1, 1, 0)
    with pytest.raises(ValueError, match="half_width is 0"):
        task.uniform_inputs(g, 1, 1, 1, half_width=0.0)
    with pytest.raises(ValueError, match="noise_std is -1"):
        task.linear_targets(g, torch.ones(1, 1, 1, 2), noise_std=-1.0)
    with pytest.raises(ValueError, match="0 < low <= high"):
        task.rotated_covariances(g, 1, 2, 0.0, 1.0)
    with pytest.raises(ValueError, match="first end must not exceed"):
        task.sines(g, 1, 1, amplitude=(2.0, 1.0))
