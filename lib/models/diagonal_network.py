r"""Diagonal linear networks, x ↦ x · (u ⊙ v): linear in x, and not in their weights. Stacked, trained by gradient descent.

    L(u, v) = |X (u ⊙ v) - y|² / (2 n),      ∂L/∂u = v ⊙ g,   ∂L/∂v = u ⊙ g,   g = Xᵀ (X (u ⊙ v) - y) / n

Started small, descent ends near the interpolator of least ℓ1 norm; started large and with v = 0, near that of least ℓ2 norm
(Woodworth et al. 2020, arXiv 2002.09277).

| symbol | code | shape |
|--------|------|-------|
| u, v   | `u`, `v` | (*stack, d) |
| X, y   | `xs`, `ys` | (*data, n, d), (*data, n); broadcast against the stack |
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lib.progress import progress


def descend_diagonal(
    u: Float[Tensor, "*stack d"],
    v: Float[Tensor, "*stack d"],
    xs: Float[Tensor, "*data n d"],
    ys: Float[Tensor, "*data n"],
    lr: Float[Tensor, "*lrs"],
    n_steps: int,
    *,
    enough: float = 1e-10,
) -> tuple[Float[Tensor, "*stack d"], Float[Tensor, "*stack d"], Float[Tensor, "*stack"]]:
    """Gradient descent, every member with a learning rate of its own, until all losses are small or the steps are used up.

    Args:
        u: Start.
        v: Start.
        xs: Inputs.
        ys: Targets.
        lr: Learning rates, of the stack's shape or broadcast to it.
        n_steps: Most steps.
        enough: Loss at which it stops; looked at every 100 steps.

    Returns:
        u, v, and the losses. A member that diverged has a loss that is not finite.

    Raises:
        ValueError: No step, or a learning rate that is not positive.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; it must be at least 1")
    if not (lr > 0).all():
        raise ValueError(f"lr has the smallest entry {float(lr.min())}; all must be positive")
    rate, n = lr[..., None], xs.shape[-2]

    def residual() -> Tensor:
        return torch.einsum("...nd,...d->...n", xs, u * v) - ys

    for step in progress(range(n_steps), "diagonal networks"):
        rest = residual()
        if step % 100 == 0 and (rest.square().mean(-1) / 2 <= enough).all():
            break
        g = torch.einsum("...nd,...n->...d", xs, rest) / n
        u, v = u - rate * v * g, v - rate * u * g
    return u, v, residual().square().mean(-1) / 2
