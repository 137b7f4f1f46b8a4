r"""Attention under a fixed ReLU layer, f(X, z) = 1ᵀ relu(Vᵀ Xᵀ softmax(X W z)), and normalised descent on its W, quickly.

    W ← W - η G / ‖G‖_F,      G = Σ_it g_it x_it z_iᵀ,      g_it = ∂L / ∂s_it,      s_it = x_itᵀ W z_i

The loss L, the mean of log(1 + exp(-y f)), sees W through the n T scores s only, and every gradient lies in the span of
the outer products x_it z_iᵀ. So one can descend on the scores, and on the coefficients c of W = W_0 - Σ c_it x_it z_iᵀ:

    s ← s - η K g / √(gᵀ K g),      c ← c + η g / √(gᵀ K g),      K_(it)(ju) = ⟨x_it, x_ju⟩ ⟨z_i, z_j⟩

It is the same path, at a cost per step that does not depend on d but for the head's. For n T of a dozen that is five times
quicker than automatic differentiation through W, as `lib.models.token_attention` and `lib.descend` do; the tests compare.

Why one would train so many: an instance is of use for the generalised SVM equivalence only if its attention has split
into tokens that stay and tokens that vanish, which few do.

Source: Tarzanagh, Li, Thrampoulidis, Oymak 2023, arXiv 2308.16898, Section 6 (nonlinear heads).

| paper                | code    | shape            |
|----------------------|---------|------------------|
| X_i, rows x_it       | `xs`    | (seed, n, T, d)  |
| z_i, y_i             | `zs`, `ys` | (seed, n, d), (seed, n) |
| V, of the head       | `V`     | (seed, d, h)     |
| W, W_0               | `W`     | (seed, d, d)     |
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lib.evaluation import Log
from lib.models.initialisation import stacked_draws


def relu_heads(seeds: Sequence[int], d: int) -> Float[Tensor, "seed d d"]:
    """Random V of Frobenius norm one, Gaussian in direction.

    >>> float(relu_heads([3], 4).norm())
    1.0
    """
    V = stacked_draws(lambda g: torch.randn(d, d, generator=g, dtype=torch.float64), seeds, "head").detach()
    return V / torch.linalg.matrix_norm(V, keepdim=True)


def descend_on_scores(
    xs: Float[Tensor, "seed n T d"],
    zs: Float[Tensor, "..."],
    ys: Float[Tensor, "..."],
    V: Float[Tensor, "..."],
    W: Float[Tensor, "..."],
    *,
    lr: float,
    n_steps: int,
    log_steps: Sequence[int],
) -> Float[Tensor, "log seed d d"]:
    """Train W by normalised gradient descent.

    Args:
        xs: Tokens.
        zs: Queries, (seed, n, d).
        ys: Labels ±1, (seed, n).
        V: The head's weights, (seed, d, h), not trained.
        W: Where it starts, (seed, d, d).
        lr: η, the length of each step in the Frobenius norm.
        n_steps: Steps.
        log_steps: Numbers of steps done at which W is kept, increasing; 0 is the start.

    Returns:
        W at these steps.

    Raises:
        ValueError: Shapes that do not fit, `n_steps` below 1, `lr` not positive, or `log_steps` that do not increase within
            0…n_steps.
    """
    if n_steps < 1 or not lr > 0:
        raise ValueError(f"n_steps and lr are {n_steps} and {lr}; they must be at least 1 and positive")
    seeds, n, T, d = xs.shape
    wanted = {"zs": (seeds, n, d), "ys": (seeds, n), "V": (seeds, d, V.shape[-1]), "W": (seeds, d, d)}
    for (name, shape), rows in zip(wanted.items(), (zs, ys, V, W), strict=True):
        if rows.shape != shape:
            raise ValueError(f"{name} has shape {tuple(rows.shape)}; for xs {tuple(xs.shape)} it must be {shape}")
    # Instances last: every operation below then runs along them, without a loop over small matrices.
    gram = torch.einsum("citd,cjud->itjuc", xs, xs) * torch.einsum("cid,cjd->ijc", zs, zs)[:, None, :, None]
    gram = gram.reshape(n * T, n * T, -1).contiguous()
    decoded = torch.einsum("citd,cdh->hitc", xs, V).contiguous()
    scores = torch.einsum("citd,cde,cie->itc", xs, W, zs).contiguous()
    labels, coefficients = ys.T.contiguous(), torch.zeros_like(scores)
    log = Log(lambda: W - torch.einsum("itc,citd,cie->cde", coefficients, xs, zs), log_steps, n_steps)
    log.after(0)
    for step in range(n_steps):
        slope = _slopes(scores, decoded, labels)
        slope /= slope.abs().amax((0, 1)).clamp(min=torch.finfo(slope.dtype).tiny)  # else its square would underflow
        change = (gram * slope.reshape(n * T, -1)).sum(1).reshape(slope.shape)
        length = (slope * change).sum((0, 1)).clamp(min=0).sqrt()
        rate = torch.where(length > 0, lr / length, 0.0)
        scores -= rate * change
        coefficients += rate * slope
        log.after(step + 1)
    return log.results()["log"]


def _slopes(
    scores: Float[Tensor, "n T seed"], decoded: Float[Tensor, "h n T seed"], labels: Float[Tensor, "n seed"]
) -> Float[Tensor, "n T seed"]:
    """∂L/∂s times a positive factor per instance, exact in relative terms where attention is saturated."""
    attention = torch.softmax(scores, dim=1)
    hidden = (decoded * attention).sum(2)
    active = (hidden > 0).to(hidden.dtype)
    # Of the loss's slope in f, -y σ(-y f) / n, the 1/n is left out: only directions count.
    by_f = -labels * torch.sigmoid(-labels * (hidden * active).sum(0))
    values = (decoded * active[:, :, None]).sum(0)
    # Relative to the most attended token (tokens, if tied) there is no cancellation in what follows.
    top = (attention == attention.amax(1, keepdim=True)).to(hidden.dtype)
    advantage = values - (values * top).sum(1, keepdim=True) / top.sum(1, keepdim=True)
    return by_f[:, None] * attention * (advantage - (attention * advantage).sum(1, keepdim=True))
