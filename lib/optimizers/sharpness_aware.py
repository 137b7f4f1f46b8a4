r"""Sharpness-aware minimisation (SAM): the gradient at the worst point nearby, applied here.

    ε = ρ g / ‖g‖,    g = ∇L(w);        the gradient returned is ∇L(w + ε)

Source: Foret et al. 2021, arXiv 2010.01412, equations 2 and 3. The norm is over all weights of a member.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def sharpness_aware_gradients(
    loss: Callable[[list[Tensor]], Tensor], weights: Sequence[Tensor], radius: float, n_stack: int
) -> list[Tensor]:
    """Gradients of a stack of losses at w + ε; with radius 0 the ordinary ones, at half the cost.

    Args:
        loss: Takes the weights and returns one loss per member, (*stack).
        weights: Parameters (*stack, …).
        radius: ρ.
        n_stack: How many leading axes are the stack.

    Raises:
        ValueError: A negative radius.
    """
    if radius < 0:
        raise ValueError(f"radius is {radius}; it must not be negative")

    def gradients(at: list[Tensor]) -> tuple[Tensor, ...]:
        at = [w.detach().requires_grad_() for w in at]
        return torch.autograd.grad(loss(at).sum(), at)

    slopes = gradients(list(weights))
    if radius == 0:
        return list(slopes)
    length = sum(g.square().flatten(n_stack).sum(-1) for g in slopes).sqrt().clamp_min(1e-30)
    return list(
        gradients(
            [
                w + radius * g / length.reshape(length.shape + (1,) * (g.ndim - n_stack))
                for w, g in zip(weights, slopes, strict=True)
            ]
        )
    )
