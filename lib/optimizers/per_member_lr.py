"""Stock torch optimizers with one learning rate per member of a stack.

`torch.optim.SGD`, `Adam` and their like take one learning rate. Their update is

    W_t = W_{t-1} - eta u_t,      u_t a function of the gradients G_1, ..., G_t alone,

as long as there is no weight decay. So the stock optimizer runs with eta = 1 on a shadow of the parameter
that is zeroed before every step and carries the gradient: afterwards the shadow holds -u_t, and

    W_t = W_{t-1} + eta_member * shadow.

| symbol | code                                  |
|--------|---------------------------------------|
| eta    | `lr`, of the shape of the stack       |
| u      | minus the shadow after the inner step |

Only optimizers with updates of this form are accepted (`SUPPORTED`). Left out are those whose update reads
the parameter or mixes its entries, or in which the learning rate enters the state: Adafactor, ASGD, LBFGS,
Rprop; and Muon, which takes single matrices and has a stacked version here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import optim
from torch.optim.optimizer import Optimizer, ParamsT

from lib.optimizers.base import CheckedOptimizer, LearningRate, call_with_grad, check_lr, expand_lr

SUPPORTED = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.NAdam,
    optim.RAdam,
    optim.Adamax,
    optim.Adagrad,
    optim.Adadelta,
    optim.RMSprop,
)


class PerMemberLR(CheckedOptimizer):
    """Runs a stock optimizer on a stack of parameters, each member with its own learning rate.

    Args:
        params: Parameters whose leading dimensions are the stack, or groups of them.
        optimizer_class: One of `SUPPORTED`.
        lr: A number, or a tensor with one dimension per stack dimension, each of that size or 1.
        options: Further arguments of `optimizer_class`; its `weight_decay`, if it has one, must be 0.

    Raises:
        ValueError: Unsupported `optimizer_class`, weight decay, bad `lr`, or options that the class refuses.

    >>> W = torch.nn.Parameter(torch.zeros(2, 1, 1))
    >>> optimizer = PerMemberLR([W], torch.optim.SGD, lr=torch.tensor([0.1, 0.2]), momentum=0.9)
    >>> W.sum().backward()
    >>> optimizer.step()
    >>> W.flatten().tolist()
    [-0.10000000149011612, -0.20000000298023224]
    """

    def __init__(self, params: ParamsT, optimizer_class: type[Optimizer], lr: LearningRate, **options: Any) -> None:
        if optimizer_class not in SUPPORTED:
            names = ", ".join(c.__name__ for c in SUPPORTED)
            raise ValueError(f"optimizer_class must be one of {names}, got {optimizer_class.__name__}")
        self._make_inner = partial(optimizer_class, lr=1.0, **options)
        self._inner: list[Optimizer] = []
        # A throw-away instance checks the options and knows their defaults.
        super().__init__(params, {**self._make_inner([torch.zeros(1)]).defaults, "lr": lr})

    def check_group(self, group: dict[str, Any]) -> None:
        """Checks the settings and shapes of one group."""
        check_lr(group["lr"])
        if group.get("weight_decay", 0) != 0:
            raise ValueError(f"weight_decay must be 0, got {group['weight_decay']}")
        for p in group["params"]:
            expand_lr(group["lr"], p, _n_stack(group["lr"]))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters and its inner optimizer.

        Args:
            param_group: `params` and any setting that differs from the defaults.

        Raises:
            ValueError: As for the class.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        shadows = [torch.zeros_like(p) for p in group["params"]]
        inner = self._make_inner([{"params": shadows, **_inner_options(group)}])
        # Adagrad makes its state at once, the others at the first step.
        for p, shadow in zip(group["params"], shadows, strict=True):
            if shadow in inner.state:
                self.state[p] = inner.state[shadow]
        self._inner.append(inner)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over state and settings from `state_dict`, as in any torch optimizer.

        Args:
            state_dict: What `state_dict()` of an optimizer with the same groups returned.
        """
        super().load_state_dict(state_dict)
        for group, inner in zip(self.param_groups, self._inner, strict=True):
            for p, shadow in zip(group["params"], inner.param_groups[0]["params"], strict=True):
                inner.state.pop(shadow, None)
                if p in self.state:
                    inner.state[shadow] = self.state[p]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step along every gradient present.

        Args:
            closure: Recomputes loss and gradients, if given.

        Returns:
            What `closure` returned, or None.
        """
        loss = call_with_grad(closure)
        for group, inner in zip(self.param_groups, self._inner, strict=True):
            pairs = list(zip(group["params"], inner.param_groups[0]["params"], strict=True))
            for p, shadow in pairs:
                shadow.zero_()
                shadow.grad = p.grad
            inner.param_groups[0].update(_inner_options(group))
            inner.step()
            for p, shadow in pairs:
                shadow.grad = None
                if p.grad is not None:
                    self.state[p] = inner.state[shadow]
                    p.addcmul_(expand_lr(group["lr"], p, _n_stack(group["lr"])), shadow)
        return loss


def _n_stack(lr: LearningRate) -> int:
    """Number of stack dimensions that a learning rate speaks of."""
    return lr.ndim if isinstance(lr, torch.Tensor) else 0


def _inner_options(group: dict[str, Any]) -> dict[str, Any]:
    """The group's settings as the inner optimizer takes them, with lr = 1."""
    return {k: v for k, v in group.items() if k not in ("params", "param_names")} | {"lr": 1.0}
