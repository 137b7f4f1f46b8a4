"""Linear attention with the constructed weights leaves what the theory says, layer by layer."""

import numpy as np
import pytest
import torch

from lib.models import solver_weights
from lib.models.linear_attention import linear_attention
from lib.tasks import in_context_regression as task
from lib.theory import iterative_solvers as solvers

EIGENVALUES = torch.tensor([1.0, 3.0, 10.0])


def prompts():
    """Three prompts with sample covariance of the same spectrum; the query of each is another eigenvector."""
    g = torch.Generator().manual_seed(0)
    basis, rotation = (torch.linalg.qr(torch.randn(n, 3, generator=g))[0] for n in (8, 3))
    context = 8**0.5 * basis * EIGENVALUES.sqrt() @ rotation.T
    xs = torch.cat([context.expand(3, -1, -1), rotation.T[:, None]], dim=1)[None]
    return xs, task.linear_targets(task.streams([0], "ws"), xs)[0]


def share_left(tokens, blocks, ys):
    for W_KQ, W_PV in blocks:
        tokens = tokens + linear_attention(tokens, tokens[..., :-1, :], W_KQ, W_PV)
    return (1 + tokens[0, :, -1, 3] / ys[0, :, -1]).double().numpy(), tokens


@pytest.mark.parametrize("n_layers", [1, 2, 5])
def test_whitening_layers_leave_what_the_theory_says(n_layers):
    xs, ys = prompts()
    left, _ = share_left(task.merged_tokens(xs, ys), solver_weights.whitening_blocks(3, n_layers, 10.0, 8), ys)
    expected = solvers.whitening_residual(EIGENVALUES.double().numpy(), 10.0, n_layers)
    np.testing.assert_allclose(left, expected, atol=1e-4)


@pytest.mark.parametrize("n_loops", [1, 2, 5])
def test_a_loop_with_constant_tokens_does_the_same_and_whitens(n_loops):
    xs, ys = prompts()
    tokens = solver_weights.with_constant_tokens(task.merged_tokens(xs, ys))
    left, after = share_left(tokens, [solver_weights.looped_whitening_block(3, 10.0, 8)] * n_loops, ys)
    eigenvalues = EIGENVALUES.double().numpy()
    np.testing.assert_allclose(left, solvers.whitening_residual(eigenvalues, 10.0, n_loops), atol=1e-4)
    inputs = after[0, 0, 3:-1, :3].double().numpy()
    spectrum = 10 * solvers.whitening_spectra(eigenvalues, 10.0, n_loops)[-1]
    np.testing.assert_allclose(np.linalg.eigvalsh(inputs.T @ inputs / 8), spectrum, rtol=1e-4)
    assert torch.equal(after[0, 0, :3], tokens[0, 0, :3]), "constant tokens do not move"


def test_restricted_layers_with_chebyshev_s_steps_leave_chebyshev_s_polynomial():
    xs, ys = prompts()
    steps = torch.tensor(solvers.chebyshev_steps(1.0, 10.0, 4), dtype=torch.float32)
    blocks = [solver_weights.restricted_blocks(a * torch.eye(3), 8) for a in steps]
    left, _ = share_left(task.merged_tokens(xs, ys), blocks, ys)
    expected = solvers.chebyshev_residual(EIGENVALUES.double().numpy(), 1.0, 10.0, 4)
    np.testing.assert_allclose(left, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: solver_weights.restricted_blocks(torch.eye(2), 0), "n_context is 0; it must be at least 1"),
        (
            lambda: solver_weights.whitening_blocks(3, 2, -1.0, 5),
            "3, 2, 5 and -1.0; the first three must be at least 1",
        ),
        (lambda: solver_weights.whitening_blocks(3, 0, 1.0, 5), "3, 0, 5 and 1.0"),
        (lambda: solver_weights.looped_whitening_block(0, 1.0, 5), "0, 1, 5 and 1.0"),
    ],
)
def test_bad_input_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
