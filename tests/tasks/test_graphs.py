"""Graphs with the paper's sizes; path-stars whose split hides no edge; and what is refused."""

from itertools import pairwise

import networkx as nx
import pytest
import torch

from lib.tasks.graphs import (
    TINY,
    adjacency,
    directed_edges,
    distances,
    path_nodes,
    path_star,
    path_stars,
    tiny_graph,
)

SIZES = {"path-star": (17, 16), "grid": (16, 24), "cycle": (15, 15), "irregular": (16, 20)}


@pytest.mark.parametrize("name", TINY)
def test_the_tiny_graphs_have_the_sizes_of_the_paper(name):
    graph = tiny_graph(name)
    assert (graph.number_of_nodes(), graph.number_of_edges()) == SIZES[name]
    matrix = adjacency(graph)
    assert torch.equal(matrix, matrix.mT)
    assert len(directed_edges(matrix)) == 2 * SIZES[name][1]
    assert int(adjacency(graph, self_edges=True).trace()) == SIZES[name][0]


def test_the_irregular_graph_is_a_loop_with_short_cuts_and_a_clique_beside_it():
    parts = sorted(nx.connected_components(tiny_graph("irregular")), key=len)
    assert [len(part) for part in parts] == [4, 12]
    assert nx.density(tiny_graph("irregular").subgraph(parts[0])) == 1


def test_distances_equal_a_breadth_first_search():
    graph = tiny_graph("irregular")
    ours = distances(graph)
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    for u in graph:
        for v in graph:
            assert ours[u, v] == lengths[u].get(v, float("inf"))


def test_a_path_star_is_a_tree_of_paths_from_its_root():
    graph = path_star(3, 4)
    assert nx.is_tree(graph)
    assert sorted(degree for _, degree in graph.degree) == [1] * 3 + [2] * 6 + [3]
    assert distances(graph)[0, path_nodes(3, 4)].tolist() == [[0, 1, 2, 3]] * 3


def test_all_edges_of_held_out_paths_are_facts_and_no_question_is_in_both_sets():
    star = path_stars([3, 4], degree=8, length=5)
    assert star.n_nodes == 33
    assert star.edges.shape == (2, 64, 2)
    assert (star.train.shape[1], star.test.shape[1]) == (6, 2)
    for seed in range(2):
        facts = set(map(tuple, star.edges[seed].tolist()))
        assert len(facts) == 64
        for path in torch.cat([star.train[seed], star.test[seed]]).tolist():
            for u, v in pairwise(path):
                assert {(u, v), (v, u)} <= facts
        leaves = [set(paths[seed, :, -1].tolist()) for paths in (star.train, star.test)]
        assert not leaves[0] & leaves[1]
        assert star.train[seed, :, 0].unique().tolist() == star.test[seed, :, 0].unique().tolist()


def test_names_of_nodes_are_a_permutation_that_depends_on_the_seed_alone():
    both, alone = path_stars([0, 1], 5, 4), path_stars([1], 5, 4)
    assert torch.equal(both.edges[1], alone.edges[0])
    assert not torch.equal(both.edges[0], both.edges[1])
    assert sorted(both.edges[0].unique().tolist()) == list(range(16))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: path_star(0, 5), "degree is 0; it must be at least 1"),
        (lambda: path_star(4, 1), "length is 1; it must be at least 2"),
        (lambda: tiny_graph("torus"), "name is 'torus'; it must be one of path-star, grid"),
        (lambda: adjacency(nx.Graph([("a", "b")])), r"the nodes of graph must be numbered 0…1"),
        (lambda: adjacency(nx.empty_graph(2)), "node 0 of graph has no edge"),
        (lambda: path_stars([0], 4, 5, train_share=1.0), "train_share is 1.0: 4 of 4 paths; training and testing need"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
