"""The optimum of Node2Vec: certificate, gradient, convex solver, and the cycle in closed form."""

import cvxpy as cp
import networkx as nx
import numpy as np
import pytest
import torch

from lib.tasks.graphs import adjacency, tiny_graph
from lib.theory.graph_spectrum import transitions
from lib.theory.tied_softmax import (
    coefficients,
    cycle_embeddings,
    cycle_moments,
    cycle_optimum,
    effective_rank,
    optimality,
    tied_loss,
)


def test_the_coefficients_are_the_negative_gradient():
    matrix = adjacency(tiny_graph("grid")).double()
    V = torch.randn(3, 16, 5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(16 * tied_loss(V, matrix).sum(), V)
    assert torch.allclose(-gradient, coefficients(V, matrix) @ V, atol=1e-12)


@pytest.mark.parametrize("n_nodes", [5, 9, 15, 40])
def test_the_circle_is_the_certified_optimum_of_the_cycle(n_nodes):
    matrix = adjacency(nx.cycle_graph(n_nodes)).double()
    V = cycle_embeddings(n_nodes)
    _, loss, eigenvalues = cycle_optimum(n_nodes)
    largest, residual = optimality(V, matrix)
    assert float(largest) < 1e-9
    assert float(residual) < 1e-9
    assert float(tied_loss(V, matrix)) == pytest.approx(loss, abs=1e-10)
    found = torch.linalg.eigvalsh(coefficients(V, matrix))
    assert torch.allclose(found, eigenvalues.sort().values, atol=1e-9)
    assert int((eigenvalues < -1e-6).sum()) == n_nodes - 3
    assert float(effective_rank(V)) == pytest.approx(2)


def test_a_convex_solver_finds_the_same_optimum_of_rank_two():
    n = 7
    T = transitions(adjacency(nx.cycle_graph(n))).double().numpy()
    G = cp.Variable((n, n), PSD=True)
    rows = [cp.log_sum_exp(G[u]) - T[u] @ G[u] for u in range(n)]
    problem = cp.Problem(cp.Minimize(sum(rows) / n), [G @ np.ones(n) == 0])
    problem.solve(solver=cp.SCS, eps=1e-7)
    assert problem.value == pytest.approx(cycle_optimum(n)[1], abs=1e-6)
    centring = np.eye(n) - 1 / n
    values = np.linalg.eigvalsh(centring @ G.value @ centring)
    kappa = cycle_optimum(n)[0]
    assert np.allclose(values[-2:], kappa * n / 2, rtol=2e-3)
    assert abs(values[:-2]).max() < 2e-3


def test_no_step_from_the_optimum_goes_down():
    matrix, V = adjacency(tiny_graph("cycle")).double(), cycle_embeddings(15)
    wide = torch.cat([V, torch.zeros(15, 8, dtype=torch.float64)], 1)
    best = float(tied_loss(wide, matrix))
    for size in (1e-3, 1e-2, 0.1, 1.0):
        others = wide + size * torch.randn(200, 15, 10, dtype=torch.float64)
        assert float(tied_loss(others, matrix).min()) >= best - 1e-12


def test_the_moments_are_those_of_von_mises_when_points_are_many():
    from scipy.special import ive

    kappa = 3.7
    assert np.allclose(cycle_moments(kappa, 400)[:6].numpy(), [ive(k, kappa) / ive(0, kappa) for k in range(6)])


def test_the_effective_rank_does_not_see_what_all_nodes_share():
    V = torch.randn(12, 5, dtype=torch.float64)
    assert torch.allclose(effective_rank(V), effective_rank(V + torch.randn(5, dtype=torch.float64)))


def test_a_short_cycle_is_refused():
    with pytest.raises(ValueError, match="n_nodes is 4; it must be at least 5"):
        cycle_optimum(4)
