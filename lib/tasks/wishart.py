r"""Sample covariances of Gaussian points, drawn without drawing the points.

    S = (1/n) Σ_{i <= n} x_i x_iᵀ  with  x_i ~ N(0, Σ)        has the law of        L B Bᵀ Lᵀ / n,        Σ = L Lᵀ

with B lower triangular, B_ii² ~ χ²(n - i + 1), B_ij ~ N(0, 1) below the diagonal, all independent: n S is Wishart, and this
is Bartlett's decomposition. A model that sees a prompt only through S then needs d (d + 1) / 2 numbers for it, not n d.

Source: Bartlett 1933; Anderson, An Introduction to Multivariate Statistical Analysis, theorem 7.2.1.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor


def sample_covariances(
    generators: Sequence[Generator], covariances: Float[Tensor, "seed batch d d"], n_points: int
) -> Float[Tensor, "seed batch d d"]:
    """One S per covariance.

    Args:
        generators: One per seed.
        covariances: Σ of each prompt, positive definite.
        n_points: Points per prompt, n.

    Raises:
        ValueError: Fewer points than dimensions, where S is singular and this decomposition does not hold.
    """
    _, batch, d, _ = covariances.shape
    if n_points < d:
        raise ValueError(f"n_points is {n_points}; it must be at least the number of dimensions, {d}")
    halves = (n_points - torch.arange(d, dtype=torch.float32)).expand(batch, d) / 2
    B = torch.empty(len(generators), batch, d, d)
    for rows, g in zip(B, generators, strict=True):
        rows.normal_(generator=g)
        # χ²(k) is twice a gamma variable of shape k/2.
        rows.diagonal(dim1=-2, dim2=-1).copy_((2 * torch._standard_gamma(halves, generator=g)).sqrt())
    factor = torch.linalg.cholesky(covariances) @ B.tril().to(covariances.device)
    return factor @ factor.mT / n_points
