r"""A small GPT (the pre-norm GPT-2 shape, without dropout) on vectors, with stacked weights.

    h = read_in(token) + position
    h ← h + attention(norm(h));   h ← h + MLP(norm(h)),   MLP = out · GELU · in, four times as wide;   n_layers times
    output = read_out(norm(h))

Source: Radford et al. 2019 (GPT-2); Garg et al. 2022, arXiv 2208.01066, Section 3 and Appendix A (read-in and
read-out on interleaved x and y tokens: see `lib.tasks.in_context_regression.interleaved_tokens`).

| Garg et al.      | code           | their sizes, tiny / small / standard |
|------------------|----------------|--------------------------------------|
| embedding        | `width`        | 64 / 128 / 256                       |
| layers           | `n_layers`     | 3 / 6 / 12                           |
| heads            | `n_heads`      | 2 / 4 / 8                            |

Weights are drawn as GPT-2's: N(0, 0.02²), the two projections back into the residual stream N(0, 0.02²/(2 n_layers)),
biases zero, norms one. Discrete tokens enter as one-hot vectors.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lib.models.blocks import (
    INIT_STD,
    MLP_RATIO,
    Draws,
    causal_attention,
    linear,
    linear_of_norm,
    members,
    require_sizes,
)


class GPT(nn.Module):
    """A stack of causal transformers.

    Args:
        n_in: Size of a token.
        n_out: Size of an output.
        n_positions: Longest sequence of tokens.
        width: Of the residual stream, a multiple of `n_heads`.
        n_layers: Blocks.
        n_heads: Attention heads of a block.
        seeds: One model per seed, each drawn from its own generator.
        n_copies: If given, that many identical copies in a new leading axis, e.g. one per training set.

    Raises:
        ValueError: A size below 1, more heads than the width, or a width that the heads do not divide.

    >>> GPT(n_in=3, n_out=1, n_positions=8, width=8, n_layers=2, n_heads=2, seeds=[0, 1])(torch.ones(2, 5, 6, 3)).shape
    torch.Size([2, 5, 6, 1])
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        n_positions: int,
        width: int,
        n_layers: int,
        n_heads: int,
        seeds: Sequence[int],
        n_copies: int | None = None,
    ) -> None:
        super().__init__()
        sizes = dict(n_in=n_in, n_out=n_out, n_positions=n_positions, width=width, n_layers=n_layers, n_heads=n_heads)
        require_sizes(sizes, width, n_heads)
        self.n_positions, self.n_heads, self.n_layers = n_positions, n_heads, n_layers
        draws = Draws("gpt", seeds, n_copies)
        into_residual = INIT_STD / (2 * n_layers) ** 0.5
        weights = draws.linear("read_in", n_in, width) | {"position": draws.normal("position", n_positions, width)}
        for i in range(n_layers):
            weights |= draws.norm(f"{i}_norm1", width) | draws.linear(f"{i}_qkv", width, 3 * width)
            weights |= draws.linear(f"{i}_attention", width, width, std=into_residual)
            weights |= draws.norm(f"{i}_norm2", width) | draws.linear(f"{i}_up", width, MLP_RATIO * width)
            weights |= draws.linear(f"{i}_down", MLP_RATIO * width, width, std=into_residual)
        self.weights = nn.ParameterDict(weights | draws.norm("norm", width) | draws.linear("read_out", width, n_out))

    @torch.no_grad()
    def scale_start(self, weights: float, read_in: float, position: float) -> None:
        """Multiply the initial weights, for models so narrow that GPT-2's scale leaves them on a plateau for long.

        GPT-2's 0.02 is meant for widths of 768 and more: at width 48 attention starts all but uniform and stays so for
        thousands of steps.

        Args:
            weights: Factor of the blocks' matrices and of the read-out.
            read_in: Factor of the read-in.
            position: Factor of the position embeddings.

        Raises:
            ValueError: A factor that is not positive.
        """
        if not min(weights, read_in, position) > 0:
            raise ValueError(
                f"weights, read_in and position are {weights}, {read_in}, {position}; all must be positive"
            )
        for name, w in self.weights.items():
            if name == "position" or (name.endswith("_W") and "norm" not in name):
                w.mul_({"position": position, "read_in_W": read_in}.get(name, weights))

    def forward(self, tokens: Float[Tensor, "*data batch time n_in"]) -> Float[Tensor, "*both batch time n_out"]:
        """Outputs at every position; each sees itself and what came before.

        Args:
            tokens: Sequences; leading axes broadcast against the stack.

        Raises:
            ValueError: Sequences longer than `n_positions`, or tokens of another size than `n_in`.
        """
        stack, n_in = self.weights["read_in_W"].shape[:-2], self.weights["read_in_W"].shape[-1]
        batch, time = tokens.shape[-3:-1]
        if time > self.n_positions:
            raise ValueError(f"the prompt has {time} tokens; the model has n_positions = {self.n_positions}")
        if tokens.shape[-1] != n_in:
            raise ValueError(f"tokens have size {tokens.shape[-1]}; the model was made for n_in = {n_in}")
        tokens = tokens.expand(*stack, batch, time, n_in).reshape(-1, batch * time, n_in)
        weights = members(self.weights, len(stack))
        h = linear(weights, "read_in", tokens).unflatten(1, (batch, time)) + weights["position"][:, None, :time]
        h = h.flatten(1, 2)
        for i in range(self.n_layers):
            qkv = linear_of_norm(weights, f"{i}_qkv", f"{i}_norm1", h)
            h = h + linear(weights, f"{i}_attention", causal_attention(qkv, self.n_heads, time))
            h = h + linear(weights, f"{i}_down", F.gelu(linear_of_norm(weights, f"{i}_up", f"{i}_norm2", h)))
        return linear_of_norm(weights, "read_out", "norm", h).reshape(*stack, batch, time, -1)
