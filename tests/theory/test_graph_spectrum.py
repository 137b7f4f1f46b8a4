"""The floor, the modes and the growth rates, against independent computations."""

import networkx as nx
import numpy as np
import pytest
import torch

from lib.tasks.graphs import TINY, adjacency, path_nodes, path_star, tiny_graph
from lib.theory.graph_spectrum import (
    entropy_floor,
    grown,
    growth_rates,
    mode_energies,
    modes,
    path_star_waves,
    transitions,
)


@pytest.mark.parametrize("name", TINY)
def test_no_logits_tried_beat_the_floor_and_the_right_ones_reach_it(name):
    matrix = adjacency(tiny_graph(name)).double()
    facts = matrix.nonzero()

    def loss(logits):
        return float(-logits.log_softmax(-1)[facts[:, 0], facts[:, 1]].mean())

    floor = entropy_floor(matrix)
    assert loss(1e3 * matrix) == pytest.approx(floor, abs=1e-9)
    for scale in (0.5, 2.0, 8.0):
        logits = scale * (matrix + 0.3 * torch.randn(20, *matrix.shape, dtype=torch.float64))
        assert min(map(loss, logits)) > floor


def test_floors_of_known_graphs():
    assert entropy_floor(adjacency(tiny_graph("cycle"))) == pytest.approx(np.log(2))
    # Path-star of degree 4 and length 5: of 32 facts 4 are about the root, 24 about nodes with two neighbours; ln 2 in all.
    assert entropy_floor(adjacency(tiny_graph("path-star"))) == pytest.approx(np.log(2))
    assert entropy_floor(adjacency(tiny_graph("path-star")), over="nodes") == pytest.approx(14 / 17 * np.log(2))
    forward = adjacency(tiny_graph("path-star")).triu()
    assert entropy_floor(forward) == pytest.approx(4 / 16 * np.log(4))


def test_modes_are_those_of_the_normalised_laplacian_on_a_regular_graph():
    graph = nx.circulant_graph(11, [1, 3])
    values, vectors = modes(adjacency(graph))
    laplacian = nx.normalized_laplacian_matrix(graph).toarray()
    assert np.allclose(np.sort(1 - values.numpy()), np.sort(np.linalg.eigvalsh(laplacian)))
    assert torch.allclose(vectors[:, 0].abs(), torch.full((11,), 11**-0.5, dtype=torch.float64))
    assert torch.allclose(growth_rates(adjacency(graph))[0][:4], 2 * values[1:5])


def test_shares_of_energy_sum_to_one_and_find_the_mode_that_is_there():
    _, basis = modes(adjacency(tiny_graph("grid")))
    embeddings = basis[:, [2]] @ torch.ones(1, 3, dtype=torch.float64) + 5 * basis[:, [0]] @ torch.ones(1, 3).double()
    shares = mode_energies(embeddings.expand(2, 16, 3), basis)
    assert torch.allclose(shares.sum(-1), torch.ones(2).double())
    assert torch.allclose(shares[:, 1], torch.ones(2).double())


@pytest.mark.parametrize(("degree", "length"), [(3, 2), (4, 5), (6, 4)])
def test_waves_times_contrasts_are_modes_of_the_path_star(degree, length):
    T = transitions(adjacency(path_star(degree, length))).double()
    values, waves = path_star_waves(length)
    contrast = torch.randn(degree, dtype=torch.float64)
    contrast -= contrast.mean()
    for value, wave in zip(values, waves, strict=True):
        mode = torch.zeros(len(T), dtype=torch.float64)
        mode[path_nodes(degree, length)] = contrast[:, None] * wave
        assert torch.allclose(T @ mode, value * mode, atol=1e-12)
    # Each of them d - 1 times: with the constant mode and its kin they are all there are.
    spectrum = torch.linalg.eigvals(T).real
    for value in values:
        assert int(((spectrum - value).abs() < 1e-6).sum()) >= degree - 1


@pytest.mark.parametrize("name", TINY)
def test_small_starts_grow_as_the_linear_flow_says(name):
    matrix = adjacency(tiny_graph(name)).double()
    start = 1e-4 * torch.randn(16 if name in ("grid", "irregular") else len(matrix), 6, dtype=torch.float64)
    V, lr, steps = start.clone().requires_grad_(), 1e-3, 1000
    for _ in range(steps):  # autograd on the loss itself
        loss = -(transitions(matrix) * (V @ V.mT).log_softmax(-1)).sum()
        (gradient,) = torch.autograd.grad(loss, V)
        V = (V - lr * gradient).detach().requires_grad_()
    predicted = grown(start, matrix, time=lr * steps)
    assert torch.allclose(V.detach(), predicted, atol=3e-3 * float(predicted.abs().max()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transitions(torch.zeros(2, 2)), "node 0 has no edge"),
        (lambda: entropy_floor(torch.zeros(2, 2)), "matrix has no edge"),
        (lambda: entropy_floor(torch.ones(2, 2), over="edges"), "over is 'edges'; it must be 'facts' or 'nodes'"),
        (lambda: path_star_waves(1), "length is 1; it must be at least 2"),
        (lambda: mode_energies(torch.ones(3, 2), torch.eye(3), drop=3), "drop is 3; it must lie in 0…2"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
