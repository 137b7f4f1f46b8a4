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
    # Not `where`, whose branches on random signs are slow. One of the two parts is always 1; at 0 only the upper one has a
    # slope, as `relu` has none there.
    return (1 + xs.clamp_min(0)) / (1 + torch.relu(-xs))


def log_stablemax(logits: Float[Tensor, "*stack K"]) -> Float[Tensor, "*stack K"]:
    """Logarithms of the class probabilities, in float64."""
    scores = stable_score(logits.double())
    return scores.log() - scores.sum(-1, keepdim=True).log()


def stablemax_cross_entropy(
    logits: Float[Tensor, "*stack n K"], ys: Int[Tensor, "*#stack n"]
) -> Float[Tensor, "*stack n"]:
    """-log StableMax of the true class of every sample, in float64."""
    return _CrossEntropy.apply(logits, ys.expand(logits.shape[:-1]))


class _CrossEntropy(torch.autograd.Function):
    """With S = Σ_k s(z_k):  loss = log S - log s(z_y),  ∂loss/∂z_k = s'(z_k) / S - 1[k = y] s'(z_y) / s(z_y).

    By hand it takes a fraction of the time: the true class alone needs a logarithm, and s' = min(s, 1)².
    """

    @staticmethod
    def forward(ctx, logits: Tensor, ys: Tensor) -> Tensor:
        scores, picked = stable_score(logits.double()), ys[..., None]
        total, true = scores.sum(-1, keepdim=True), scores.gather(-1, picked)
        ctx.save_for_backward(scores, total, true, picked)
        ctx.dtype = logits.dtype
        return (total.log() - true.log())[..., 0]

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None]:
        scores, total, true, picked = ctx.saved_tensors
        slopes = scores.clamp_max(1).square_()
        at_true = slopes.gather(-1, picked) / true
        slopes.mul_(upstream[..., None] / total).scatter_add_(-1, picked, -at_true * upstream[..., None])
        return slopes.to(ctx.dtype), None
