r"""The two smallest models that memorise a graph, stacked over seeds: logits from node embeddings alone.

    Node2Vec:   logit(w | u) = v_u · v_w        one matrix V, full softmax
    bilinear:   logit(w | u) = v_u · W v_w      the paper's "neural network": a linear layer between tied embeddings

With V frozen the second is the associative memory: W is all that learns, and look-up is all that it can do.

Source: Grover and Leskovec 2016, arXiv 1607.00653 (Node2Vec; here with windows of one edge and without negative
sampling); Noroozizadeh et al. 2025, arXiv 2510.26745, Sections 2 and 5.

| paper                              | code                 | start                                    |
|------------------------------------|----------------------|------------------------------------------|
| V                                  | `embedding`          | N(0, start²)                             |
| W, the linear layer                | `W`                  | N(0, 0.02²), GPT-2's                     |
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.models.blocks import INIT_STD
from lib.models.initialisation import stacked_draws


class NodeModel(nn.Module):
    """A stack of node embeddings, with a linear layer between them or without.

    Args:
        n_nodes: Of the graph.
        width: Of the embeddings.
        seeds: One member per seed, each drawn from its own generator.
        start: Standard deviation of the embeddings' start.
        bilinear: Whether there is a W.

    Raises:
        ValueError: A size below 1, or a start that is not positive.

    >>> NodeModel(n_nodes=5, width=3, seeds=[0, 1], start=0.02)().shape
    torch.Size([2, 5, 5])
    """

    def __init__(self, n_nodes: int, width: int, seeds: Sequence[int], start: float, bilinear: bool = False) -> None:
        super().__init__()
        for name, size in dict(n_nodes=n_nodes, width=width).items():
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        if not start > 0:
            raise ValueError(f"start is {start}; it must be positive")
        self.embedding = stacked_draws(
            lambda g: start * torch.randn(n_nodes, width, generator=g), seeds, "node embeddings"
        )
        if bilinear:
            self.W = stacked_draws(lambda g: INIT_STD * torch.randn(width, width, generator=g), seeds, "linear layer")
        self.bilinear = bilinear

    def forward(self) -> Float[Tensor, "seed node node"]:
        """Logits of every node as the answer to every node."""
        left = self.embedding @ self.W if self.bilinear else self.embedding
        return left @ self.embedding.mT


def fact_loss(
    logits: Float[Tensor, "*stack node node"], matrix: Float[Tensor, "node node"], over: str = "facts"
) -> Float[Tensor, "*stack"]:
    """Mean of -log p(v | u) in nats, over all facts (u, v), or over all questions u with the mean over their answers.

    Args:
        logits: Row u: the answers to u.
        matrix: Adjacency; may be directed.
        over: "facts" or "nodes" (as in `lib.theory.graph_spectrum.entropy_floor`).

    Raises:
        ValueError: Another `over`; or "nodes" and a node without an answer.
    """
    if over not in ("facts", "nodes"):
        raise ValueError(f"over is {over!r}; it must be 'facts' or 'nodes'")
    degrees = matrix.sum(1, keepdim=True)
    if over == "nodes" and not bool((degrees > 0).all()):
        raise ValueError(f"matrix: node {int(degrees.argmin())} has no answer; a mean over nodes needs one for each")
    weights = matrix / (matrix.sum() if over == "facts" else len(matrix) * degrees)
    return -(weights.to(logits) * logits.log_softmax(-1)).sum((-1, -2))


def edge_recovery(
    logits: Float[Tensor, "*stack node node"], matrix: Float[Tensor, "node node"], own: bool = False
) -> Float[Tensor, "*stack"]:
    """Share of the facts (u, v) with v among the d_u largest logits of u; u itself is left out unless `own`."""
    matrix = matrix.to(logits)
    if not own:
        logits = logits.masked_fill(torch.eye(len(matrix), dtype=torch.bool, device=logits.device), -torch.inf)
    ranks = logits.argsort(-1, descending=True).argsort(-1)
    found = matrix * (ranks < matrix.sum(-1, keepdim=True))
    return found.sum((-1, -2)) / matrix.sum()


def cosines(embeddings: Float[Tensor, "*stack node width"]) -> Float[Tensor, "*stack node node"]:
    """Cosine similarity of every two nodes."""
    unit = embeddings / embeddings.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    return unit @ unit.mT


def edge_cosine(
    embeddings: Float[Tensor, "*stack node width"], matrix: Float[Tensor, "node node"]
) -> Float[Tensor, "*stack"]:
    """The paper's level of geometry: mean cosine of the two ends of a fact."""
    return (cosines(embeddings) * matrix).sum((-1, -2)) / matrix.sum()


def distance_correlation(
    embeddings: Float[Tensor, "*stack node width"], distances: Float[Tensor, "node node"]
) -> Float[Tensor, "*stack"]:
    """Correlation of cosine and minus the distance in the graph, over pairs of different nodes that a path joins.

    Raises:
        ValueError: All pairs are equally far: there is nothing to correlate with.
    """
    pairs = (distances > 0) & distances.isfinite()
    far = -distances[pairs].to(embeddings)
    if not len(far) or bool((far == far[0]).all()):
        raise ValueError("distances are the same for all pairs of nodes that a path joins; no correlation is defined")
    near = cosines(embeddings)[..., pairs]
    far, near = far - far.mean(), near - near.mean(-1, keepdim=True)
    return (near * far).sum(-1) / (near.norm(dim=-1) * far.norm()).clamp_min(1e-30)
