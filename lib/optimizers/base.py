"""What all stacked optimizers share: the step loop, the gradient average and the per-member learning rate.

A parameter of shape (*stack, out, in) holds independent matrices, for example one per learning rate and seed.
Each step does, per matrix, with M_0 = 0,

    M_t = beta M_{t-1} + (1 - beta) G_t,        W_t = W_{t-1} - eta D(M_t),

where the direction D is all that an optimizer adds. Nothing is ever mixed over the stack.

| symbol | code                                                             |
|--------|------------------------------------------------------------------|
| W, G   | parameter `p`, its gradient `p.grad`                             |
| M      | `state["momentum_buffer"]`, an exponential moving average        |
| beta   | `momentum` in [0, 1)                                             |
| eta    | `lr`, a number, or a tensor with one entry per member            |
| D      | `direction`                                                      |

Variants: `torch.optim.SGD` sums the gradients instead, M_t = beta M_{t-1} + G_t. Directions that ignore the
scale of M (sign, Frobenius, spectral) are the same for both; others differ by the factor 1 - beta.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

LearningRate = float | int | Float[Tensor, "..."]


def check_range(name: str, value: float | int, low: float | int, high: float | int = float("inf")) -> None:
    """Checks low <= value < high.

    Args:
        name: The argument's name, for the message.
        value: What was given.
        low: Smallest allowed value.
        high: Excluded upper end.

    Raises:
        ValueError: `value` lies outside [low, high) or is not a number.
    """
    if not low <= value < high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}), got {value}")


def check_lr(lr: LearningRate) -> None:
    """Checks that every learning rate is finite and not negative.

    Args:
        lr: One number, or a tensor with one entry per member of the stack.

    Raises:
        ValueError: An entry is negative, infinite or not a number.
    """
    values = torch.as_tensor(lr)
    if not bool(((values >= 0) & values.isfinite()).all()):
        raise ValueError(f"lr must be in [0, inf), got {lr}")


def expand_lr(lr: LearningRate, p: Float[Tensor, "*shape"], n_stack: int) -> Float[Tensor, "..."]:
    """Brings a learning rate to a shape that multiplies a stacked parameter.

    Args:
        lr: One number, or a tensor with `n_stack` dimensions, each of the parameter's size or 1.
        p: The parameter; its first `n_stack` dimensions are the stack.
        n_stack: How many leading dimensions of `p` count members.

    Returns:
        `lr` with trailing dimensions of size 1 (none for a number), on the device and in the dtype of `p`.

    Raises:
        ValueError: `lr` does not fit the stack.

    >>> expand_lr(torch.tensor([[0.1], [0.2]]), torch.zeros(2, 5, 4, 3), n_stack=2).shape
    torch.Size([2, 1, 1, 1])
    """
    lr = torch.as_tensor(lr, dtype=p.dtype, device=p.device)
    if lr.ndim == 0:
        return lr
    stack = p.shape[:n_stack]
    if lr.ndim != len(stack) or any(n not in (1, size) for n, size in zip(lr.shape, stack, strict=True)):
        raise ValueError(
            f"lr must be a number or have one dimension, of that size or 1, for each dimension of the stack "
            f"{tuple(stack)}, got shape {tuple(lr.shape)} for a parameter of shape {tuple(p.shape)}"
        )
    return lr.reshape(*lr.shape, *[1] * (p.ndim - n_stack))


def finite_matrices(M: Float[Tensor, "*stack m n"]) -> Bool[Tensor, "*stack 1 1"]:
    """Which matrices of a stack hold only finite numbers.

    LAPACK raises on NaN; a member that diverged must not stop its neighbours.

    Args:
        M: Matrices.

    Returns:
        True for a matrix without NaN and infinity.
    """
    return M.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)


def call_with_grad(closure: Callable[[], Any] | None) -> Any:
    """What a step's closure returns, run with gradients although steps run without; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def power_of_two_below(size: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The largest power of two that does not exceed a positive size; 1 for zero.

    Gradients of losses that fall exponentially become so small that their squares underflow (below 1e-162 in float64, 1e-23
    in float32). Divided by a power of two first, nothing underflows and no bit of any quotient changes.

    >>> power_of_two_below(torch.tensor([0.75, 9.0, 0.0]))
    tensor([0.5000, 8.0000, 1.0000])
    """
    mantissa, exponent = torch.frexp(size)
    return torch.where(size == 0, 1, torch.ldexp(torch.ones_like(mantissa), exponent - 1))


class CheckedOptimizer(Optimizer):
    """An optimizer whose groups are checked when they are added; subclasses supply `check_group`."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters, as in any torch optimizer, and checks its settings.

        Args:
            param_group: `params` and any setting that differs from the defaults.

        Raises:
            ValueError: As for the class; the optimizer is left as it was.
        """
        super().add_param_group(param_group)
        try:
            self.check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def check_group(self, group: dict[str, Any]) -> None:
        """Checks the settings and shapes of one group.

        Args:
            group: The group, defaults filled in.

        Raises:
            ValueError: As for the class.
        """
        raise NotImplementedError


class StackedOptimizer(CheckedOptimizer):
    """An optimizer of matrices, stacked over leading dimensions; subclasses supply only `direction`.

    For a schedule set `group["lr"]` between steps; torch's schedulers work with numbers only.

    Args:
        params: Parameters of shape (*stack, out, in), or groups of them as in any torch optimizer. A stacked
            bias needs a matrix shape too: (*stack, out, 1).
        lr: eta; a number, or a tensor with one dimension per stack dimension.
        momentum: beta in [0, 1).
        options: What else the subclass reads from a group.

    Raises:
        ValueError: Bad `lr` or `momentum`, or a parameter with fewer than two dimensions.
    """

    def __init__(self, params: ParamsT, lr: LearningRate, momentum: float | int = 0.0, **options: Any) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, **options})

    def check_group(self, group: dict[str, Any]) -> None:
        """Checks the settings and shapes of one group; subclasses with more settings extend it.

        Args:
            group: The group, defaults filled in.

        Raises:
            ValueError: As for the class.
        """
        check_lr(group["lr"])
        check_range("momentum", group["momentum"], 0, 1)
        for p in group["params"]:
            if p.ndim < 2:
                raise ValueError(
                    f"params must have at least two dimensions (*stack, out, in), got shape {tuple(p.shape)}"
                )
            expand_lr(group["lr"], p, p.ndim - 2)

    def direction(
        self,
        p: Float[Tensor, "*stack out in"],
        M: Float[Tensor, "*stack out in"],
        state: dict[str, Any],
        group: dict[str, Any],
    ) -> Float[Tensor, "*stack out in"]:
        """Returns D, what is subtracted from `p` per unit of learning rate.

        Args:
            p: The parameter, with its gradient in `p.grad`.
            M: Moving average of the gradients; not to be changed.
            state: The optimizer's memory for this parameter.
            group: The settings.
        """
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step along every gradient present.

        Args:
            closure: Recomputes loss and gradients, if given.

        Returns:
            What `closure` returned, or None.
        """
        loss = call_with_grad(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                M = state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                lr = expand_lr(group["lr"], p, p.ndim - 2)
                p.addcmul_(lr, self.direction(p, M, state, group), value=-1)
        return loss
