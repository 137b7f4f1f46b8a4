r"""What a graph says about how it is memorised: the loss that is left, the slow modes, and how fast each of them grows.

Facts are pairs (u, v), v a random neighbour of u. No model can be surer than the neighbours are many, so

    mean over facts of -log p(v | u)  ≥  Σ_u d_u log d_u / Σ_u d_u         (equal for p(v | u) = A_uv / d_u)

The modes are eigenvectors of S = ½ (T + Tᵀ) with T = D⁻¹A; I - S is the symmetrised random-walk Laplacian of the paper.
The first mode is all but constant and says nothing; the next ones change slowly along edges: they are the geometry.

Gradient flow of Node2Vec, logits v_u·v_w, loss Σ_u mean_{v ~ u} -log p(v | u), from a start so small that p is uniform:

    dV/dt = M V,   M = T + Tᵀ - (2/n) 11ᵀ      =>      mode k grows as exp(μ_k t), μ_k the eigenvalues of M

For a regular graph μ_k = 2 λ_k(S), and 0 for the constant mode: the slowest-varying modes grow first.

On a path-star with d paths of l nodes the modes of T that tell paths apart are known: a contrast of the paths (d - 1 of
them) times a wave that vanishes at the root,

    sin(ω_j r),   ω_j = (2j - 1) π / (2 (l - 1)),   eigenvalue cos ω_j,   r steps from the root,   j = 1 … l - 1

In the slowest, j = 1, all nodes of a path point the same way: a leaf and the first node of its path, l - 1 steps of look-up
apart, differ in length alone.

Source: Noroozizadeh et al. 2025, arXiv 2510.26745, Section 5 (the coefficient matrix); the flow from small starts and the
waves are ours.

| paper                          | code                            |
|--------------------------------|---------------------------------|
| D⁻¹A                           | `transitions`                   |
| e_i, λ_i                       | `modes`                         |
| ‖Vᵀe_i‖                        | square root of `mode_energies`  |
"""

from math import pi

import torch
from jaxtyping import Float
from torch import Tensor


def transitions(matrix: Float[Tensor, "node node"]) -> Float[Tensor, "node node"]:
    """D⁻¹A: the distribution of the answers to every question.

    Raises:
        ValueError: A node without an edge.
    """
    degrees = matrix.sum(1, keepdim=True)
    if not (degrees > 0).all():
        raise ValueError(f"matrix: node {int(degrees.argmin())} has no edge; every node needs at least one")
    return matrix / degrees


def entropy_floor(matrix: Float[Tensor, "node node"], over: str = "facts") -> float:
    """Least mean loss in nats: the mean log degree.

    Args:
        matrix: Adjacency; it may be directed, then nodes without an answer are asked nothing.
        over: "facts", every edge and direction counts the same; or "nodes", every question does (the sum of Node2Vec).

    Raises:
        ValueError: Another `over`, or a graph without edges.

    >>> round(entropy_floor(torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])), 3)
    0.693
    """
    if over not in ("facts", "nodes"):
        raise ValueError(f"over is {over!r}; it must be 'facts' or 'nodes'")
    degrees = matrix.double().sum(1)
    degrees = degrees[degrees > 0]
    if not len(degrees):
        raise ValueError("matrix has no edge; there is nothing to memorise")
    weights = degrees if over == "facts" else torch.ones_like(degrees)
    return float((weights * degrees.log()).sum() / weights.sum())


def modes(matrix: Float[Tensor, "node node"]) -> tuple[Float[Tensor, " node"], Float[Tensor, "node mode"]]:
    """Eigenvalues λ of S = ½ (T + Tᵀ), from the largest on, and its eigenvectors (in columns)."""
    T = transitions(matrix.double())
    return _from_the_largest((T + T.mT) / 2)


def mode_energies(
    embeddings: Float[Tensor, "*stack node width"], basis: Float[Tensor, "node mode"], drop: int = 1
) -> Float[Tensor, "*stack kept"]:
    """Shares of the squared norm of the embeddings on each mode, without the first `drop` modes; they sum to one.

    Raises:
        ValueError: `drop` leaves no mode.
    """
    if not 0 <= drop < basis.shape[1]:
        raise ValueError(f"drop is {drop}; it must lie in 0…{basis.shape[1] - 1}")
    squares = (basis.mT.to(embeddings.dtype) @ embeddings).square().sum(-1)[..., drop:]
    return squares / squares.sum(-1, keepdim=True)


def path_star_waves(length: int) -> tuple[Float[Tensor, " wave"], Float[Tensor, "wave length"]]:
    """Eigenvalues cos ω_j of T and profiles sin(ω_j r) of the modes that tell the paths of a path-star apart.

    Args:
        length: Nodes of a path, root included.

    Raises:
        ValueError: A length below 2.

    >>> path_star_waves(3)[0].round(decimals=3).tolist()
    [0.707, -0.707]
    """
    if length < 2:
        raise ValueError(f"length is {length}; it must be at least 2")
    omegas = (2 * torch.arange(1, length, dtype=torch.float64) - 1) * pi / (2 * (length - 1))
    return omegas.cos(), (omegas[:, None] * torch.arange(length)).sin()


def growth_rates(matrix: Float[Tensor, "node node"]) -> tuple[Float[Tensor, " node"], Float[Tensor, "node mode"]]:
    """Eigenvalues μ of M, from the largest on, and its eigenvectors: how Node2Vec leaves a small start."""
    T = transitions(matrix.double())
    return _from_the_largest(T + T.mT - 2 / len(T))


def grown(
    start: Float[Tensor, "*stack node width"], matrix: Float[Tensor, "node node"], time: float
) -> Float[Tensor, "*stack node width"]:
    """exp(M t) V₀: gradient flow of Node2Vec for as long as all logits are small."""
    rates, basis = growth_rates(matrix)
    return (basis @ torch.diag((rates * time).exp()) @ basis.mT).to(start.dtype) @ start


def _from_the_largest(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(symmetric)
    return values.flip(0), vectors.flip(1)
