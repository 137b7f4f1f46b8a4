r"""Adversarial training of stacked classifiers: every step on the worst inputs that projected gradient ascent finds.

    min_θ E max_{‖δ‖ ≤ ε} ℓ(f_θ(x + δ), y),      δ ← Π(δ + η v),      v the ascent direction of unit size in the norm

Source: Madry et al. 2018, arXiv 1706.06083, equation 2.1; Shah et al. 2021, arXiv 2102.12781, use it for robust models.

| papers          | code      | meaning                                                  |
|-----------------|-----------|----------------------------------------------------------|
| ε               | `radius`  | size of the ball, in the norm                            |
| ‖·‖             | `norm`    | "l2" or "linf"                                           |
| η               |           | `step` · ε                                               |
| v               | `_steepest` | g / ‖g‖ in l2, sign(g) in linf                         |
| Π               | `_project`| the nearest point of the ball                            |

Members of a stack see perturbations of their own. The ascent starts at the input itself.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.models.linear import cross_entropy
from lib.progress import progress

NORMS = ("l2", "linf")


def _check(radius: float, norm: str) -> None:
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; it must be one of {', '.join(NORMS)}")
    if not radius >= 0:
        raise ValueError(f"radius is {radius}; it must not be negative")


def _steepest(g: Tensor, norm: str) -> Tensor:
    return g.sign() if norm == "linf" else g / g.norm(dim=-1, keepdim=True).clamp_min(1e-30)


def _project(delta: Tensor, radius: float, norm: str) -> Tensor:
    if norm == "linf":
        return delta.clamp(-radius, radius)
    return delta * (radius / delta.norm(dim=-1, keepdim=True).clamp_min(1e-30)).clamp_max(1)


def worst_inputs(
    model: nn.Module,
    xs: Float[Tensor, "seed n d"],
    ys: Int[Tensor, "seed n"],
    *,
    radius: float,
    norm: str,
    n_steps: int,
    step: float = 0.5,
    bounds: tuple[float, float] | None = None,
) -> Float[Tensor, "seed n d"]:
    """Inputs in the ball around the given ones at which the cross-entropy is large.

    Args:
        model: Stacked over seeds.
        xs: Inputs.
        ys: Their classes.
        radius: ε; with 0 the inputs come back as they are.
        norm: "l2" or "linf".
        n_steps: Steps of ascent.
        step: Length of a step, in units of ε.
        bounds: Least and greatest value of an input, if there are any.

    Raises:
        ValueError: An unknown norm or a negative radius.
    """
    _check(radius, norm)
    if radius == 0:
        return xs
    delta = torch.zeros_like(xs)
    for _ in range(n_steps):
        at = (xs + delta).requires_grad_()
        loss = cross_entropy(model(at), ys).sum() * xs.shape[-2]  # of the points' sum: means would make gradients tiny
        (g,) = torch.autograd.grad(loss, at)
        delta = _project(delta + step * radius * _steepest(g, norm), radius, norm)
        if bounds is not None:
            delta = (xs + delta).clamp(*bounds) - xs
    return xs + delta


def adversarial_train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    xs: Float[Tensor, "seed n d"],
    ys: Int[Tensor, "seed n"],
    batches: Int[Tensor, "step seed batch"],
    *,
    radius: float,
    norm: str,
    n_steps: int,
    step: float = 0.5,
    bounds: tuple[float, float] | None = None,
    label: str = "training",
) -> Float[Tensor, "step seed"]:
    """Train a stack in place on the worst inputs; radius 0 is ordinary training.

    The radius grows linearly over the first quarter of the steps: from the start at full size it can keep a network at
    chance.

    Args:
        model, xs, ys, radius, norm, n_steps, step, bounds: As for `worst_inputs`.
        optimizer: Steps the model's parameters.
        batches: Points of each step, see `lib.train.minibatches`.
        label: Name of the progress bar.

    Returns:
        The loss on each minibatch of worst inputs.

    Raises:
        ValueError: As `worst_inputs`.
    """
    _check(radius, norm)
    rows, losses = torch.arange(len(xs), device=xs.device)[:, None], []
    weights: Sequence[Tensor] = list(model.parameters())
    for i, batch in enumerate(progress(batches.to(xs.device), label), start=1):
        now = radius * min(1.0, 4 * i / len(batches))
        y = ys[rows, batch]
        x = worst_inputs(model, xs[rows, batch], y, radius=now, norm=norm, n_steps=n_steps, step=step, bounds=bounds)
        loss = cross_entropy(model(x), y)
        for w, g in zip(weights, torch.autograd.grad(loss.sum(), weights), strict=True):
            w.grad = g
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)
