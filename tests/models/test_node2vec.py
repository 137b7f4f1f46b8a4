"""Node embeddings that memorise; measures of recovery and geometry on cases that are known."""

import pytest
import torch

from lib.models.node2vec import NodeModel, cosines, distance_correlation, edge_cosine, edge_recovery, fact_loss
from lib.tasks.graphs import adjacency, distances, tiny_graph
from lib.theory.graph_spectrum import entropy_floor
from lib.theory.tied_softmax import cycle_embeddings, tied_loss


def test_a_member_does_not_depend_on_the_seeds_beside_it():
    both = NodeModel(6, 4, [0, 1], start=1.0, bilinear=True)
    alone = NodeModel(6, 4, [1], start=1.0, bilinear=True)
    assert torch.equal(both()[1], alone()[0])


def test_without_a_layer_logits_are_inner_products():
    model = NodeModel(6, 4, [0], start=1.0)
    assert torch.allclose(model(), model.embedding @ model.embedding.mT)
    assert len(list(model.parameters())) == 1


@pytest.mark.parametrize("over", ["facts", "nodes"])
def test_the_loss_is_the_mean_over_facts_or_questions(over):
    matrix = adjacency(tiny_graph("path-star"))
    logits = torch.randn(2, 17, 17)
    facts = matrix.nonzero()
    losses = -logits.log_softmax(-1)[:, facts[:, 0], facts[:, 1]]
    if over == "nodes":
        losses = torch.stack([losses[:, facts[:, 0] == u].mean(1) for u in range(17)], 1)
    assert torch.allclose(fact_loss(logits, matrix, over), losses.mean(1), atol=1e-5)
    assert float(fact_loss(50 * matrix, matrix, over)) == pytest.approx(entropy_floor(matrix, over), abs=1e-5)


def test_the_loss_over_nodes_is_that_of_the_theory():
    matrix, V = adjacency(tiny_graph("grid")), torch.randn(3, 16, 4)
    assert torch.allclose(fact_loss(V @ V.mT, matrix, "nodes"), tied_loss(V, matrix), atol=1e-5)


def test_recovery_is_one_for_the_graph_itself_and_leaves_the_node_out():
    matrix = adjacency(tiny_graph("irregular"))
    assert float(edge_recovery(matrix + 10 * torch.eye(16), matrix)) == 1
    assert float(edge_recovery(-matrix, matrix)) == 0
    with_own = adjacency(tiny_graph("irregular"), self_edges=True)
    assert float(edge_recovery(with_own, with_own, own=True)) == 1


def test_a_circle_has_the_geometry_of_a_cycle():
    matrix, far = adjacency(tiny_graph("cycle")), distances(tiny_graph("cycle"))
    V = cycle_embeddings(15).float()
    assert float(edge_cosine(V, matrix)) == pytest.approx(float(torch.cos(torch.tensor(2 * torch.pi / 15))), abs=1e-6)
    assert float(distance_correlation(V, far)) > 0.97
    noise = torch.randn(50, 15, 100)
    assert abs(float(distance_correlation(noise, far).mean())) < 0.05
    assert torch.allclose(cosines(noise).diagonal(dim1=-2, dim2=-1), torch.ones(50, 15))


def test_pairs_that_no_path_joins_do_not_count():
    graph = tiny_graph("irregular")
    V = torch.randn(16, 8)
    far = distances(graph)
    pairs = [(u, v) for u in range(16) for v in range(16) if u != v and (u < 12) == (v < 12)]
    table = torch.tensor([[float(cosines(V)[u, v]), -float(far[u, v])] for u, v in pairs])
    assert float(distance_correlation(V, far)) == pytest.approx(float(torch.corrcoef(table.mT)[0, 1]), abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NodeModel(0, 4, [0], 1.0), "n_nodes is 0; it must be at least 1"),
        (lambda: NodeModel(4, 0, [0], 1.0), "width is 0; it must be at least 1"),
        (lambda: NodeModel(4, 4, [0], 0.0), "start is 0.0; it must be positive"),
        (lambda: fact_loss(torch.ones(2, 2), torch.ones(2, 2), "edges"), "over is 'edges'"),
        (lambda: fact_loss(torch.ones(2, 2), torch.eye(2).cumsum(1) - torch.eye(2), "nodes"), "node 1 has no answer"),
        (lambda: distance_correlation(torch.ones(3, 2), 1 - torch.eye(3)), "distances are the same for all pairs"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
