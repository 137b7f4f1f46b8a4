"""Minimise a stack of losses with Adam: the training loop of models that learn from freshly drawn prompts."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from lib.evaluation import Log
from lib.progress import progress


def minimise(
    loss: Callable[[int], Tensor],
    parameters: Iterable[Parameter],
    n_steps: int,
    *,
    lr: float,
    warm_up: int = 0,
    final: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    clip: float | None = None,
    n_stack: int = 1,
    evaluate: Callable[[], Tensor] | None = None,
    log_steps: Sequence[int] = (),
    label: str = "training",
) -> dict[str, Tensor]:
    """Train in place; the losses are summed, so that every member of the stack descends on its own.

    Args:
        loss: Takes the step's number, 0…n_steps-1, draws its data and returns one loss per member, (*stack).
        parameters: Tensors (*stack, …); Adam acts on each entry alone, so members do not meet in it either.
        n_steps: Steps.
        lr: Peak learning rate. It rises linearly over `warm_up` steps and falls linearly to `final` times the peak.
        warm_up: Steps of the rise.
        final: Last learning rate over the peak; 1 keeps it constant.
        betas: Of Adam.
        clip: Largest norm of one member's gradient over all its parameters; None does not clip.
        n_stack: Leading axes of every parameter that number the members.
        evaluate: Returns a tensor about the model as it is; called without gradients.
        log_steps: Numbers of steps done at which to evaluate, increasing; 0 is before the first step.
        label: Name of the progress bar.

    Returns:
        ``"loss"`` (n_steps, *stack), each before its step; ``"log"`` (len(log_steps), …), if there is something
        to evaluate.

    Raises:
        ValueError: Fewer than one step, a learning rate or clip that is not positive, or `log_steps` that do not
            increase within 0…n_steps.
        FloatingPointError: A loss that is not finite: the learning rate is too high, and Adam would spread NaN.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; it must be at least 1")
    if not lr > 0 or (clip is not None and not clip > 0):
        raise ValueError(f"lr and clip are {lr} and {clip}; they must be positive")
    log = Log(evaluate, log_steps, n_steps)
    weights = list(parameters)
    # One vector, of which the parameters are views: for small models Adam's bookkeeping per tensor is half a step's time.
    vector = Parameter(torch.cat([w.detach().flatten() for w in weights]))
    for w, part in zip(weights, vector.detach().split([w.numel() for w in weights]), strict=True):
        w.data = part.view_as(w)
    adam = torch.optim.Adam([vector], lr=lr, betas=betas, fused=True)
    losses = torch.empty(0)
    log.after(0)
    for step in progress(range(n_steps), label):
        fall = 1 - (1 - final) * max(step - warm_up, 0) / max(n_steps - 1 - warm_up, 1)
        adam.param_groups[0]["lr"] = lr * min((step + 1) / max(warm_up, 1), fall)
        member_losses = loss(step)
        gradients = torch.autograd.grad(member_losses.sum(), weights)
        if clip is not None:
            gradients = clipped(gradients, clip, n_stack)
        vector.grad = torch.cat([g.flatten() for g in gradients])
        adam.step()
        if step == 0:  # in one piece: a small tensor kept from every step would leave holes all over the heap
            losses = member_losses.new_empty(n_steps, *member_losses.shape)
        losses[step] = member_losses.detach()
        # Looking at every loss would stop a GPU at every step.
        if step % 100 == 99 or step == n_steps - 1:
            _check_finite(losses[max(step - 99, 0) : step + 1], step, lr)
        log.after(step + 1)
    return {"loss": losses} | log.results()


def clipped(gradients: Sequence[Tensor], clip: float, n_stack: int = 1) -> list[Tensor]:
    """Gradients scaled so that no member's norm over all its parameters exceeds `clip`."""
    squares = [g.square().reshape(*g.shape[:n_stack], -1).sum(-1) for g in gradients]
    scale = (clip / torch.stack(squares).sum(0).sqrt().clamp_min(1e-30)).clamp_max(1.0)
    return [g * scale.reshape(scale.shape + (1,) * (g.ndim - n_stack)) for g in gradients]


def _check_finite(losses: Tensor, step: int, lr: float) -> None:
    if not losses.isfinite().all():
        raise FloatingPointError(
            f"a loss is no longer finite by step {step}, at learning rate {lr}; take a smaller lr or a smaller clip"
        )
