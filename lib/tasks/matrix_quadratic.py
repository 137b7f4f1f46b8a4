r"""Quadratics on matrices, whose Hessian is the same for every column: least squares with many targets.

    f(X) = <H, (X - X*)(X - X*)ᵀ> = Σ_j (x_j - x*_j)ᵀ H (x_j - x*_j),      ∇f(X) = 2 H (X - X*)

is |A X - Y|² with H = AᵀA where Y = A X*. Source: Xie et al. 2025, arXiv 2503.10537, Section on experiments (a few
eigenvalues at 1, then falling with the square of their number). Which structure fits depends on X* alone once H is known:

| `kind`       | X*, scaled to |X*|_F² = n                  | what is small for its Frobenius norm      |
|--------------|--------------------------------------------|-------------------------------------------|
| "orthogonal" | all singular values equal                  | the spectral norm                         |
| "gaussian"   | independent entries                        | the spectral norm, within a factor of two |
| "signs"      | all entries ±                              | the largest entry                         |
| "rank one"   | one singular value                         | nothing but the rank                      |

| paper  | code       | shape               |
|--------|------------|---------------------|
| H      | `H`        | (seed, m, m)        |
| X*     | `target`   | (seed, m, n)        |
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from lib.seeds import generator_for

KINDS = ("orthogonal", "gaussian", "signs", "rank one")


class MatrixQuadratic(NamedTuple):
    """One quadratic per seed."""

    H: Float[Tensor, "seed m m"]
    target: Float[Tensor, "seed m n"]

    def loss(self, X: Float[Tensor, "*stack seed m n"]) -> Float[Tensor, "*stack seed"]:
        """f(X); its least value is zero."""
        error = X - self.target
        return (self.H @ error * error).sum((-2, -1))

    def gradient(self, X: Float[Tensor, "*stack seed m n"]) -> Float[Tensor, "*stack seed m n"]:
        """2 H (X - X*)."""
        return 2 * self.H @ (X - self.target)


def decaying_spectrum(m: int, n_top: int) -> Float[Tensor, "m"]:
    """n_top ones, then 1/1², 1/2², …; the paper's has ten ones.

    Raises:
        ValueError: n_top outside 0…m.

    >>> decaying_spectrum(4, 2).tolist()
    [1.0, 1.0, 1.0, 0.25]
    """
    if not 0 <= n_top <= m:
        raise ValueError(f"n_top is {n_top}; it must lie in 0…{m}, the number of eigenvalues")
    return torch.cat([torch.ones(n_top), 1 / torch.arange(1, m - n_top + 1).double().square()]).double()


def draw(
    kind: str, spectrum: Float[Tensor, "m"], n: int, seeds: Sequence[int], *, rotated: bool = True
) -> MatrixQuadratic:
    """One problem per seed, in float64.

    Args:
        kind: Of the target, see the head of the module.
        spectrum: Eigenvalues of H.
        n: Columns of X.
        seeds: One problem per seed; a seed's draw does not depend on the others.
        rotated: Whether H has random eigenvectors, instead of the coordinates.

    Raises:
        ValueError: An unknown kind, no column, no seed, or a negative eigenvalue.

    >>> draw("signs", decaying_spectrum(5, 2), n=3, seeds=[0, 1]).target.shape
    torch.Size([2, 5, 3])
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1")
    if not len(seeds):
        raise ValueError("seeds is empty; at least one is needed")
    if (spectrum < 0).any():
        raise ValueError(f"spectrum has the entry {float(spectrum.min()):.3g}; all must be at least 0")
    m = len(spectrum)
    generators = [generator_for(seed, "matrix quadratic") for seed in seeds]
    targets = torch.stack([_target(kind, m, n, g) for g in generators])
    targets = targets * (n**0.5 / targets.square().sum((-2, -1), keepdim=True).sqrt())
    Q = torch.eye(m, dtype=torch.float64).expand(len(seeds), m, m)
    if rotated:
        Q = torch.linalg.qr(torch.stack([torch.randn(m, m, generator=g, dtype=torch.float64) for g in generators]))[0]
    return MatrixQuadratic((Q * spectrum.double()) @ Q.mT, targets)


def _target(kind: str, m: int, n: int, generator: Generator) -> Float[Tensor, "m n"]:
    Z = torch.randn(m, n, generator=generator, dtype=torch.float64)
    if kind == "orthogonal":
        U, _, Vh = torch.linalg.svd(Z, full_matrices=False)
        return U @ Vh
    if kind == "signs":
        return Z.sign()
    if kind == "rank one":
        return Z[:, :1] * Z[:1]
    return Z
