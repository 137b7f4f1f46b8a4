"""Normalised steepest descent with momentum: NormalizedGD, SignGD and SpecGD.

Paper: "How Muon's Spectral Design Benefits Generalization: A Study on Imbalanced Data", arXiv 2510.22980.
In a norm ||.|| the steepest descent step has a fixed length and the best angle:

    W_t = W_{t-1} - eta Delta_t,      Delta_t = argmax_{||D|| <= 1} <M_t, D>,
    M_t = beta M_{t-1} + (1 - beta) G_t,   M_0 = 0.

With the singular value decomposition M = U S V^T of rank r:

| norm          | Delta       | function              | class          | with momentum, also known as |
|---------------|-------------|-----------------------|----------------|------------------------------|
| Frobenius     | M / ||M||_F | `normalize_frobenius` | `NormalizedGD` | NMD                          |
| largest entry | sign(M)     | `sign`                | `SignGD`       | Signum                       |
| spectral      | U_r V_r^T   | `orthogonalize`       | `SpecGD`       | Muon, before approximations  |

| symbol | code       |
|--------|------------|
| eta    | `lr`       |
| beta   | `momentum` |
| M      | `M`        |

Variants: `Muon` in muon.py replaces U V^T by five Newton–Schulz steps and adds Nesterov momentum, a scale
and weight decay. Every norm here is taken per matrix, that is per layer: for a net of several layers this
is not the Frobenius norm of the whole gradient. Where M is zero the argmax is not unique; we take Delta =
0, and likewise in the null directions of M for the spectral norm.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lib.optimizers.base import StackedOptimizer, finite_matrices, power_of_two_below


def normalize_frobenius(M: Float[Tensor, "*stack out in"]) -> Float[Tensor, "*stack out in"]:
    """Divides every matrix by its Frobenius norm, M / ||M||_F; zero stays zero.

    Args:
        M: Matrices.

    Returns:
        Matrices of Frobenius norm 1, or 0.

    >>> normalize_frobenius(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    M = M / power_of_two_below(M.abs().amax((-2, -1), keepdim=True))
    norm = torch.linalg.matrix_norm(M, keepdim=True)
    return torch.where(norm == 0, 0, M / norm)


def sign(M: Float[Tensor, "*stack out in"]) -> Float[Tensor, "*stack out in"]:
    """The sign of every entry, with sign(0) = 0 and, unlike in torch, sign(NaN) = NaN.

    Args:
        M: Matrices.

    Returns:
        Matrices with entries -1, 0 and 1; NaN where M is NaN, so that a diverged run shows.

    >>> sign(torch.tensor([[-2.0, 0.0, torch.nan]]))
    tensor([[-1.,  0., nan]])
    """
    return torch.where(M.isnan(), M, M.sign())


def orthogonalize(M: Float[Tensor, "*stack out in"], rtol: float | None = None) -> Float[Tensor, "*stack out in"]:
    """Sets every nonzero singular value to one: U_r V_r^T from the exact truncated decomposition U S V^T.

    Args:
        M: Matrices.
        rtol: Singular values up to `rtol` times the largest count as zero. Default: max(out, in) times the
            dtype's epsilon, the rounding of the decomposition itself, as in `torch.linalg.matrix_rank`.

    Returns:
        Matrices whose singular values are 1 or 0, of the same rank as M; NaN where M is not finite.

    >>> orthogonalize(torch.diag(torch.tensor([5.0, 0.1, 0.0])))
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 0.]])
    """
    if rtol is None:
        rtol = max(M.shape[-2:]) * torch.finfo(M.dtype).eps
    finite = finite_matrices(M)
    M = torch.where(finite, M, 0)
    # LAPACK decomposes tall matrices about twice as fast as wide ones.
    wide = M.shape[-2] < M.shape[-1]
    U, S, Vh = torch.linalg.svd(M.mT if wide else M, full_matrices=False)
    kept = rtol * S[..., :1] < S
    X = (U * kept[..., None, :]) @ Vh
    return torch.where(finite, X.mT if wide else X, torch.nan)


class NormalizedGD(StackedOptimizer):
    """Steepest descent in the Frobenius norm of each matrix; per layer, not over the whole net.

    W <- W - lr M / ||M||_F (arXiv 2510.22980; with momentum, NMD).

    Args:
        params: Parameters of shape (*stack, out, in).
        lr: Step length in the Frobenius norm; a number, or a tensor with one dimension per stack dimension.
        momentum: beta in [0, 1).

    Raises:
        ValueError: Bad `lr` or `momentum`, or a parameter with fewer than two dimensions.
    """

    def direction(
        self, p: Tensor, M: Float[Tensor, "*stack out in"], state: dict[str, Any], group: dict[str, Any]
    ) -> Float[Tensor, "*stack out in"]:
        """M / ||M||_F, see `normalize_frobenius`."""
        return normalize_frobenius(M)


class SignGD(StackedOptimizer):
    """Steepest descent in the largest-entry norm; with momentum this is Signum.

    W <- W - lr sign(M) (arXiv 2510.22980; Signum: arXiv 1802.04434).

    Args:
        params: Parameters of shape (*stack, out, in).
        lr: Step length per entry; a number, or a tensor with one dimension per stack dimension.
        momentum: beta in [0, 1).

    Raises:
        ValueError: Bad `lr` or `momentum`, or a parameter with fewer than two dimensions.
    """

    def direction(
        self, p: Tensor, M: Float[Tensor, "*stack out in"], state: dict[str, Any], group: dict[str, Any]
    ) -> Float[Tensor, "*stack out in"]:
        """sign(M)."""
        return sign(M)


class SpecGD(StackedOptimizer):
    """Steepest descent in the spectral norm: every singular direction learns at the same rate.

    W <- W - lr U V^T with M = U S V^T (arXiv 2510.22980; with momentum, Muon without its approximations).

    Args:
        params: Parameters of shape (*stack, out, in).
        lr: Step length in the spectral norm; a number, or a tensor with one dimension per stack dimension.
        momentum: beta in [0, 1).

    Raises:
        ValueError: Bad `lr` or `momentum`, or a parameter with fewer than two dimensions.
    """

    def direction(
        self, p: Tensor, M: Float[Tensor, "*stack out in"], state: dict[str, Any], group: dict[str, Any]
    ) -> Float[Tensor, "*stack out in"]:
        """U V^T, see `orthogonalize`."""
        return orthogonalize(M)
