r"""A one-layer transformer without shortcuts: attention filters the tokens, an MLP stores what to say about them.

    α_t = softmax_{j ≤ t}(A[x_t, x_j]),    z_t = Σ_j α_tj W[x_j],    logits_t = V ReLU(z_t + b) + c

Source: Xu and Chen 2025, arXiv 2508.00901: one layer, self-attention and MLP, orthogonal embeddings. Tokens are one-hot,
so A, which merges keys and queries, is a table over pairs of tokens, and row x of W is where the MLP sends token x: for a
template that is its relation-specific direction. There is no residual stream: what the MLP does not say is not said.

| paper                         | code         | shape                    |
|-------------------------------|--------------|--------------------------|
| attention (key times query)   | `filter`     | (*stack, token, token)   |
| MLP, first layer W            | `store_in`   | (*stack, token, width)   |
| MLP, second layer V           | `store_out`  | (*stack, output, width)  |
| rank-ρ finetuning of W        | `adapter`    | W + left right           |

Variants: `linear=True` leaves ReLU out, which makes it attention alone (a linear map of what attention mixed); a filter
that is not trained stays uniform, since it starts at zero.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.models.initialisation import stacked_draws
from lib.seeds import generator_for


class FilterAndStore(nn.Module):
    """A stack (setting, seed, …) of one-layer transformers.

    Args:
        n_tokens: Input tokens.
        n_outputs: Output tokens.
        width: Neurons of the MLP.
        seeds: One model per seed, each drawn from its own generator.
        n_settings: Identical copies in a leading axis, one per setting.
        start: Standard deviation of the first layer's rows; the second layer's is 1 / sqrt(width).
        linear: Attention alone.

    Raises:
        ValueError: A size below 1, or a start that is not positive.

    >>> model = FilterAndStore(n_tokens=7, n_outputs=5, width=4, seeds=[0, 1], n_settings=3)
    >>> model(torch.zeros(3, 2, 10, 4, dtype=torch.long)).shape
    torch.Size([3, 2, 10, 4, 5])
    """

    def __init__(
        self,
        n_tokens: int,
        n_outputs: int,
        width: int,
        seeds: Sequence[int],
        n_settings: int = 1,
        start: float = 0.1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        sizes = dict(n_tokens=n_tokens, n_outputs=n_outputs, width=width, n_settings=n_settings)
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        if not start > 0:
            raise ValueError(f"start is {start}; it must be positive")
        self.linear = linear

        def normal(name: str, std: float, *shape: int) -> nn.Parameter:
            draw = lambda g: std * torch.randn(shape, generator=g)  # noqa: E731
            return stacked_draws(draw, seeds, f"filter and store: {name}", n_settings)

        stack = (n_settings, len(seeds))
        self.filter = nn.Parameter(torch.zeros(*stack, n_tokens, n_tokens))
        self.store_in = normal("in", start, n_tokens, width)
        self.store_out = normal("out", width**-0.5, n_outputs, width)
        self.bias_in = nn.Parameter(torch.zeros(*stack, width))
        self.bias_out = nn.Parameter(torch.zeros(*stack, n_outputs))
        self.left: nn.Parameter | None = None
        self.right: nn.Parameter | None = None

    def forward(
        self, tokens: Int[Tensor, "*stack batch time"], last: bool = False
    ) -> Float[Tensor, "*stack batch _ output"]:
        """Logits of what follows each token, or with `last` only of what follows the last one (an axis of size 1)."""
        stack, (batch, time) = self.store_in.shape[:-2], tokens.shape[-2:]
        tokens = tokens.reshape(-1, batch, time)
        mixed = (self._weights(tokens, last) @ self._rows(tokens)).flatten(1, 2)
        z = mixed + self.bias_in.flatten(0, -2)[:, None]
        hidden = z if self.linear else z.relu()
        out = self.store_out.flatten(0, -3)
        logits = torch.baddbmm(self.bias_out.flatten(0, -2)[:, None], hidden, out.mT)
        return logits.reshape(*stack, batch, 1 if last else time, -1)

    def attention(self, tokens: Int[Tensor, "*stack batch time"]) -> Float[Tensor, "*stack batch time time"]:
        """Attention weights α; each token sees itself and what came before."""
        batch, time = tokens.shape[-2:]
        return self._weights(tokens.reshape(-1, batch, time), False).reshape(*tokens.shape[:-2], batch, time, time)

    def copies(self, n: int) -> "FilterAndStore":
        """n identical copies in a new leading axis, e.g. one per finetuning set."""
        other = copy.copy(self)
        other._parameters = {
            name: None if p is None else nn.Parameter(p.detach().repeat(n, *[1] * p.ndim))
            for name, p in self._parameters.items()
        }
        return other

    def add_adapter(self, rank: int, seeds: Sequence[int]) -> list[nn.Parameter]:
        """Give the first layer an update of low rank that starts at zero; returns its two factors, to be trained.

        Args:
            rank: Of the update, at most the width.
            seeds: As many as the last axis of the stack.

        Raises:
            ValueError: A rank outside 1…width.
        """
        *stack, n_tokens, width = self.store_in.shape
        if not 1 <= rank <= width:
            raise ValueError(f"rank is {rank}; it must lie in 1…{width} (width)")
        draws = [
            torch.randn(rank, width, generator=generator_for(s, f"filter and store: adapter of rank {rank}"))
            for s in seeds
        ]
        right = (torch.stack(draws) / width**0.5).expand(*stack, rank, width).clone()
        self.left = nn.Parameter(torch.zeros(*stack, n_tokens, rank, device=self.store_in.device))
        self.right = nn.Parameter(right.to(self.store_in.device))
        return [self.left, self.right]

    def _rows(self, tokens: Int[Tensor, "member batch time"]) -> Float[Tensor, "member batch time width"]:
        """W[x] for every token."""
        table = self.store_in.flatten(0, -3)
        offset = torch.arange(len(table), device=tokens.device)[:, None, None] * table.shape[1]
        rows = F.embedding(tokens + offset, table.flatten(0, 1))
        if self.left is None or self.right is None:
            return rows
        return rows + (
            F.embedding(tokens + offset, self.left.flatten(0, -2)).flatten(1, 2) @ self.right.flatten(0, -3)
        ).view_as(rows)

    def _weights(
        self, tokens: Int[Tensor, "member batch time"], last: bool
    ) -> Float[Tensor, "member batch query time"]:
        n, time = self.filter.shape[-1], tokens.shape[-1]
        offset = torch.arange(len(tokens), device=tokens.device)[:, None, None, None] * n * n
        queries = tokens[..., -1:] if last else tokens
        scores = self.filter.flatten()[offset + queries[..., None] * n + tokens[..., None, :]]
        if not last:
            future = torch.ones(time, time, dtype=torch.bool, device=tokens.device).triu(1)
            scores = scores.masked_fill(future, -torch.inf)
        return scores.softmax(-1)
