"""Minimise a stack of losses with any optimizer: the training loop of layers on fixed data, or on batches of it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lib.evaluation import Log
from lib.progress import progress


def descend(
    loss: Callable[[int], Tensor],
    optimizer: Optimizer,
    n_steps: int,
    *,
    scheduler: LRScheduler | None = None,
    evaluate: Callable[[], Tensor] | None = None,
    log_steps: Sequence[int] = (),
    label: str = "training",
) -> dict[str, Tensor]:
    """Train in place; the losses are summed, so that every member of the stack descends on its own.

    Args:
        loss: Takes the step's number, 0…n_steps-1, and returns one loss per member, (*stack). A function of that number
            and the parameters alone: rules that search evaluate it more than once per step.
        optimizer: Steps the parameters; it is given the losses, which Polyak's rule and line searches need.
        n_steps: Steps.
        scheduler: Sets the optimizer's learning rates between steps.
        evaluate: Returns a tensor about the model as it is; called without gradients.
        log_steps: Numbers of steps done at which to evaluate, increasing; 0 is before the first step.
        label: Name of the progress bar.

    Returns:
        ``"loss"`` (n_steps, *stack), each before its step, not finite from where a member diverged (in a grid of learning
        rates some do, and the others go on); ``"log"`` (len(log_steps), …), if there is something to evaluate.

    Raises:
        ValueError: Fewer than one step, or `log_steps` that do not increase within 0…n_steps.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; it must be at least 1")
    log = Log(evaluate, log_steps, n_steps)
    losses = torch.empty(0)
    log.after(0)
    for step in progress(range(n_steps), label):

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            member_losses = loss(step)
            member_losses.sum().backward()
            return member_losses.detach()

        before = optimizer.step(closure)
        if scheduler is not None:
            scheduler.step()
        if step == 0:  # in one piece: a small tensor kept from every step would leave holes all over the heap
            losses = before.new_empty(n_steps, *before.shape)
        losses[step] = before
        log.after(step + 1)
    return {"loss": losses} | log.results()
