r"""Sharpness of a minimum: how much the loss rises when the weights are perturbed, on average or in the worst case.

    S_avg(w, c) = E_{δ ~ N(0, ρ² diag(c²))} L(w + δ) - L(w)
    S_max(w, c) = max { L(w + δ) : ‖δ / c‖_p ≤ ρ } - L(w),         p = 2 or ∞

With c = 1 sharpness is *standard*, with c = |w| it is *adaptive*: scaling one layer up and the next one down by the same
factor leaves it as it was. Both are written in z = δ / (ρ c): z is a standard normal vector, or lies in the unit ball of the
norm p. For small ρ and a minimum, S_avg = ρ²/2 tr(C H C) and, with p = 2, S_max = ρ²/2 λ_max(C H C), where C = diag(c).

Source: Andriushchenko et al. 2023, arXiv 2302.07011; Kwon et al. 2021, arXiv 2102.11600 (adaptive sharpness). The paper
climbs with Auto-PGD (Croce and Hein 2020), which halves its step when progress stalls; here the step falls linearly, from
2 ρ as there. With p = ∞ that first step jumps to the best corner of the linearised problem.

| paper     | code      | shape                                              |
|-----------|-----------|----------------------------------------------------|
| w         | `weights` | list of (*stack, …)                                |
| c         | `scales`  | the same shapes                                    |
| ρ         | `radius`  |                                                    |
| δ / (ρ c) | `z`       | the same shapes; draws are shared by all members   |
| L         | `loss`    | takes the list of weights, returns one value each, (*stack) |

Draws do not depend on the stack, so that members are compared under the same noise, and alone as in company.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

Loss = Callable[[list[Tensor]], Tensor]


def scales_of(weights: Sequence[Tensor], kind: str) -> list[Tensor]:
    """The scales c of perturbations: ones ("standard") or the weights' absolute values ("adaptive").

    Raises:
        ValueError: An unknown kind.
    """
    if kind not in ("standard", "adaptive"):
        raise ValueError(f"kind is {kind!r}; it must be 'standard' or 'adaptive'")
    return [w.abs() if kind == "adaptive" else torch.ones_like(w) for w in weights]


def normalised_logits(logits: Float[Tensor, "*n k"]) -> Float[Tensor, "*n k"]:
    """Every row centred and divided by its norm, so that scaling the whole network changes nothing.

    >>> normalised_logits(torch.tensor([[0.0, 3.0, 6.0, 3.0]])).round(decimals=3)
    tensor([[-0.7070,  0.0000,  0.7070,  0.0000]])
    """
    centred = logits - logits.mean(-1, keepdim=True)
    return centred / centred.norm(dim=-1, keepdim=True).clamp_min(1e-10)


def average_case(
    loss: Loss,
    weights: Sequence[Tensor],
    scales: Sequence[Tensor],
    radius: float,
    *,
    n_stack: int,
    n_pairs: int,
    generator: Generator,
) -> Tensor:
    """Average-case sharpness by Monte Carlo, with pairs ±δ: they cancel what is linear in δ, which only adds noise.

    Args:
        loss: One value per member.
        weights: Parameters, leading axes the stack.
        scales: c, see `scales_of`.
        radius: ρ.
        n_stack: How many leading axes are the stack.
        n_pairs: Pairs of draws.
        generator: Source of the draws.

    Returns:
        One estimate per member.

    Raises:
        ValueError: A radius that is not positive, or no pair.
    """
    _check(radius, "n_pairs", n_pairs)
    with torch.no_grad():
        total = torch.zeros_like(start := loss(list(weights)))
        for _ in range(n_pairs):
            z = [torch.randn(w.shape[n_stack:], generator=generator).to(w) for w in weights]
            for sign in (radius, -radius):
                total += loss([w + sign * c * part for w, c, part in zip(weights, scales, z, strict=True)])
        return total / (2 * n_pairs) - start


def worst_case(
    loss: Loss,
    weights: Sequence[Tensor],
    scales: Sequence[Tensor],
    radius: float,
    *,
    norm: str,
    n_stack: int,
    n_steps: int,
    generator: Generator,
) -> Tensor:
    """Worst-case sharpness by projected gradient ascent from a random point of the ball; the best point met counts.

    Args:
        loss: One value per member.
        weights: Parameters, leading axes the stack.
        scales: c, see `scales_of`.
        radius: ρ.
        norm: "l2" or "linf", of the whole vector δ / c.
        n_stack: How many leading axes are the stack.
        n_steps: Steps of ascent.
        generator: Source of the start.

    Returns:
        One value per member, a lower bound of the true maximum; at least 0. Ascent can end at a maximum that is only local.

    Raises:
        ValueError: An unknown norm, a radius that is not positive, or no step.
    """
    _check(radius, "n_steps", n_steps)
    if norm not in ("l2", "linf"):
        raise ValueError(f"norm is {norm!r}; it must be 'l2' or 'linf'")

    def length(parts: Sequence[Tensor]) -> Tensor:
        return sum(part.square().flatten(n_stack).sum(-1) for part in parts).sqrt().clamp_min(1e-30)

    def spread(values: Tensor, part: Tensor) -> Tensor:
        return values.reshape(values.shape + (1,) * (part.ndim - n_stack))

    def project(parts: list[Tensor]) -> list[Tensor]:
        if norm == "linf":
            return [part.clamp(-1, 1) for part in parts]
        shrink = length(parts).clamp_min(1.0)
        return [part / spread(shrink, part) for part in parts]

    draws = [torch.randn(w.shape[n_stack:], generator=generator).to(w) for w in weights]
    z = [draw.expand(w.shape) for draw, w in zip(draws, weights, strict=True)]
    z = [part / spread(length(z), part) for part in z] if norm == "l2" else [part.sign() * 0.5 for part in z]
    weights = [w.detach() for w in weights]
    with torch.no_grad():
        best = start = loss(weights)
    for step in range(n_steps + 1):
        moved = [(w + radius * c * part).requires_grad_() for w, c, part in zip(weights, scales, z, strict=True)]
        values = loss(moved)
        best = torch.maximum(best, values.detach())
        if step == n_steps:
            break
        slopes = [g * c for g, c in zip(torch.autograd.grad(values.sum(), moved), scales, strict=True)]
        size = 2 * (1 - step / n_steps)
        if norm == "linf":
            z = project([part + size * slope.sign() for part, slope in zip(z, slopes, strict=True)])
        else:
            steepness = length(slopes)
            z = project([part + size * slope / spread(steepness, slope) for part, slope in zip(z, slopes, strict=True)])
    return best - start


def _check(radius: float, name: str, count: int) -> None:
    if not radius > 0:
        raise ValueError(f"radius is {radius}; it must be positive")
    if count < 1:
        raise ValueError(f"{name} is {count}; it must be at least 1")
