"""AdaGrad over structured preconditioners: by its definition as a minimum, and against torch."""

import pytest
import torch
from torch.nn import Parameter

from lib.optimizers.structured_adagrad import STRUCTURES, StructuredAdaGrad
from lib.theory.structured_preconditioners import projected

every_structure = pytest.mark.parametrize("structure", STRUCTURES)
M, N = 3, 4


def gradients(n_steps, seed=0):
    return torch.randn(n_steps, M, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(structure, grads, lr=0.1, eps=1e-10):
    """Returns the parameter before and after the last step, and the optimizer's state."""
    W = Parameter(torch.zeros(M, N, dtype=torch.float64))
    optimizer = StructuredAdaGrad([W], lr, structure, eps=eps)
    for g in grads:
        before = W.detach().clone()
        W.grad = g.clone()
        optimizer.step()
    return before, W.detach(), optimizer.state[W]


def second_moment(grads):
    vectors = grads.flatten(1)
    return vectors.mT @ vectors


@every_structure
def test_the_preconditioner_minimises_its_definition_within_the_structure(structure):
    grads = gradients(30)
    raw = second_moment(grads).reshape(M, N, M, N)
    V = projected(raw, structure).reshape(M * N, M * N)
    eigenvalues, Q = torch.linalg.eigh(V)
    V = (Q * eigenvalues.clamp_min(0).sqrt()) @ Q.mT

    def objective(V):
        return float((second_moment(grads) * torch.linalg.inv(V)).sum() + V.trace())

    before, after, state = run(structure, grads)
    step = (torch.linalg.inv(V) @ grads[-1].flatten()).reshape(M, N)
    torch.testing.assert_close(before - after, 0.1 * step, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(state["trace"], V.trace(), rtol=1e-6, atol=0)
    least = objective(V)
    for seed in range(20):  # every other matrix of the structure costs more
        noise = torch.randn(M, N, M, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        change = projected(noise + noise.permute(2, 3, 0, 1), structure).reshape(M * N, M * N)
        change = change * (0.1 * eigenvalues.clamp_min(0).sqrt().min() / torch.linalg.matrix_norm(change, 2))
        assert objective(V + change) > least
        assert objective(V - change) > least


def test_the_diagonal_is_torch_s_adagrad():
    W = Parameter(torch.zeros(M, N, dtype=torch.float64))
    adagrad = torch.optim.Adagrad([W], lr=0.1, eps=0.0, initial_accumulator_value=1e-10)
    for g in gradients(20):
        W.grad = g.clone()
        adagrad.step()
    torch.testing.assert_close(run("diagonal", gradients(20))[1], W.detach(), rtol=1e-9, atol=1e-12)


def test_the_first_step_of_one_sided_shampoo_is_spectral():
    (G,) = gradients(1)
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    _, after, _ = run("one-sided", G[None], lr=0.5, eps=1e-14)
    torch.testing.assert_close(after, -0.5 * N**0.5 * U @ Vh, rtol=1e-6, atol=1e-6)


def test_structures_that_are_the_same_set_give_the_same_run():
    """A ⊗ I with one column is every matrix; the norm is the diagonal where there is one entry."""
    column = torch.randn(10, 5, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for pair, grads in ((("one-sided", "full"), column), (("norm", "diagonal"), column[:, :1])):
        ends = []
        for structure in pair:
            W = Parameter(torch.zeros(grads.shape[1:], dtype=torch.float64))
            optimizer = StructuredAdaGrad([W], 0.1, structure)
            for g in grads:
                W.grad = g.clone()
                optimizer.step()
            ends.append(W.detach())
        torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-9)


def test_what_is_not_known_or_not_positive_is_refused():
    W = Parameter(torch.zeros(M, N))
    with pytest.raises(ValueError, match="structure is 'kronecker'; it must be one of norm, diagonal, one-sided, full"):
        StructuredAdaGrad([W], 0.1, "kronecker")
    with pytest.raises(ValueError, match=r"eps must be in \(0, inf\), got 0"):
        StructuredAdaGrad([W], 0.1, "full", eps=0.0)


@pytest.mark.parametrize("structure", ["norm", "one-sided", "full"])
def test_all_but_the_diagonal_turn_with_the_problem(structure):
    Q = torch.linalg.qr(torch.randn(M, M, generator=torch.Generator().manual_seed(5), dtype=torch.float64))[0]
    grads = gradients(10)
    torch.testing.assert_close(run(structure, Q @ grads)[1], Q @ run(structure, grads)[1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(run("diagonal", Q @ grads)[1], Q @ run("diagonal", grads)[1], atol=1e-2)
