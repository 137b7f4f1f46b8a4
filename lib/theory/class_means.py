r"""Gaussian classes whose means have to be inferred: the exact Bayes classifier of every prefix of a prompt.

**Model.** Labels are uniform over K classes; class k has the mean μ_k ∈ R^m; x | y = k ~ N(μ_k, I). In each of the m
dimensions the K means are jointly N(0, G), independently of the other dimensions.

**Posterior.** With n_k examples of class k so far, N = diag(n), and S (K × m) the sums of their inputs, the means have
in each dimension the covariance C and the expectation C S,

    C = (G⁻¹ + N)⁻¹ = (I + G N)⁻¹ G        (the second form needs no inverse of G),

and a new x of class k is N((C S)_k, (1 + C_kk) I). Hence the classifier

    p(y = k | x, prefix) ∝ (1 + C_kk)^(-m/2) exp(-‖x - (C S)_k‖² / (2 (1 + C_kk))) .

*Where it meets arXiv 2212.04458.* Gaussian clusters with centres that are orthogonal up to their common mean, pushed
through an m × d matrix with entries N(0, 1/d), have G = s² (I - 11ᵀ/K) whatever the labelling, and their noise has the
covariance A Aᵀ -> I as d grows. So this is the best learner of unlimited tasks in the limit d -> ∞.

| symbol | code       | shape                |
|--------|------------|----------------------|
| G      | `gram`     | (K, K)               |
| N, S   | `counts`, `sums` | (…, K), (…, K, m) of the points before each |
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def simplex_gram(n_classes: int, separation: float) -> Float[Tensor, "K K"]:
    """G = separation² (I - 11ᵀ/K), of centres with entries N(0, separation²) that lost their common mean.

    Raises:
        ValueError: Fewer than two classes, or a separation that is not positive.

    >>> simplex_gram(2, 2.0).tolist()
    [[2.0, -2.0], [-2.0, 2.0]]
    """
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}; it must be at least 2")
    if not separation > 0:
        raise ValueError(f"separation is {separation}; it must be positive")
    return separation**2 * (torch.eye(n_classes) - 1 / n_classes)


def before_each(
    xs: Float[Tensor, "*stack n_points m"], ys: Int64[Tensor, "*stack n_points"], n_classes: int
) -> tuple[Float[Tensor, "*stack n_points K"], Float[Tensor, "*stack n_points K m"]]:
    """Number of points of each class, and the sum of their inputs, strictly before each point."""
    marks = F.one_hot(ys, n_classes).to(xs.dtype)
    parts = marks[..., None] * xs[..., None, :]
    return marks.cumsum(-2) - marks, parts.cumsum(-3) - parts


def class_posterior(
    xs: Float[Tensor, "*stack n_points m"], ys: Int64[Tensor, "*stack n_points"], gram: Float[Tensor, "K K"]
) -> Float[Tensor, "*stack n_points K"]:
    """p(y_i = k | x_i, the points before i), for every point of every prompt; in float64.

    Args:
        xs: Inputs, in units of the noise.
        ys: Labels 0…K-1.
        gram: G, symmetric and positive semidefinite.

    Raises:
        ValueError: A gram matrix that is not symmetric and positive semidefinite.
    """
    gram = gram.double()
    if not torch.allclose(gram, gram.mT) or torch.linalg.eigvalsh(gram)[0] < -1e-6 * gram.abs().max():
        raise ValueError("gram must be symmetric and positive semidefinite")
    counts, sums = before_each(xs.double(), ys, len(gram))
    identity = torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    covariance = torch.linalg.solve(identity + gram * counts[..., None, :], gram)
    variance = 1 + covariance.diagonal(dim1=-2, dim2=-1)
    squares = (xs.double()[..., None, :] - covariance @ sums).square().sum(-1)
    return torch.softmax(-0.5 * (squares / variance + xs.shape[-1] * variance.log()), dim=-1)
