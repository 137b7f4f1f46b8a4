r"""StableMax: a softmax whose scores grow linearly instead of exponentially, so that sums do not absorb their terms.

    s(x) = x + 1  for x ≥ 0,    1 / (1 - x)  for x < 0;        StableMax(z)_k = s(z_k) / Σ_j s(z_j)

s is continuous with slope 1 at 0, where it equals exp in value and slope. Since log s(x) = sign(x) log(1 + |x|), StableMax
is a softmax of compressed logits; two of them differ by a gap Δ only as log Δ, so a score is never smaller than about
1/Δ² of the largest, and the threshold of float32 lies at gaps of thousands instead of 17.

Source: Prieto et al. 2025, arXiv 2501.04697, Section 3.3. Evaluated in float64, as there.

| paper       | code                      |
|-------------|---------------------------|
| s(x)        | `stable_score`            |
| StableMax   | `log_stablemax`, its log  |
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def stable_score(xs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """s(x) > 0, in the precision given.

    >>> stable_score(torch.tensor([-3.0, 0.0, 3.0])).tolist()
    [0.25, 1.0, 4.0]
    """
    # |x| instead of -x: else the branch not taken would divide by zero at x = 1, and its gradient be NaN.
    return torch.where(xs < 0, 1 / (1 + xs.abs()), 1 + xs)


def log_stablemax(logits: Float[Tensor, "*stack K"]) -> Float[Tensor, "*stack K"]:
    """Logarithms of the class probabilities, in float64."""
    scores = stable_score(logits.double())
    return scores.log() - scores.sum(-1, keepdim=True).log()


def stablemax_cross_entropy(
    logits: Float[Tensor, "*stack n K"], ys: Int[Tensor, "*#stack n"]
) -> Float[Tensor, "*stack n"]:
    """-log StableMax of the true class of every sample, in float64."""
    scores = stable_score(logits.double())
    true = scores.gather(-1, ys.expand(scores.shape[:-1])[..., None])[..., 0]
    return scores.sum(-1).log() - true.log()
