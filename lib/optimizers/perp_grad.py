r"""⊥Grad: a stock optimizer on gradients without their component along the weights.

    g_⊥ = g - (⟨w, g⟩ / ⟨w, w⟩) w,        g ← ‖g‖ g_⊥ / ‖g_⊥‖,

per weight matrix w, then any optimizer. Along w a homogeneous network only scales its logits; ⊥Grad takes that way of
lowering the loss out of the gradient. It is still a descent direction: ⟨g, g_⊥⟩ = ‖g_⊥‖² ≥ 0. Plain descent on g_⊥ with
learning rate η obeys Pythagoras, ‖w'‖² = ‖w‖² + η² ‖g‖²: norms still grow, by the length of the path alone.

Source: Prieto et al. 2025, arXiv 2501.04697, Section 5; rescaling to the gradient's own length is in the authors' code and
not in the formula of the paper.

| paper       | code                                       |
|-------------|--------------------------------------------|
| w           | parameter `p`, (*stack, out, in)           |
| ∇L(w)       | `p.grad`; replaced in place at each step   |
| ∇_⊥ L(w)    | `perpendicular`, before rescaling          |

A gradient that is parallel to w up to rounding has no perpendicular part; rescaling would blow up rounding errors, so such
a gradient is taken as zero.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lib.optimizers.base import call_with_grad
from lib.optimizers.per_member_lr import PerMemberLR

_ROUNDING = 4  # lengths below so many units of rounding, relative to the gradient, are noise


def _inner(a: Float[Tensor, "*stack out in"], b: Float[Tensor, "*stack out in"]) -> Float[Tensor, "*stack 1 1"]:
    return torch.linalg.vecdot(a.flatten(-2), b.flatten(-2))[..., None, None]


def perpendicular(
    g: Float[Tensor, "*stack out in"], w: Float[Tensor, "*stack out in"], rescale: bool = True
) -> Float[Tensor, "*stack out in"]:
    """The part of each matrix g that is orthogonal to its w, by default as long as g.

    Args:
        g: Gradients.
        w: Weights; where they are all zero, g is returned.
        rescale: Whether to give the result the length of g.

    Returns:
        g_⊥ or ‖g‖ g_⊥ / ‖g_⊥‖; zero where g is parallel to w up to rounding.

    >>> perpendicular(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])).tolist()
    [[0.0, 5.0]]
    """
    tiny = torch.finfo(g.dtype).tiny
    part = g - _inner(w, g) / _inner(w, w).clamp_min(tiny) * w
    if not rescale:
        return part
    length, left = _inner(g, g).sqrt(), _inner(part, part).sqrt()
    scale = torch.where(left <= _ROUNDING * torch.finfo(g.dtype).eps * length, 0.0, length / left.clamp_min(tiny))
    return part * scale


class PerpGrad(PerMemberLR):
    """A stock optimizer fed with rescaled perpendicular gradients, each member with its own learning rate.

    Args:
        params: Parameters (*stack, out, in), or groups of them; a stacked bias needs a matrix shape too, (*stack, 1, out).
        optimizer_class: One of `lib.optimizers.per_member_lr.SUPPORTED`.
        lr: A number, or a tensor with one dimension per stack dimension, each of that size or 1.
        options: Further arguments of `optimizer_class`; weight decay must be 0.

    Raises:
        ValueError: A parameter with fewer than two dimensions, or as `PerMemberLR`.

    >>> W = torch.nn.Parameter(torch.tensor([[2.0, 0.0]]))
    >>> optimizer = PerpGrad([W], torch.optim.SGD, lr=0.1)
    >>> W.grad = torch.tensor([[3.0, 4.0]])
    >>> optimizer.step()
    >>> W.tolist()
    [[2.0, -0.5]]
    """

    def check_group(self, group: dict[str, Any]) -> None:
        """Checks the settings and shapes of one group."""
        for p in group["params"]:
            if p.ndim < 2:
                raise ValueError(
                    f"params must have at least two dimensions (*stack, out, in), got shape {tuple(p.shape)}"
                )
        super().check_group(group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step along every gradient present, after replacing it by its perpendicular part.

        Args:
            closure: Recomputes loss and gradients, if given.

        Returns:
            What `closure` returned, or None.
        """
        loss = call_with_grad(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad = perpendicular(p.grad, p)
        super().step()
        return loss
