r"""Extreme eigenvalues of a symmetric matrix that is known only by its products with vectors: Lanczos, stacked.

After k steps from q_1 the matrix is tridiagonal in the basis q_1, …, q_k of span{q_1, A q_1, …, A^{k-1} q_1}:

    A q_j = β_{j-1} q_{j-1} + α_j q_j + β_j q_{j+1},       T_k = tridiagonal(β, α, β),

and the ends of T_k's spectrum approach those of A from inside, fast where they stand apart from the rest.

Source: Golub, Van Loan 2013, *Matrix Computations*, section 10.1. Rounding destroys the orthogonality of the q_j; here
each new vector is orthogonalised against all earlier ones, twice, which a few dozen steps can afford.

| symbol | code                  | shape             |
|--------|-----------------------|-------------------|
| A q    | `matvec`              | (member, p) -> (member, p) |
| q_1    | `start`, of any length | (member, p)       |
| α, β   | `alphas`, `betas`     | (member, steps)   |
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def lanczos_extremes(
    matvec: Callable[[Tensor], Tensor], start: Float[Tensor, "member p"], n_steps: int
) -> tuple[Float[Tensor, " member"], Float[Tensor, " member"]]:
    """Estimates of the lowest and highest eigenvalue of each member's matrix, from above and from below.

    Args:
        matvec: Multiplies every member's vector by that member's symmetric matrix.
        start: One vector per member; Gaussian vectors have a part in every eigenvector.
        n_steps: Products to spend; no more than p are of use.

    Returns:
        (lowest, highest), exact up to rounding once n_steps reaches the number of distinct eigenvalues.

    Raises:
        ValueError: `n_steps` below 1, a start that is zero or not finite, or products that are not finite.

    >>> diagonal = torch.tensor([[1.0, 5.0, -2.0]], dtype=torch.float64)
    >>> lowest, highest = lanczos_extremes(lambda v: diagonal * v, torch.ones_like(diagonal), n_steps=3)
    >>> round(float(lowest), 6), round(float(highest), 6)
    (-2.0, 5.0)
    """
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; it must be at least 1")
    lengths = start.norm(dim=1, keepdim=True)
    if not torch.isfinite(lengths).all() or not (lengths > 0).all():
        raise ValueError("start must hold finite vectors that are not zero")
    n_steps = min(n_steps, start.shape[1])
    basis = start.new_zeros(n_steps, *start.shape)
    tridiagonal = start.new_zeros(len(start), n_steps, n_steps)
    q, size = start / lengths, start.new_zeros(len(start), 1)
    for j in range(n_steps):
        basis[j] = q
        product = matvec(q)
        if not torch.isfinite(product).all():
            raise ValueError(f"matvec returned a value that is not finite in step {j + 1}")
        alpha = (q * product).sum(1)
        size = torch.maximum(size, product.norm(dim=1, keepdim=True))
        for _ in range(2):
            shares = (basis[: j + 1] * product).sum(-1, keepdim=True)
            product = product - (shares * basis[: j + 1]).sum(0)
        beta = product.norm(dim=1, keepdim=True)
        # Where the space is used up, the rest of T repeats α_1: a mean of eigenvalues, never beyond an end of the spectrum.
        used_up = beta <= 1e-10 * size
        ended = ~q.any(dim=1)
        tridiagonal[:, j, j] = torch.where(ended, tridiagonal[:, 0, 0], alpha)
        if j + 1 < n_steps:
            beta = torch.where(used_up, 0.0, beta)
            tridiagonal[:, j, j + 1] = tridiagonal[:, j + 1, j] = beta[:, 0]
            q = torch.where(used_up, 0.0, product / beta.clamp_min(torch.finfo(beta.dtype).tiny))
    values = torch.linalg.eigvalsh(tridiagonal)
    return values[:, 0], values[:, -1]
