r"""Graphs to memorise edge by edge: four tiny ones, and path-stars whose paths are asked for without showing the graph.

Source: Noroozizadeh, Nagarajan, Rosenfeld and Kumar 2025, arXiv 2510.26745 (Deep sequence models tend to memorize
geometrically; it is unclear why), Sections 2 and 4. The irregular graph is the one of the authors' notebooks.

| paper               | code               | meaning                                                            |
|---------------------|--------------------|--------------------------------------------------------------------|
| path-star G(d, l)   | `path_star`        | d paths of l nodes that share their first node, the root           |
| edge memorisation   | `directed_edges`   | one fact (u, v) per edge and direction: "v is next to u"           |
| path (leaf -> path) | `PathStar.paths`   | question: the leaf; answer: the path from the root to it           |
| hardest token       | `paths[..., 1]`    | the first node after the root: l - 1 steps away from the leaf      |

Numbers of nodes carry no information: in `PathStar` every seed names the nodes by a permutation of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.seeds import generator_for

# The authors' irregular graph, 16 nodes and 20 edges: a loop of 12 with two short cuts, and a clique of 4 beside it.
# fmt: off
IRREGULAR = [(12, 15), (5, 8), (5, 6), (8, 9), (7, 8), (1, 3), (13, 14), (13, 15), (12, 14), (12, 13), (1, 2), (4, 5),
             (3, 4), (10, 11), (0, 1), (2, 3), (6, 7), (11, 0), (9, 10), (14, 15)]
# fmt: on
TINY = ("path-star", "grid", "cycle", "irregular")


def path_star(degree: int, length: int) -> nx.Graph:
    """`degree` paths of `length` nodes from a common root, node 0; the nodes of a path have successive numbers.

    Raises:
        ValueError: A degree below 1 or a length below 2.

    >>> sorted(path_star(degree=2, length=3).edges)
    [(0, 1), (0, 3), (1, 2), (3, 4)]
    """
    graph = nx.Graph()
    for path in path_nodes(degree, length).tolist():
        nx.add_path(graph, path)
    return graph


def path_nodes(degree: int, length: int) -> Int[Tensor, "degree length"]:
    """The paths of `path_star`, root first.

    Raises:
        ValueError: As `path_star`.
    """
    if degree < 1:
        raise ValueError(f"degree is {degree}; it must be at least 1")
    if length < 2:
        raise ValueError(f"length is {length}; it must be at least 2, the root and a leaf")
    branches = 1 + torch.arange(degree * (length - 1)).reshape(degree, length - 1)
    return torch.cat([torch.zeros(degree, 1, dtype=torch.long), branches], 1)


def tiny_graph(name: str) -> nx.Graph:
    """One of the paper's tiny graphs.

    Args:
        name: "path-star" (degree 4, length 5), "grid" (4 by 4), "cycle" (15 nodes) or "irregular" (16 nodes, 20 edges).

    Raises:
        ValueError: Another name.
    """
    if name == "path-star":
        return path_star(4, 5)
    if name == "grid":
        return nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 4), ordering="sorted")
    if name == "cycle":
        return nx.cycle_graph(15)
    if name == "irregular":
        return nx.Graph(IRREGULAR)
    raise ValueError(f"name is {name!r}; it must be one of {', '.join(TINY)}")


def adjacency(graph: nx.Graph, self_edges: bool = False) -> Float[Tensor, "node node"]:
    """Adjacency matrix in float32, nodes in the order of their numbers; with ones on the diagonal if wanted.

    Raises:
        ValueError: Nodes that are not numbered 0…n-1, or a node without any edge.
    """
    n = graph.number_of_nodes()
    if set(graph) != set(range(n)):
        raise ValueError(f"the nodes of graph must be numbered 0…{n - 1}, got {sorted(graph, key=str)[:5]}…")
    matrix = torch.from_numpy(nx.to_numpy_array(graph, nodelist=range(n), dtype=np.float32))
    if self_edges:
        matrix.fill_diagonal_(1.0)
    if not matrix.any(1).all():
        raise ValueError(
            f"node {int(matrix.sum(1).argmin())} of graph has no edge: there is nothing to memorise about it"
        )
    return matrix


def directed_edges(matrix: Float[Tensor, "node node"]) -> Int[Tensor, "edge 2"]:
    """The facts (u, v) of an adjacency matrix, one per edge and direction.

    >>> directed_edges(adjacency(path_star(1, 3))).tolist()
    [[0, 1], [1, 0], [1, 2], [2, 1]]
    """
    return matrix.nonzero()


def distances(graph: nx.Graph) -> Float[Tensor, "node node"]:
    """Steps between nodes; infinite between nodes that no path joins.

    >>> distances(path_star(2, 2)).tolist()
    [[0.0, 1.0, 1.0], [1.0, 0.0, 2.0], [1.0, 2.0, 0.0]]
    """
    n = graph.number_of_nodes()
    return torch.from_numpy(nx.floyd_warshall_numpy(graph, nodelist=range(n))).float()


@dataclass(frozen=True)
class PathStar:
    """A path-star per seed, with its nodes renamed at random, and its paths split for training and testing.

    Attributes:
        edges: The facts (u, v), both directions.
        train: Paths whose questions are asked in training, root first.
        test: The others: all their edges are memorised, none of their questions is ever answered in training.
    """

    edges: Int[Tensor, "seed edge 2"]
    train: Int[Tensor, "seed path length"]
    test: Int[Tensor, "seed held_out length"]

    @property
    def n_nodes(self) -> int:
        degree, length = self.train.shape[1] + self.test.shape[1], self.train.shape[2]
        return 1 + degree * (length - 1)


def path_stars(seeds: Sequence[int], degree: int, length: int, train_share: float = 0.75) -> PathStar:
    """Path-stars with random names of nodes.

    Args:
        seeds: One graph per seed.
        degree: Paths.
        length: Nodes of a path, root and leaf included.
        train_share: Share of the paths whose questions are for training.

    Raises:
        ValueError: As `path_star`; or a share that leaves no path for training or none for testing.
    """
    paths = path_nodes(degree, length)
    n_train = round(train_share * degree)
    if not 0 < n_train < degree:
        raise ValueError(
            f"train_share is {train_share}: {n_train} of {degree} paths; training and testing need at least one each"
        )
    n = 1 + degree * (length - 1)
    names = torch.stack([torch.randperm(n, generator=generator_for(seed, "names of nodes")) for seed in seeds])
    named = names[:, paths]
    forward = torch.stack([named[..., :-1], named[..., 1:]], -1).flatten(1, 2)
    return PathStar(torch.cat([forward, forward.flip(-1)], 1), named[:, :n_train], named[:, n_train:])
