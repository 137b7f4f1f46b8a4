r"""Steps along the whole gradient whose length comes from its norm or from the loss: normalised GD, Polyak, line search.

    W_t = W_{t-1} - s_t G_t,      one length s_t per member, for all its parameters together

| class               | length s_t                                                                         |
|---------------------|------------------------------------------------------------------------------------|
| `JointNormalizedGD` | η / ‖G‖; with minibatches: stochastic NGD                                          |
| `Polyak`            | min(η (L - L*) / ‖G‖², s_max)                                                      |
| `Armijo`            | first of 2 s_{t-1}, s_{t-1}, s_{t-1} / 2, … with L(W - s G) ≤ L - c s ‖G‖²         |

Sources: Polyak 1969; Loizou et al. 2021, arXiv 2002.10542 (SPS_max: minibatches, η = 1/c); Armijo 1966; Vaswani et al. 2019,
arXiv 1905.09997 (line search with minibatches and steps that may grow again).

| symbol | code                                                                    |
|--------|-------------------------------------------------------------------------|
| L      | what the closure returns, one loss per member: `step(closure)` needs it |
| L*     | `minimum`                                                               |
| ‖G‖    | `norm`, over all parameters of a group, per member; never its square, which underflows long before it |
| η      | `lr`, a number, or a tensor with one entry per member                   |
| s_max  | `max_length`                                                            |
| c      | `decrease`                                                              |

Where variants differ: `NormalizedGD` in steepest_descent.py takes the norm of every matrix alone; for one matrix the two
agree. ALI-G (Berrada et al. 2020) is Polyak's step with L* = 0, η = 1 and a small number added to ‖G‖². A gradient of
zero has no direction: such a member stays where it is, whatever the rule says.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lib.optimizers.base import (
    CheckedOptimizer,
    LearningRate,
    call_with_grad,
    check_lr,
    check_range,
    expand_lr,
    power_of_two_below,
)


class GradientStep(CheckedOptimizer):
    """A step along the gradient; subclasses supply its `length`.

    Args:
        params: Parameters (*stack, …), all of one stack, or groups of them.
        lr: η; a number, or a tensor with one dimension per stack dimension.
        n_stack: How many leading dimensions are the stack; None for all but the last two, as in the other optimizers. An
            ordinary model, which has vectors among its parameters, is a stack of 0 dimensions.
        options: What else the subclass reads from a group.

    Raises:
        ValueError: Bad `lr`, or a parameter with too few dimensions or with another stack than the first.
    """

    def __init__(self, params: ParamsT, lr: LearningRate, n_stack: int | None = None, **options: Any) -> None:
        super().__init__(params, {"lr": lr, "n_stack": n_stack, **options})

    def check_group(self, group: dict[str, Any]) -> None:
        """Checks the settings and shapes of one group; subclasses with more settings extend it."""
        check_lr(group["lr"])
        n_stack = group["n_stack"]
        if n_stack is not None and (not isinstance(n_stack, int) or n_stack < 0):
            raise ValueError(f"n_stack must be None or a whole number of at least 0, got {n_stack}")
        for p in group["params"]:
            if p.ndim < (2 if n_stack is None else n_stack):
                raise ValueError(
                    f"params must have at least two dimensions (*stack, out, in), or those of n_stack, "
                    f"got shape {tuple(p.shape)}"
                )
            if stack_of(p, group) != stack_of(group["params"][0], group):
                raise ValueError("params of one group must have one stack: their gradients share a norm")
            expand_lr(group["lr"], p, len(stack_of(p, group)))

    def length(
        self, norm: Float[Tensor, "*stack"], losses: Any, lr: Float[Tensor, "..."], group: dict[str, Any]
    ) -> Float[Tensor, "*stack"]:
        """s, what multiplies the gradient of each member.

        Args:
            norm: ‖G‖ of each member.
            losses: What the closure returned, or None without one.
            lr: η, of the shape of the stack or without dimensions.
            group: The settings.
        """
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step along every gradient present.

        Args:
            closure: Recomputes losses, one per member, and gradients.

        Returns:
            What `closure` returned, or None.

        Raises:
            ValueError: No closure, for a rule that needs the losses.
        """
        losses = call_with_grad(closure)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                norm = gradient_norm(params, group)
                lr = torch.as_tensor(group["lr"], dtype=norm.dtype, device=norm.device)
                s = torch.where(norm == 0, 0, self.length(norm, losses, lr, group))
                for p in params:
                    p.sub_(expand_lr(s, p, s.ndim) * p.grad)
        return losses


def stack_of(p: Tensor, group: dict[str, Any]) -> torch.Size:
    """The stack's sizes."""
    return p.shape[:-2] if group["n_stack"] is None else p.shape[: group["n_stack"]]


def gradient_norm(params: list[Tensor], group: dict[str, Any]) -> Float[Tensor, "*stack"]:
    """‖G‖ over all parameters, per member."""
    flat = torch.cat([p.grad.reshape(*stack_of(p, group), -1) for p in params], dim=-1)
    scale = power_of_two_below(flat.abs().amax(-1))
    return scale * torch.linalg.vector_norm(flat / scale[..., None], dim=-1)


def member_losses(losses: Any, norm: Float[Tensor, "*stack"], rule: str) -> Float[Tensor, "*stack"]:
    """What a closure returned as a tensor.

    Raises:
        ValueError: Nothing was returned, or something else than one loss per member.
    """
    if losses is None:
        raise ValueError(f"{rule} needs the loss: call step(closure) with a closure that returns one loss per member")
    losses = torch.as_tensor(losses, dtype=norm.dtype, device=norm.device).detach()
    if losses.shape != norm.shape:
        raise ValueError(
            f"{rule} needs one loss per member, shape {tuple(norm.shape)}; the closure returned {tuple(losses.shape)}"
        )
    return losses


class JointNormalizedGD(GradientStep):
    """Steps of one length in the norm over all parameters: W <- W - lr G / ‖G‖.

    Args:
        params: Parameters of shape (*stack, out, in).
        lr: Length of a step; a number, or a tensor with one dimension per stack dimension.
        n_stack: As for `GradientStep`.

    Raises:
        ValueError: As for `GradientStep`.
    """

    def length(self, norm: Tensor, losses: Any, lr: Tensor, group: dict[str, Any]) -> Tensor:
        """η / ‖G‖."""
        return lr / norm


class Polyak(GradientStep):
    """Polyak's step: as far as the loss would fall to its minimum if it were linear.

    W <- W - min(lr (L - minimum) / ‖G‖², max_length) G.

    Args:
        params: Parameters of shape (*stack, out, in).
        lr: Factor on the step; 1 is Polyak's own.
        minimum: L*, the least loss; a number, or a tensor with one entry per member.
        max_length: Largest factor on the gradient; with minibatches, whose losses have other minima, it is needed.
        n_stack: As for `GradientStep`.

    Raises:
        ValueError: As for `GradientStep`; a `max_length` that is not positive; a step without closure.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 1.0,
        minimum: float | int | Tensor = 0.0,
        max_length: float | int = float("inf"),
        n_stack: int | None = None,
    ) -> None:
        super().__init__(params, lr, n_stack, minimum=minimum, max_length=max_length)

    def check_group(self, group: dict[str, Any]) -> None:
        """Checks the settings and shapes of one group."""
        super().check_group(group)
        if not group["max_length"] > 0:
            raise ValueError(f"max_length must be positive, got {group['max_length']}")
        minimum = torch.as_tensor(group["minimum"])
        if not minimum.isfinite().all() or minimum.shape not in ((), stack_of(group["params"][0], group)):
            raise ValueError(f"minimum must be a finite number or one per member of the stack, got {minimum.tolist()}")

    def length(self, norm: Tensor, losses: Any, lr: Tensor, group: dict[str, Any]) -> Tensor:
        """η (L - L*) / ‖G‖², at most `max_length`; a loss that rounding puts below L* gives no step."""
        gap = (member_losses(losses, norm, "Polyak's step") - group["minimum"]).clamp_min(0)
        return (lr * (gap / norm) / norm).clamp_max(group["max_length"])


class Armijo(GradientStep):
    """Backtracking line search, one per member: the step doubles from one iteration to the next and is halved until it pays.

    Accepted is s with L(W - s G) ≤ L - decrease · s ‖G‖². The closure must be a function of the parameters alone.

    Args:
        params: Parameters of shape (*stack, out, in), in one group.
        lr: First trial length; a number, or a tensor with one dimension per stack dimension.
        decrease: c in (0, 1), the share of the linear prediction that must come true.
        max_halvings: Trials before a member stays where it is.
        n_stack: As for `GradientStep`.

    Raises:
        ValueError: As for `GradientStep`; a setting outside its range; several groups; a step without closure.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 1.0,
        decrease: float = 0.5,
        max_halvings: int = 50,
        n_stack: int | None = None,
    ) -> None:
        super().__init__(params, lr, n_stack, decrease=decrease, max_halvings=max_halvings)

    def check_group(self, group: dict[str, Any]) -> None:
        """Checks the settings and shapes of one group."""
        super().check_group(group)
        if not 0 < group["decrease"] < 1:
            raise ValueError(f"decrease must be in (0, 1), got {group['decrease']}")
        if not isinstance(group["max_halvings"], int):
            raise ValueError(f"max_halvings must be a whole number, got {group['max_halvings']}")
        check_range("max_halvings", group["max_halvings"], 1)
        if len(self.param_groups) > 1:
            raise ValueError("a line search moves all parameters at once: give them in one group")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Searches along the gradient.

        Args:
            closure: Recomputes losses, one per member, and gradients; called once per trial.

        Returns:
            The losses before the step.

        Raises:
            ValueError: No closure.
        """
        before = call_with_grad(closure)
        (group,) = self.param_groups
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return before
        norm = gradient_norm(params, group)
        losses = member_losses(before, norm, "a line search")
        state = self.state[params[0]]
        lr = torch.as_tensor(group["lr"], dtype=norm.dtype, device=norm.device)
        s = 2 * state["length"] if "length" in state else lr.expand(norm.shape).clone()
        starts, gradients = [p.clone() for p in params], [p.grad.clone() for p in params]
        accepted = norm == 0
        for _ in range(group["max_halvings"]):
            move(params, starts, gradients, s)
            new = member_losses(call_with_grad(closure), norm, "a line search")
            accepted = accepted | (new <= losses - group["decrease"] * (s * norm) * norm)
            if accepted.all():
                break
            s = torch.where(accepted, s, s / 2)
        state["length"] = torch.where(norm == 0, lr, s)
        s = torch.where(accepted & (norm > 0), s, 0.0)
        move(params, starts, gradients, torch.where(losses.isfinite(), s, torch.nan))  # a diverged member shows
        return before


def move(params: list[Tensor], starts: list[Tensor], gradients: list[Tensor], s: Float[Tensor, "*stack"]) -> None:
    """Sets W = start - s G."""
    for p, start, gradient in zip(params, starts, gradients, strict=True):
        p.copy_(start - expand_lr(s, p, s.ndim) * gradient)
