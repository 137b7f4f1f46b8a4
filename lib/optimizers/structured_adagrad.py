r"""AdaGrad with a preconditioner of a given structure: AdaGrad-Norm, diagonal, full-matrix, and one-sided Shampoo.

    V_t = argmin_{V in 𝓗} <M_t, V^{-1}> + tr V,    M_t = eps I + Σ_{s<=t} vec(G_s) vec(G_s)ᵀ,      W ← W - eta V_t^{-1} M̄_t

| 𝓗, `structure`        | V_t^{-1} G                                                | memory      | also known as        |
|-----------------------|-----------------------------------------------------------|-------------|----------------------|
| c I, "norm"           | G / √(eps + Σ|G|²/(mn))                                   | 1           | AdaGrad-Norm         |
| diagonal, "diagonal"  | G_ij / √(eps + Σ G_ij²)                                   | m n         | AdaGrad              |
| A ⊗ I, "one-sided"    | √n (n eps I + Σ G Gᵀ)^{-1/2} G                            | m²          | one-sided Shampoo, ASGO |
| all, "full"           | M_t^{-1/2} vec(G)                                         | (m n)²      | full-matrix AdaGrad  |

Source: Xie et al. 2025, arXiv 2503.10537; Duchi et al. 2011 (diagonal and full). On one step without eps, one-sided Shampoo
is √n U Vᵀ of the gradient U S Vᵀ: the spectral step. The factors √(mn) and √n come from the definition by a minimum and are
often absorbed into the learning rate; with them the bounds of `lib.theory.structured_preconditioners` hold as they stand.

| symbol | code                                                                     |
|--------|--------------------------------------------------------------------------|
| P(M_t) | `state["second_moment"]`: number, matrix or matrix on vectors            |
| tr V_t | `state["trace"]`, over all m n dimensions                                |
| M̄      | moving average of gradients, G_t itself without momentum                 |
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lib.optimizers.base import LearningRate, StackedOptimizer, finite_matrices

STRUCTURES = ("norm", "diagonal", "one-sided", "full")


def require_structure(structure: str) -> None:
    """Refuse a set of preconditioners that is not known."""
    if structure not in STRUCTURES:
        raise ValueError(f"structure is {structure!r}; it must be one of {', '.join(STRUCTURES)}")


class StructuredAdaGrad(StackedOptimizer):
    """AdaGrad over a set of structured preconditioners, for matrices, batched over the stack.

    Args:
        params: Parameters of shape (*stack, m, n).
        lr: eta; a number, or a tensor with one dimension per stack dimension.
        structure: "norm", "diagonal", "one-sided" or "full".
        momentum: beta in [0, 1).
        eps: M starts at eps times the identity; positive, in units of a squared gradient.

    Raises:
        ValueError: A setting outside its range, or a parameter with fewer than two dimensions.
    """

    def __init__(
        self, params: ParamsT, lr: LearningRate, structure: str, momentum: float | int = 0.0, eps: float = 1e-10
    ) -> None:
        super().__init__(params, lr, momentum, structure=structure, eps=eps)

    def check_group(self, group: dict[str, Any]) -> None:
        """Checks the settings and shapes of one group."""
        super().check_group(group)
        require_structure(group["structure"])
        if not 0 < group["eps"] < float("inf"):
            raise ValueError(f"eps must be in (0, inf), got {group['eps']}")

    def direction(
        self,
        p: Float[Tensor, "*stack m n"],
        M: Float[Tensor, "*stack m n"],
        state: dict[str, Any],
        group: dict[str, Any],
    ) -> Float[Tensor, "*stack m n"]:
        """V^{-1} M̄, after P(M) has taken in the new gradient."""
        structure, G = group["structure"], p.grad
        n = G.shape[-1]
        new = _projected_square(G, structure)
        if "second_moment" not in state:
            start = torch.ones_like(new)
            if structure in ("one-sided", "full"):
                start = torch.eye(new.shape[-1], dtype=new.dtype, device=new.device).expand_as(new)
            state["second_moment"] = group["eps"] * start
        second = state["second_moment"] = state["second_moment"] + new
        if structure in ("norm", "diagonal"):
            root = second.sqrt()
            state["trace"] = root.expand_as(G).sum((-2, -1))
            return M / root
        inverse, trace = _inverse_root(second)
        if structure == "one-sided":
            state["trace"] = n * trace
            return inverse @ M
        state["trace"] = trace
        return (inverse @ M.flatten(-2)[..., None]).reshape(M.shape)


def _projected_square(G: Tensor, structure: str) -> Tensor:
    """P(vec(G) vec(G)ᵀ), in the smallest form: a number, a matrix of entries, A of A ⊗ I, or the whole."""
    if structure == "norm":
        return G.square().mean((-2, -1), keepdim=True)
    if structure == "diagonal":
        return G.square()
    if structure == "one-sided":
        return G @ G.mT / G.shape[-1]
    g = G.flatten(-2)
    return g[..., :, None] * g[..., None, :]


def _inverse_root(A: Float[Tensor, "*stack k k"]) -> tuple[Tensor, Tensor]:
    """A^{-1/2} and tr A^{1/2} of symmetric positive matrices; NaN where A is not finite.

    Until k gradients have come A is singular but for eps, and below the rounding of its largest eigenvalue nothing is known
    of a direction. No gradient has pointed there, so that zero is right for it, and an inverse root would be noise.
    """
    finite = finite_matrices(A)
    eigenvalues, Q = torch.linalg.eigh(torch.where(finite, A, 0))
    noise = A.shape[-1] * torch.finfo(A.dtype).eps * eigenvalues[..., -1:]
    known = eigenvalues > noise
    roots = torch.where(known, eigenvalues, 1).sqrt()
    inverse = (Q * torch.where(known, 1 / roots, 0)[..., None, :]) @ Q.mT
    trace = torch.where(known, roots, 0).sum(-1)
    return torch.where(finite, inverse, torch.nan), torch.where(finite[..., 0, 0], trace, torch.nan)
