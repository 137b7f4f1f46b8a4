r"""The parts that transformers and their rivals share: how their weights are drawn, and their layers on stacked weights.

Weights are dictionaries of parameters (*stack, …) by name; a layer "x" has a matrix "x_W" (out, in) and a bias "x_b".
The layers below work on weights with one axis of members, see `members`, so that every product is a batched matrix product.

    linear            W x + b
    linear_of_norm    W norm(x) + b,   norm(x) = scale ⊙ (x - mean) / deviation + shift      ("x_W" and "x_b" of the norm)
    causal_attention  softmax(q kᵀ / √size + mask) v, head by head

Source: Radford et al. 2019 (GPT-2) for the start: N(0, 0.02²), biases zero, norms one.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lib.models.initialisation import stacked_draws

INIT_STD = 0.02  # GPT-2's
MLP_RATIO = 4  # GPT-2's


def require_sizes(sizes: Mapping[str, int], width: int, n_heads: int) -> None:
    """Refuse sizes below one, and heads that do not divide the width."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")
    if width % n_heads:
        raise ValueError(f"n_heads is {n_heads}; it must divide the width {width} (so 1…{width})")


class Draws:
    """Draws the weights of one kind of model, stacked over seeds.

    Args:
        kind: Of the model; each name of a weight has its own stream within it.
        seeds: One member per seed.
        n_copies: If given, that many identical copies in a new leading axis.
    """

    def __init__(self, kind: str, seeds: Sequence[int], n_copies: int | None = None) -> None:
        self.kind, self.seeds, self.n_copies = kind, seeds, n_copies
        self.stack = (len(seeds),) if n_copies is None else (n_copies, len(seeds))

    def normal(self, name: str, *shape: int, std: float = INIT_STD) -> nn.Parameter:
        """Independent normal entries."""
        draw = lambda g: std * torch.randn(shape, generator=g)  # noqa: E731
        return stacked_draws(draw, self.seeds, f"{self.kind}: {name}", self.n_copies)

    def filled(self, value: float, *shape: int) -> nn.Parameter:
        """The same number everywhere."""
        return nn.Parameter(torch.full((*self.stack, *shape), value))

    def linear(self, name: str, n_from: int, n_to: int, std: float = INIT_STD) -> dict[str, nn.Parameter]:
        """A matrix and a bias of zero."""
        return {f"{name}_W": self.normal(name, n_to, n_from, std=std), f"{name}_b": self.filled(0.0, n_to)}

    def norm(self, name: str, width: int) -> dict[str, nn.Parameter]:
        """A scale of one and a shift of zero."""
        return {f"{name}_W": self.filled(1.0, width), f"{name}_b": self.filled(0.0, width)}


def members(weights: nn.ParameterDict, n_stack: int) -> dict[str, Tensor]:
    """The weights with their first `n_stack` axes as one."""
    return {name: w.flatten(0, n_stack - 1) for name, w in weights.items()}


def linear(
    weights: Mapping[str, Tensor], name: str, xs: Float[Tensor, "member n n_from"]
) -> Float[Tensor, "member n n_to"]:
    """W x + b of every row."""
    return torch.baddbmm(weights[f"{name}_b"][:, None], xs, weights[f"{name}_W"].mT)


def linear_of_norm(
    weights: Mapping[str, Tensor], name: str, norm: str, xs: Float[Tensor, "member n width"]
) -> Float[Tensor, "member n n_to"]:
    """W norm(x) + b; a layer without a bias has none added.

    The norm's scale and shift act on the weights, which are smaller than what the weights act on.
    """
    W, scale, shift = weights[f"{name}_W"], weights[f"{norm}_W"], weights[f"{norm}_b"]
    bias = (W @ shift[..., None])[..., 0]
    if f"{name}_b" in weights:
        bias = weights[f"{name}_b"] + bias
    return torch.baddbmm(bias[:, None], F.layer_norm(xs, xs.shape[-1:]), (W * scale[:, None]).mT)


def split_heads(
    qkv: Float[Tensor, "member rows thrice_width"], n_heads: int, time: int
) -> Float[Tensor, "3 sequence head time size"]:
    """Queries, keys and values of every sequence and head, from rows that run over sequences and their time steps."""
    return qkv.reshape(-1, time, 3, n_heads, qkv.shape[-1] // (3 * n_heads)).permute(2, 0, 3, 1, 4)


def causal_attention(
    qkv: Float[Tensor, "member rows thrice_width"],
    n_heads: int,
    time: int,
    mask: Float[Tensor, "sequence head time time"] | None = None,
) -> Float[Tensor, "member rows width"]:
    """What the heads read, side by side; a mask that is added to the scores must itself be causal."""
    mixed = F.scaled_dot_product_attention(*split_heads(qkv, n_heads, time), attn_mask=mask, is_causal=mask is None)
    return mixed.transpose(1, 2).reshape(qkv.shape[0], qkv.shape[1], -1)
