r"""When does a softmax stop teaching? Sums of exponentials in 16, 32 and 64 bits.

A sample's cross-entropy is log Σ_k exp(z_k - z_max) if its largest logit is the true one. The largest term is exactly 1. If
all others together are below what the precision can add to 1, the sum is 1, the loss exactly 0, and so is the gradient
that raises the true logit: the sample has collapsed (absorption). With unit roundoff u, a term e^{-Δ} is absorbed when

    e^{-Δ} ≤ u      ⇔      Δ ≥ ln(1/u) = 11 ln 2, 24 ln 2, 53 ln 2      in float16, float32, float64,

for a tie rounds to the even neighbour, which is 1. Of K equal terms each is absorbed alone from that gap on; added to each
other first they resist until K e^{-Δ} ≤ u. Where between ln(1/u) and ln(K/u) a sum collapses depends on its order.

Why logits get there: where every layer is homogeneous of degree 1 in its own weights W_l, Euler's theorem gives

    -⟨∂L/∂W_l, W_l⟩ = -⟨∂L/∂z, z⟩ = mean_i Σ_k (1[k = y_i] - p_ik) z_ik,

the same for every layer (`radial_pull`). Once all samples are right it is positive: longer weights, larger logits, less
loss, and no prediction changed. Moving along the weights is the direction of naive loss minimisation, NLM.

Source: Prieto et al. 2025, arXiv 2501.04697, Section 3 (softmax collapse) and Section 4 (naive loss minimisation).

| paper               | code              | meaning                                                      |
|---------------------|-------------------|--------------------------------------------------------------|
| absorption          | `unit_roundoff`   | largest u with 1 + u = 1                                      |
| softmax collapse    | `collapsed`       | the sum of exponentials is exactly 1                         |
| z                   | `logits`          | (*stack, n, K)                                               |
| NLM direction       | `radial_pull`     | how much moving along the weights lowers the loss            |

The paper quotes 2^{-23}, the spacing of float32 above 1; half of it is what decides. Precision concerns the loss alone: the
logits are cast, the network stays in float32.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PRECISIONS = {16: torch.float16, 32: torch.float32, 64: torch.float64}


def dtype_of(bits: int) -> torch.dtype:
    """The floating-point type with so many bits.

    Raises:
        ValueError: Not 16, 32 or 64.
    """
    if bits not in PRECISIONS:
        raise ValueError(f"bits is {bits}; it must be one of {', '.join(map(str, PRECISIONS))}")
    return PRECISIONS[bits]


def unit_roundoff(bits: int) -> float:
    """Largest u with 1 + u = 1: half of the spacing above 1.

    >>> [math.log2(unit_roundoff(bits)) for bits in (16, 32, 64)]
    [-11.0, -24.0, -53.0]
    """
    return torch.finfo(dtype_of(bits)).eps / 2


def collapse_gaps(bits: int, n_others: int = 1) -> tuple[float, float]:
    """Between which gaps a sum of exponentials collapses: never below the first, always from the second on.

    Args:
        bits: Precision of the sum.
        n_others: Competing classes K, all at the same gap below the true one.

    Returns:
        ln(1/u) and ln(K/u); they agree for two classes, where there is no order of summation.

    Raises:
        ValueError: No competitor, or as `dtype_of`.

    >>> [round(gap, 2) for gap in (*collapse_gaps(32), *collapse_gaps(32, 112))]
    [16.64, 16.64, 16.64, 21.35]
    """
    if n_others < 1:
        raise ValueError(f"n_others is {n_others}; it must be at least 1")
    first = -math.log(unit_roundoff(bits))
    return first, first + math.log(n_others)


def collapsed(logits: Float[Tensor, "*stack n K"], bits: int) -> Bool[Tensor, "*stack n"]:
    """Which samples' shifted exponentials sum to exactly 1 in the given precision, whether or not they are right."""
    z = logits.to(dtype_of(bits))
    return (z - z.amax(-1, keepdim=True)).exp().sum(-1) == 1


def cross_entropy(
    logits: Float[Tensor, "*stack n K"], ys: Int[Tensor, "*#stack n"], bits: int
) -> Float[Tensor, "*stack n"]:
    """Cross-entropy of every sample, computed in the given precision and returned in it.

    Raises:
        ValueError: As `dtype_of`.
    """
    log_p = torch.log_softmax(logits.to(dtype_of(bits)), -1)
    return -log_p.gather(-1, ys.expand(log_p.shape[:-1])[..., None])[..., 0]


def radial_pull(logits: Float[Tensor, "*stack n K"], ys: Int[Tensor, "*#stack n"]) -> Float[Tensor, "*stack"]:
    """-⟨∂L/∂z, z⟩ of the mean cross-entropy L, in float64: how fast L falls when all logits grow by the same factor."""
    z = logits.double()
    true = z.gather(-1, ys.expand(z.shape[:-1])[..., None])[..., 0]
    return (true - (torch.softmax(z, -1) * z).sum(-1)).mean(-1)
