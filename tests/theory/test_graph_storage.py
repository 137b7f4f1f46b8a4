"""Costs of look-up and geometry, counted and measured."""

from itertools import permutations

import networkx as nx
import numpy as np
import pytest
import torch

from lib.tasks.graphs import TINY, adjacency, path_star, tiny_graph
from lib.theory.graph_spectrum import entropy_floor
from lib.theory.graph_storage import cycle_norms, graph_bits, lookup_direction, lookup_loss, margin, norm_per_margin
from lib.theory.tied_softmax import cycle_embeddings


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
def test_the_look_up_table_has_the_stated_loss(name, beta):
    matrix = adjacency(tiny_graph(name)).double()
    n = len(matrix)
    E, _ = torch.linalg.qr(torch.randn(n + 4, n + 4, dtype=torch.float64))
    E = E[:n]
    W = beta * sum(torch.outer(E[u], E[v]) for u, v in matrix.nonzero().tolist())
    logits = E @ W @ E.mT
    facts = matrix.nonzero()
    loss = float(-logits.log_softmax(-1)[facts[:, 0], facts[:, 1]].mean())
    assert lookup_loss(matrix, beta) == pytest.approx(loss, abs=1e-10)


def test_a_strong_table_reaches_the_floor():
    matrix = adjacency(tiny_graph("irregular"))
    assert lookup_loss(matrix, 40.0) == pytest.approx(entropy_floor(matrix), abs=1e-12)


def test_the_first_step_of_gradient_descent_writes_the_table():
    matrix = adjacency(tiny_graph("path-star")).double()
    E = torch.randn(2, 17, 9, dtype=torch.float64)
    W = torch.zeros(2, 9, 9, dtype=torch.float64, requires_grad=True)
    facts = matrix.nonzero()
    loss = -(E @ W @ E.mT).log_softmax(-1)[:, facts[:, 0], facts[:, 1]].mean(-1).sum()
    (gradient,) = torch.autograd.grad(loss, W)
    assert torch.allclose(lookup_direction(E, matrix), -gradient, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "sizes", "graph"),
    [
        ("cycle", (6,), nx.cycle_graph(6)),
        ("path-star", (3, 3), path_star(3, 3)),
        ("path-star", (5, 2), path_star(5, 2)),
    ],
)
def test_the_least_bits_count_the_graphs_that_names_can_make(kind, sizes, graph):
    edges = list(graph.edges)
    graphs = {frozenset(frozenset((p[u], p[v])) for u, v in edges) for p in permutations(range(len(graph)))}
    bits = graph_bits(kind, *sizes)
    assert bits["least"] == pytest.approx(np.log2(len(graphs)))
    assert bits["least"] <= bits["table"]


def test_all_three_ways_grow_alike():
    for degree in (10, 10_000):
        bits = graph_bits("path-star", degree, 5)
        assert bits["geometry"] / bits["table"] == pytest.approx(1, abs=0.1)
    assert graph_bits("cycle", 100)["geometry"] == graph_bits("cycle", 100)["table"]


@pytest.mark.parametrize("n_nodes", [5, 7, 8, 15, 40])
def test_norms_on_the_cycle_are_those_of_the_matrices(n_nodes):
    matrix = adjacency(nx.cycle_graph(n_nodes)).double()
    V = cycle_embeddings(n_nodes)
    table, circle = cycle_norms(n_nodes)
    assert float(norm_per_margin(matrix, matrix)) == pytest.approx(table)
    assert float(norm_per_margin(V @ V.mT, matrix)) == pytest.approx(circle)
    assert (circle > table) == (n_nodes >= 8)


def test_norms_on_long_cycles_are_as_stated():
    table, circle = cycle_norms(1000)
    assert table == pytest.approx(4 * 1000 / np.pi, rel=1e-3)
    assert circle == pytest.approx(1000**3 / (6 * np.pi**2), rel=1e-3)


def test_logits_without_margin_cost_without_end():
    matrix = adjacency(tiny_graph("cycle")).double()
    assert float(norm_per_margin(torch.eye(15, dtype=torch.float64), matrix)) == float("inf")
    assert float(margin(-matrix, matrix)) == -1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lookup_loss(torch.ones(2, 2), -1.0), "beta is -1.0; it must be at least 0"),
        (lambda: graph_bits("cycle", 2), r"kind and sizes are 'cycle' and \(2,\)"),
        (lambda: graph_bits("torus", 5), "kind and sizes are 'torus'"),
        (lambda: cycle_norms(4), "n_nodes is 4; it must be at least 5"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
