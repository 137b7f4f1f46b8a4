import pytest
import torch
from torch.autograd.functional import hessian

from lib.models import multi_head_attention as model
from lib.theory import attention_curvature as theory

SEEDS = [0, 1]
N_TOKENS, N_DIMS = 3, 4


def problem(n_heads: int, std: float):
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(2, 6, N_TOKENS, N_DIMS, generator=generator, dtype=torch.float64)
    labels = torch.randn(2, 6, generator=generator, dtype=torch.float64).sign()
    return tokens, labels, *model.initialise(n_heads, N_TOKENS, N_DIMS, SEEDS, std, std)


def dense_hessian(tokens, labels, W, U, scale=None):
    """Hessian of each member's loss by automatic differentiation of the plain loss, (member, p, p)."""

    def loss(W_1, U_1, member):
        outputs = model.outputs(tokens[member : member + 1], W_1[None], U_1[None], scale)[0]
        return torch.nn.functional.softplus(-labels[member] * outputs).mean()

    def blocks(member):
        found = hessian(lambda W_1, U_1: loss(W_1, U_1, member), (W[member], U[member]))
        sizes = W[member].numel(), U[member].numel()
        rows = [[found[i][j].reshape(sizes[i], sizes[j]) for j in range(2)] for i in range(2)]
        return torch.cat([torch.cat(row, dim=1) for row in rows])

    return torch.stack([blocks(member) for member in range(len(tokens))])


@pytest.mark.parametrize("scale", [None, 1.0])
@pytest.mark.parametrize("std", [0.0, 0.8])
def test_lanczos_finds_the_ends_of_the_dense_hessian(std, scale):
    tokens, labels, W, U = problem(3, std)
    values = torch.linalg.eigvalsh(dense_hessian(tokens, labels, W, U, scale))
    start = torch.randn(2, values.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lowest, highest = theory.loss_curvature(tokens, labels, W, U, start, values.shape[1], scale)
    torch.testing.assert_close(lowest, values[:, 0])
    torch.testing.assert_close(highest, values[:, -1])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_heads", [2, 5])
def test_at_the_zero_start_the_lowest_eigenvalue_is_minus_the_coupling(n_heads, power):
    tokens, labels, W, U = problem(n_heads, 0.0)
    values = torch.linalg.eigvalsh(dense_hessian(tokens, labels, W, U, n_heads**-power))
    coupling, _ = theory.start_curvature(tokens, labels)
    torch.testing.assert_close(values[:, 0], -(n_heads**-power) * coupling)


def test_at_the_zero_start_the_highest_eigenvalue_tends_to_the_formula():
    for n_heads in (64, 512):
        tokens, labels, W, U = problem(n_heads, 0.0)
        start = torch.randn(2, W[0].numel() + U[0].numel(), generator=torch.Generator().manual_seed(0), dtype=W.dtype)
        _, highest = theory.loss_curvature(tokens, labels, W, U, start, 30)
        coupling, limit = theory.start_curvature(tokens, labels)
        # A block matrix (0, εC; εCᵀ, G) has its top eigenvalue between that of G, g, and g + ε²‖C‖²/g.
        assert (highest >= limit * (1 - 1e-6)).all()
        assert (highest <= limit + coupling**2 / (n_heads * limit)).all()


@pytest.mark.parametrize("std", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("n_heads", [1, 4])
def test_the_loss_is_self_bounded_weakly_convex_with_the_constant(n_heads, std):
    tokens, labels, W, U = problem(n_heads, std)
    values = torch.linalg.eigvalsh(dense_hessian(tokens, labels, W, U))
    loss, _ = model.loss_gradient(tokens, labels, W, U)
    kappa = theory.weak_convexity_constant(tokens, U)
    assert (values[:, 0] >= -kappa * n_heads**-0.5 * loss).all()
