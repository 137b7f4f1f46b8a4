r"""What it costs to store a graph as a look-up table, and what as a geometry: losses, bits and norms, in closed form.

Look-up (associative memory): node embeddings e_u are fixed and near orthogonal, the facts are a sum of outer products,

    W = β Σ_{(u,v)} e_u e_vᵀ,   logits e_uᵀ W e_w = β A_uw  (orthonormal e)
    loss per fact = mean log( d_u + (n - d_u) exp(-β) )   →   the entropy floor

It is also what one step of gradient descent from W = 0 makes, up to a constant: the gradient there is -Eᵀ(Q - r 1ᵀ/n)E
with Q the distribution of facts and r that of questions.

Bits: a graph of n nodes and m edges whose nodes have arbitrary names is one of n! / |Aut| graphs. A table of the m edges
(for trees and cycles one successor per node) takes m log₂ n bits; a geometry takes each node's place: on a cycle one of n
angles, on a path-star a branch and a depth. All three grow as n log₂ n: neither way is simpler.

Norm: logits Z = UVᵀ cost at least ½(‖U‖² + ‖V‖²) = ‖Z‖_*, the nuclear norm. Per unit of margin (least logit of a neighbour
minus largest of another node, the node itself aside):

    look-up on a cycle:    Σ_k |2 cos kθ|                 ≈ 4n/π,     θ = 2π/n
    circle on a cycle:     n / (cos θ - cos 2θ)           ≈ n³/(6π²)

So from 8 nodes on the geometry is the *dearer* of the two: norm does not explain it.

Source: the question and the bit argument: Noroozizadeh et al. 2025, arXiv 2510.26745, Section 4; the exact counts and
the norms are derived here.
"""

from math import cos, lgamma, log, log2, pi

import torch
from jaxtyping import Float
from torch import Tensor


def lookup_loss(matrix: Float[Tensor, "node node"], beta: float) -> float:
    """Loss per fact, in nats, of the look-up table with strength β.

    Raises:
        ValueError: A negative β.
    """
    if not beta >= 0:
        raise ValueError(f"beta is {beta}; it must be at least 0")
    degrees = matrix.double().sum(1)
    losses = (degrees + (len(matrix) - degrees) * torch.exp(torch.tensor(-beta, dtype=torch.float64))).log()
    return float((degrees * losses).sum() / degrees.sum())


def lookup_direction(
    embeddings: Float[Tensor, "*stack node width"], matrix: Float[Tensor, "node node"]
) -> Float[Tensor, "*stack width width"]:
    """Minus the gradient of the loss per fact at W = 0, for logits e_uᵀ W e_w: what one step writes into W."""
    facts = (matrix / matrix.sum()).to(embeddings.dtype)
    surplus = facts - facts.sum(1, keepdim=True) / len(matrix)
    return embeddings.mT @ surplus @ embeddings


def graph_bits(kind: str, *sizes: int) -> dict[str, float]:
    """Bits to store a graph with arbitrary names of nodes.

    Args:
        kind: "cycle" or "path-star".
        sizes: Nodes of the cycle, at least 3; or degree (at least 3) and length (at least 2) of the path-star.

    Returns:
        "least", log₂(n! / |Aut|); "table", one successor (on the path-star: the node before) per node that has one;
        "geometry", each node's place.

    Raises:
        ValueError: Another kind, or sizes out of range.

    >>> {name: round(bits) for name, bits in graph_bits("path-star", 4, 5).items()}
    {'least': 44, 'table': 65, 'geometry': 64}
    """
    if kind == "cycle" and len(sizes) == 1 and sizes[0] >= 3:
        (n,) = sizes
        edges, places, symmetries = n, n * log2(n), log(2 * n)
    elif kind == "path-star" and len(sizes) == 2 and sizes[0] >= 3 and sizes[1] >= 2:
        degree, length = sizes
        n = 1 + degree * (length - 1)
        edges, places, symmetries = n - 1, (n - 1) * (log2(degree) + log2(length - 1)), lgamma(degree + 1)
    else:
        raise ValueError(
            f"kind and sizes are {kind!r} and {sizes}; take ('cycle', n ≥ 3) or ('path-star', degree ≥ 3, length ≥ 2)"
        )
    return {"least": (lgamma(n + 1) - symmetries) / log(2), "table": edges * log2(n), "geometry": places}


def margin(logits: Float[Tensor, "*stack node node"], matrix: Float[Tensor, "node node"]) -> Float[Tensor, "*stack"]:
    """Least over nodes of (least logit of a neighbour - largest logit of another node), the node itself aside."""
    own = torch.eye(len(matrix), dtype=torch.bool)
    neighbours = logits.masked_fill(~(matrix > 0) | own, torch.inf).amin(-1)
    others = logits.masked_fill((matrix > 0) | own, -torch.inf).amax(-1)
    return (neighbours - others).amin(-1)


def norm_per_margin(logits: Float[Tensor, "*stack node node"], matrix: Float[Tensor, "node node"]) -> Tensor:
    """Nuclear norm of the logits over their margin, one value per member; infinite where the margin is not positive."""
    gap = margin(logits, matrix)
    return torch.where(gap > 0, torch.linalg.matrix_norm(logits, "nuc") / gap.clamp_min(1e-30), torch.inf)


def cycle_norms(n_nodes: int) -> tuple[float, float]:
    """Norm per unit of margin on a cycle: of the look-up table, and of the circle.

    Raises:
        ValueError: Fewer than 5 nodes.

    >>> [round(norm, 1) for norm in cycle_norms(15)]
    [19.1, 61.4]
    """
    if n_nodes < 5:
        raise ValueError(f"n_nodes is {n_nodes}; it must be at least 5")
    theta = 2 * pi / n_nodes
    return sum(abs(2 * cos(k * theta)) for k in range(n_nodes)), n_nodes / (cos(theta) - cos(2 * theta))
