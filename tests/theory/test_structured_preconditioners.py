"""Norms, constants and bounds of structured preconditioners, against semidefinite programs and real runs."""

import cvxpy
import pytest
import torch
from torch.nn import Parameter

from lib.optimizers import Shampoo
from lib.optimizers.structured_adagrad import STRUCTURES, StructuredAdaGrad
from lib.theory import structured_preconditioners as theory

every_structure = pytest.mark.parametrize("structure", STRUCTURES)
M, N = 3, 2


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def program(structure):
    """A matrix of the structure on R^{mn} as a cvxpy variable, and its constraints."""
    if structure == "norm":
        c = cvxpy.Variable(nonneg=True)
        return c * torch.eye(M * N).numpy(), []
    if structure == "diagonal":
        d = cvxpy.Variable(M * N, nonneg=True)
        return cvxpy.diag(d), []
    if structure == "one-sided":
        A = cvxpy.Variable((M, M), PSD=True)
        return cvxpy.kron(A, torch.eye(N).numpy()), []
    return cvxpy.Variable((M * N, M * N), PSD=True), []


@every_structure
def test_the_domain_norm_is_the_supremum_over_the_structure(structure):
    X = randn(M, N)
    H, constraints = program(structure)
    x = X.flatten().numpy()
    best = cvxpy.Problem(cvxpy.Maximize(x @ H @ x), [*constraints, cvxpy.trace(H) <= 1]).solve(solver=cvxpy.CLARABEL)
    assert float(theory.domain_norm(X, structure)) == pytest.approx(best**0.5, rel=1e-4)


@every_structure
def test_smoothness_is_the_least_trace_above_the_hessian(structure):
    root = randn(M, M, seed=3)
    H = root @ root.mT
    hessian = 2 * torch.kron(H, torch.eye(N, dtype=torch.float64)).numpy()
    V, constraints = program(structure)
    best = cvxpy.Problem(cvxpy.Minimize(cvxpy.trace(V)), [*constraints, V - hessian >> 0]).solve(solver=cvxpy.CLARABEL)
    assert theory.smoothness(H, N, structure) == pytest.approx(best, rel=1e-4)


@every_structure
def test_the_projection_is_idempotent_and_orthogonal(structure):
    noise = randn(M, N, M, N)
    symmetric = noise + noise.permute(2, 3, 0, 1)
    once = theory.projected(symmetric, structure)
    torch.testing.assert_close(theory.projected(once, structure), once)
    other = theory.projected(randn(M, N, M, N, seed=1) + randn(M, N, M, N, seed=1).permute(2, 3, 0, 1), structure)
    assert float(((symmetric - once) * other).sum()) == pytest.approx(0, abs=1e-9)


def online_run(make, lr, n_steps=60):
    """Linear losses <G_t, W> that follow no law; returns regret to a fixed W*, iterates and the optimizer's state."""
    target, W = randn(M, N, seed=9), Parameter(torch.zeros(M, N, dtype=torch.float64))
    optimizer = make([W], lr)
    regret, iterates = 0.0, [W.detach().clone()]
    for t in range(n_steps):
        G = randn(M, N, seed=100 + t) + 0.5 * (W.detach() - target)
        regret += float((G * (W.detach() - target)).sum())
        W.grad = G
        optimizer.step()
        iterates.append(W.detach().clone())
    return regret, torch.stack(iterates) - target, optimizer.state[W]


@every_structure
@pytest.mark.parametrize("lr", [0.1, 1.0])
def test_no_run_exceeds_the_regret_bound(structure, lr):
    regret, distances, state = online_run(lambda params, lr: StructuredAdaGrad(params, lr, structure), lr)
    domain = theory.domain_norm(distances[:-1], structure).max()
    bound = float(theory.regret_bound(domain, torch.tensor(lr), state["trace"]))
    assert 0 < regret <= bound


def test_no_run_of_shampoo_exceeds_gupta_s_bound():
    regret, distances, state = online_run(lambda params, lr: Shampoo(params, lr, eps=1e-10), 0.5)
    frobenius = distances[:-1].square().sum((-2, -1)).sqrt().max()
    bound = float(theory.two_sided_bound(frobenius, torch.tensor(0.5), state["L"], state["R"], rank=N))
    assert 0 < regret <= bound


@every_structure
def test_the_mean_iterate_keeps_the_loss_bound(structure):
    H, target, n_steps = torch.diag(torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)), randn(M, N, seed=4), 50
    W = Parameter(torch.zeros(M, N, dtype=torch.float64))
    lr = float(theory.domain_norm(target, structure)) / 2**0.5
    optimizer = StructuredAdaGrad([W], lr, structure)
    iterates = []
    for _ in range(n_steps):
        iterates.append(W.detach().clone())
        W.grad = 2 * H @ (W.detach() - target)
        optimizer.step()
    far = float(theory.domain_norm(torch.stack(iterates) - target, structure).max())
    mean = torch.stack(iterates).mean(0) - target
    loss = float((H @ mean * mean).sum())
    bound = theory.loss_bound(far**2 / (2 * lr) + lr, theory.smoothness(H, N, structure), n_steps)
    assert 0.001 * bound < loss <= bound


def test_what_makes_no_sense_is_refused():
    eye = torch.eye(2)
    with pytest.raises(ValueError, match="structure is 'kron'; it must be one of"):
        theory.domain_norm(eye, "kron")
    with pytest.raises(ValueError, match="n is 0; it must be at least 1"):
        theory.smoothness(eye, 0, "full")
    with pytest.raises(ValueError, match="H is not symmetric"):
        theory.smoothness(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), 1, "full")
    with pytest.raises(ValueError, match="H has the eigenvalue -1; it must be positive semi-definite"):
        theory.smoothness(-eye, 1, "full")
    with pytest.raises(ValueError, match="n_steps is 0; it must be at least 1"):
        theory.loss_bound(1.0, 1.0, 0)
