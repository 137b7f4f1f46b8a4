r"""NTK margin of multi-head attention: how well the gradients at a start separate the labels.

A start θ_0 is good for γ if some unit vector θ* has y_i ⟨∇Φ̃(X_i; θ_0), θ*⟩ ≥ γ for all i. The largest such γ is the
hard margin of the features y_i ∇Φ̃(X_i; θ_0), for which their Gram matrix suffices (`lib.theory.hard_margin`). With the
model's gradients in closed form it is a sum of two, the value part and the attention part:

    K_U(i,j) = y_i y_j H^{-1} Σ_h ⟨A_h X_i, A_h X_j⟩,      K_W(i,j) = y_i y_j H^{-1} Σ_h ⟨X_iᵀ G_h X_i, X_jᵀ G_h X_j⟩.

Their margins combine: γ² ≥ γ_U² + γ_W² (give each part's direction a share in proportion to its margin).

Source: realizability by NTK separability in Deora, Ghaderi, Taheri, Thrampoulidis 2023, arXiv 2310.12680. The closed forms
below are ours.

**Tokenized mixture without noise, W = 0, every row of every U_h equal to α(μ_+ - μ_-)** (`clean_margins`). One step of
size η from W = U = 0 leads there, with α = ηζ/(4√H), up to sampling. Attention is uniform, and with ξ the mean irrelevant
token and x̄ = ζμ_y + (1-ζ)ξ,

    y ∂Φ̃/∂U_h = H^{-1/2} 1 (y x̄)ᵀ,        y ∂Φ̃/∂W_h = H^{-1/2} α T S² ζ(1-ζ) · x̄ (μ_y - ξ)ᵀ.

In the attention part the two y have cancelled: every gradient wants rows to look at μ_y and away from ξ. The margin is
the distance from zero of the features' convex hull. Averaging over the symmetries of the mixture (the two labels,
permutations of patterns) leaves of x̄(μ_y - ξ)ᵀ one free number, q = Σ_j (share of pattern j)², which is smallest when
the T(1-ζ) irrelevant tokens differ as far as M allows:

    γ_U = ζ S √(T/2)
    γ_W = α T S⁴ ζ(1-ζ) √( ζ²/2 + ζ²/2M + (1-ζ)²/2M + (1-ζ)² [q²/M + (1-q)²/M(M-1)] )

and γ² = γ_U² + γ_W². A finite sample is part of the population, so that its margins are at least these.

| paper                | code             |
|----------------------|------------------|
| γ                    | `margin`         |
| ζ, M, S              | `zeta`, `n_patterns`, `norm` |
| α                    | `alignment`      |
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lib.models.multi_head_attention import attention, readings
from lib.tasks.tokenized_mixture import count_relevant
from lib.theory.hard_margin import Infeasible, hard_margin_multipliers


def gram_parts(
    tokens: Float[Tensor, "member n T d"],
    labels: Float[Tensor, "member n"],
    W: Float[Tensor, "member head d d"],
    U: Float[Tensor, "member head T d"],
) -> tuple[Float[Tensor, "member n n"], Float[Tensor, "member n n"]]:
    """The Gram matrices (K_U, K_W) of labelled per-sequence gradients."""
    n_heads = W.shape[1]
    maps = attention(tokens, W)  # (member, n, key, row, head)
    weighted = maps * readings(tokens, U)
    G = weighted - maps * weighted.sum(2, keepdim=True)
    values = (maps.flatten(3, 4).mT @ tokens).flatten(2)
    looked = (G.flatten(3, 4).mT @ tokens).unflatten(2, (tokens.shape[2], n_heads))  # G X: (member, n, row, head, d)
    scores = (tokens.mT @ looked.flatten(3, 4)).flatten(2)
    signs = labels[:, :, None] * labels[:, None, :] / n_heads
    return signs * (values @ values.mT), signs * (scores @ scores.mT)


def margin(gram: Float[Tensor, "n n"]) -> float:
    """Largest margin of a unit vector from features with this Gram matrix; 0 where no vector separates them.

    >>> round(margin(torch.diag(torch.tensor([1.0, 1.0]))), 6)
    0.707107
    """
    if not torch.diagonal(gram).min() > 0:  # a feature that vanishes has no positive product with anything
        return 0.0
    try:
        return float(hard_margin_multipliers(gram.double().numpy()).sum() ** -0.5)
    except Infeasible:
        return 0.0


def clean_margins(
    alignment: float, n_tokens: int, zeta: float, n_patterns: int, norm: float
) -> tuple[float, float, float]:
    """(γ_U, γ_W, γ) of the noiseless mixture at W = 0 and rows α(μ_+ - μ_-).

    Raises:
        ValueError: An alignment that is negative, or what `count_relevant` refuses.

    >>> clean_margins(alignment=0.0, n_tokens=8, zeta=0.25, n_patterns=4, norm=2.0)
    (1.0, 0.0, 1.0)
    """
    if not 0 <= alignment < float("inf"):
        raise ValueError(f"alignment is {alignment}; it must be finite and not negative")
    if n_patterns < 1:
        raise ValueError(f"n_patterns is {n_patterns}; it must be at least 1")
    n_irrelevant = n_tokens - count_relevant(zeta, n_tokens)
    value = zeta * norm * (n_tokens / 2) ** 0.5
    if n_irrelevant == 0:
        return value, 0.0, value  # all tokens are equal, and attention has nothing to choose
    shares = np.bincount(np.arange(n_irrelevant) % n_patterns, minlength=n_patterns) / n_irrelevant
    q = float(np.square(shares).sum())
    rest = 1 - zeta
    off_diagonal = (1 - q) ** 2 / (n_patterns * (n_patterns - 1)) if n_patterns > 1 else 0.0
    squared = (zeta**2 + (zeta**2 + rest**2) / n_patterns) / 2 + rest**2 * (q**2 / n_patterns + off_diagonal)
    scores = alignment * n_tokens * norm**4 * zeta * rest * squared**0.5
    return value, scores, (value**2 + scores**2) ** 0.5
