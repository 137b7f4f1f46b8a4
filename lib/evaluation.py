"""What training loops log: an evaluation at chosen numbers of steps."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor


class Log:
    """Evaluates a model in training when it is due.

    Args:
        evaluate: Returns a tensor about the model as it is; called without gradients. None logs nothing.
        log_steps: Numbers of steps done at which to evaluate, increasing; 0 is before the first step.
        n_steps: Steps of the training.

    Raises:
        ValueError: `log_steps` do not increase within 0…n_steps.

    >>> log = Log(lambda: torch.ones(2), log_steps=[0, 3], n_steps=3)
    >>> for n_done in range(4):
    ...     log.after(n_done)
    >>> log.results()["log"].shape
    torch.Size([2, 2])
    """

    def __init__(self, evaluate: Callable[[], Tensor] | None, log_steps: Sequence[int], n_steps: int) -> None:
        if any(a >= b for a, b in pairwise(log_steps)) or not all(0 <= step <= n_steps for step in log_steps):
            raise ValueError(f"log_steps is {list(log_steps)}; it must increase within 0…{n_steps}")
        self.evaluate, self.due, self.values = evaluate, set(log_steps), []

    def after(self, n_done: int) -> None:
        """To be called before the first step, with 0, and after each."""
        if self.evaluate is not None and n_done in self.due:
            with torch.no_grad():
                self.values.append(self.evaluate())

    def results(self) -> dict[str, Tensor]:
        """``"log"`` (len(log_steps), …), if anything was evaluated."""
        return {"log": torch.stack(self.values)} if self.values else {}
