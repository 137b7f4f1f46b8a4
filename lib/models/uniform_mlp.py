r"""Multilayer perceptron as `torch.nn.Linear` starts it, with or without biases, stacked; reads vectors or residues.

    f(x) = W_L φ(… φ(W_1 x + b_1) …) + b_L,        φ(z) = max(z, 0);        all entries start uniform on ±1/√in

| symbol | code        | shape                                                             |
|--------|-------------|-------------------------------------------------------------------|
| W_l    | `weights`   | (*stack, out, in); the stack is (seed,) or (copy, seed)           |
| b_l    | `biases`    | (*stack, 1, out); empty without biases                            |
| x      | `xs`        | (seed, n, in), or `Pairs` (seed, n), read as two one-hot vectors  |

On pairs W_1 x is W_1[:, a] + W_1[:, p + b]: two columns are gathered and added, and nothing is multiplied by zero.

Source: Prieto et al. 2025, arXiv 2501.04697 (two hidden layers of 200, no biases for residues); the start is PyTorch's.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from lib.models.initialisation import stacked_draws
from lib.tasks.modular_arithmetic import Pairs


class UniformMLP(nn.Module):
    """A stack of ReLU networks.

    Args:
        widths: Input width (2p for pairs), hidden widths, number of classes.
        seeds: One network per seed, each drawn from its own generators.
        n_copies: If given, that many identical copies in a new leading axis, e.g. one per loss.
        bias: Whether layers have biases.

    Raises:
        ValueError: Fewer than two widths, or a width below 1.

    >>> UniformMLP([10, 8, 5], seeds=[0, 1], n_copies=3)(torch.ones(2, 7, 10)).shape
    torch.Size([3, 2, 7, 5])
    """

    def __init__(
        self, widths: Sequence[int], seeds: Sequence[int], n_copies: int | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths is {list(widths)}; it must hold at least two numbers, all at least 1")
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layer, (n_in, n_out) in enumerate(pairwise(widths)):

            def draw(generator: Generator, shape: tuple[int, int], n_in: int = n_in) -> Tensor:
                return (2 * torch.rand(shape, generator=generator) - 1) * n_in**-0.5

            for name, kept, shape in (("weights", True, (n_out, n_in)), ("biases", bias, (1, n_out))):
                if kept:
                    drawn = stacked_draws(
                        lambda g, shape=shape, draw=draw: draw(g, shape), seeds, f"{name} of layer {layer}", n_copies
                    )
                    getattr(self, name).append(drawn)

    def forward(self, xs: Float[Tensor, "*data n d"] | Pairs) -> Float[Tensor, "*stack n n_classes"]:
        """Logits of every member, a row per input."""
        return uniform_mlp(list(self.weights), list(self.biases), xs)


def uniform_mlp(
    weights: Sequence[Float[Tensor, "*stack _ _"]],
    biases: Sequence[Float[Tensor, "*stack 1 _"]],
    xs: Float[Tensor, "*data n d"] | Pairs,
) -> Float[Tensor, "*stack n n_classes"]:
    """Logits of networks whose weights are given, see `UniformMLP`.

    Raises:
        ValueError: Pairs for a first layer whose input is not 2p wide for any p.
    """
    for layer, W in enumerate(weights):
        hs = read_pairs(W, xs) if isinstance(xs, Pairs) else xs @ W.mT
        if biases:
            hs = hs + biases[layer]
        xs = torch.relu(hs) if layer < len(weights) - 1 else hs
    return xs


def read_pairs(W: Float[Tensor, "*stack out d"], pairs: Pairs) -> Float[Tensor, "*stack n out"]:
    """W x for every pair, x the two one-hot vectors side by side.

    Raises:
        ValueError: The width of the input is odd.
    """
    *stack, n_out, n_in = W.shape
    if n_in % 2:
        raise ValueError(f"the first layer reads {n_in} inputs; two one-hot vectors have an even number")
    n_members = W[..., 0, 0].numel()
    columns = torch.stack([pairs.a, pairs.b + n_in // 2], -1).expand(*stack, -1, -1).reshape(n_members, -1)
    rows = columns + n_in * torch.arange(n_members, device=W.device)[:, None]
    table = W.mT.reshape(-1, n_out)
    return _SumOfRows.apply(table, rows.reshape(-1, 2)).reshape(*stack, -1, n_out)


class _SumOfRows(torch.autograd.Function):
    """`embedding_bag`, with a backward pass that adds rows where they belong: several times as fast as the stock one."""

    @staticmethod
    def forward(ctx, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = table.shape
        return F.embedding_bag(rows, table, mode="sum")

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        slopes = upstream.new_zeros(ctx.shape)
        for column in rows.unbind(-1):
            slopes.index_add_(0, column, upstream)
        return slopes, None
