r"""Why Node2Vec ends with few eigendirections: its optimum is that of a convex problem over matrices G = VVᵀ ⪰ 0.

    f(G) = Σ_u [ log Σ_w exp G_uw - Σ_v T_uv G_uv ],     T = D⁻¹A,     P = softmax of the rows of G
    C = (T - P) + (T - P)ᵀ = -(∇f + ∇fᵀ),     gradient flow:  dV/dt = C V

f is convex in G. So VVᵀ is best among all G ⪰ 0, that is V among embeddings of every width, if and only if

    C V = 0     and     C ⪯ 0

The embeddings lie in the null space of C, which is what the paper observes in training. A node's own logit ‖v_u‖² competes
with its neighbours', and v_u·v_v ≤ ‖v_u‖ ‖v_v‖: the neighbours can never win by much, the loss is least at finite V, and
there the constraint G ⪰ 0 binds: most eigenvalues of G are zero. Adding a constant to G changes nothing, so V is known up to
a vector common to all nodes.

On a cycle of n nodes everything has a closed form: G_uw = κ cos(θ (u - w)), θ = 2π/n, a von Mises distribution on n points,

    p̂_k(κ) = Σ_r p_r cos(k θ r),   p_r ∝ exp(κ cos θ r);    p̂_1(κ) = cos θ gives κ;    eigenvalues of C: 2 (cos kθ - p̂_k)

Rank two, whatever the width. For a bound away from the optimum: f(G) - min f ≤ ½ λ_max(C)₊ tr G* - ½ tr(C G).

Source: the coefficient matrix and its null space: Noroozizadeh et al. 2025, arXiv 2510.26745, Section 5. The convex problem,
its certificate and the cycle are derived here.
"""

from math import cos, pi

import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

from lib.theory.graph_spectrum import transitions


def coefficients(
    embeddings: Float[Tensor, "*stack node width"], matrix: Float[Tensor, "node node"]
) -> Float[Tensor, "*stack node node"]:
    """C = (T - P) + (T - P)ᵀ: a step of gradient descent is V ← V + lr · C V."""
    surplus = transitions(matrix).to(embeddings.dtype) - (embeddings @ embeddings.mT).softmax(-1)
    return surplus + surplus.mT


def tied_loss(
    embeddings: Float[Tensor, "*stack node width"], matrix: Float[Tensor, "node node"]
) -> Float[Tensor, "*stack"]:
    """f(VVᵀ) / n in nats: the loss per question."""
    T = transitions(matrix).to(embeddings.dtype)
    return -(T * (embeddings @ embeddings.mT).log_softmax(-1)).sum(-1).mean(-1)


def optimality(
    embeddings: Float[Tensor, "*stack node width"], matrix: Float[Tensor, "node node"]
) -> tuple[Float[Tensor, "*stack"], Float[Tensor, "*stack"]]:
    """How far V is from a global minimum: the largest eigenvalue of C (≤ 0 there), and max |C V| (0 there)."""
    C = coefficients(embeddings, matrix)
    return torch.linalg.eigvalsh(C)[..., -1], (C @ embeddings).abs().amax((-1, -2))


def effective_rank(embeddings: Float[Tensor, "*stack node width"]) -> Float[Tensor, "*stack"]:
    """Participation ratio (Σσ²)² / Σσ⁴ of the centred embeddings: m for m equal directions.

    >>> effective_rank(torch.eye(3)).item()
    2.0
    """
    centred = embeddings - embeddings.mean(-2, keepdim=True)
    squares = torch.linalg.svdvals(centred).square()
    return squares.sum(-1).square() / squares.square().sum(-1)


def cycle_moments(kappa: float, n_nodes: int) -> Float[Tensor, " node"]:
    """p̂_k(κ), k = 0…n-1."""
    r = 2 * pi / n_nodes * torch.arange(n_nodes, dtype=torch.float64)
    p = (kappa * r.cos()).softmax(0)
    return (torch.arange(n_nodes)[:, None] * r).cos() @ p


def cycle_optimum(n_nodes: int) -> tuple[float, float, Float[Tensor, " node"]]:
    """The best that Node2Vec can do on a cycle.

    Args:
        n_nodes: Of the cycle, at least 5; on shorter ones a neighbour's neighbour is as good as a neighbour.

    Returns:
        κ; the loss per question in nats; the eigenvalues of C by wave number k = 0…n-1. Zero at k = 0, 1 and n-1, negative
        elsewhere: rank two is the global optimum.

    Raises:
        ValueError: Fewer than 5 nodes.

    >>> kappa, loss, eigenvalues = cycle_optimum(15)
    >>> round(kappa, 2), round(loss, 4), int((eigenvalues < -1e-9).sum())
    (6.08, 1.4349, 12)
    """
    if n_nodes < 5:
        raise ValueError(f"n_nodes is {n_nodes}; it must be at least 5")
    theta = 2 * pi / n_nodes
    kappa = brentq(lambda k: float(cycle_moments(k, n_nodes)[1]) - cos(theta), 1e-9, 4 * n_nodes**2, xtol=1e-13)
    angles = theta * torch.arange(n_nodes, dtype=torch.float64)
    loss = float((kappa * angles.cos()).logsumexp(0)) - kappa * cos(theta)
    return kappa, loss, 2 * (angles.cos() - cycle_moments(kappa, n_nodes))


def cycle_embeddings(n_nodes: int) -> Float[Tensor, "node 2"]:
    """The optimum itself: points on a circle of radius √κ."""
    angles = 2 * pi / n_nodes * torch.arange(n_nodes, dtype=torch.float64)
    return cycle_optimum(n_nodes)[0] ** 0.5 * torch.stack([angles.cos(), angles.sin()], 1)
