r"""Does a network look at a few directions of its input only? Measures of low-dimensional simplicity bias.

f has it if f(x) ≈ g(P x) with a projection P of low rank, though what P⊥ = I - P leaves would do for the task as well. With
mixed inputs x̃ = P x_1 + P⊥ x_2 of two points,

    P⊥-LC = E|f(x̃) - f(x_1)| / E|f(x_1)|,    P-LC = E|f(x̃) - f(x_2)| / E|f(x_2)|        change of the logit
    P⊥-pC, P-pC                                                                         how often the prediction changes

P⊥-LC is small and P-LC large where only P matters. P is spanned by leading right singular vectors of the first layer, whose
effective rank is exp of the entropy of its squared singular values, normalised to one.

Source: Morwani et al. 2023, arXiv 2302.00457, Sections 2 and 5.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def effective_rank(W: Float[Tensor, "*stack m d"]) -> Float[Tensor, "*stack"]:
    """exp of the entropy of the squared singular values, normalised to sum to one; between 1 and the rank.

    >>> effective_rank(torch.eye(5)).item()
    5.0
    """
    share = torch.linalg.svdvals(W).square()
    share = share / share.sum(-1, keepdim=True)
    return torch.special.entr(share).sum(-1).exp()


def leading_projection(W: Float[Tensor, "*stack m d"], rank: int) -> Float[Tensor, "*stack d d"]:
    """The projection onto the span of the leading right singular vectors.

    Raises:
        ValueError: A rank outside 1…d.
    """
    d = W.shape[-1]
    if not 1 <= rank <= d:
        raise ValueError(f"rank is {rank}; it must lie in 1…{d}, the size of an input")
    # Eigenvectors of WᵀW: all d of them, also where there are fewer neurons.
    V = torch.linalg.eigh(W.mT @ W)[1][..., -rank:]
    return V @ V.mT


def mixed_inputs(
    f: Callable[[Tensor], Tensor],
    xs: Float[Tensor, "seed n d"],
    P: Float[Tensor, "seed d d"],
    partners: Int[Tensor, "n"],
) -> dict[str, Float[Tensor, "seed"]]:
    """The four measures, for points and their partners.

    Args:
        f: Logits (seed, n) of inputs (seed, n, d).
        xs: Points.
        P: A projection per member.
        partners: Which point gives each one's other part.
    """
    others = xs[:, partners]
    mixed = f(xs @ P + others - others @ P)
    changes = {}
    for name, original in (("P⊥", f(xs)), ("P", f(others))):
        changes[f"{name}-LC"] = (mixed - original).abs().mean(-1) / original.abs().mean(-1)
        changes[f"{name}-pC"] = ((mixed > 0) != (original > 0)).float().mean(-1)
    return changes
