r"""Linear self-attention: attention without the softmax, on merged tokens e_j = (x_j, y_j).

    e_j ← e_j + Σ_i W_PV e_i (e_iᵀ W_KQ e_j),      i over the context

Source: von Oswald et al. 2022, arXiv 2212.07677, Equation 1 (residual layers, looped or not, query left out of the
sum); Zhang et al. 2023, arXiv 2306.09927, Section 2 (one layer, query included, sum divided by N).

| papers                   | code                  | shape                          |
|--------------------------|-----------------------|--------------------------------|
| e_j = (x_j, y_j)         | `tokens`              | (*stack, batch, n_points, D), D = n_dims + 1 |
| W_Kᵀ W_Q, W^KQ           | `W_KQ`                | (*stack, D, D)                 |
| P W_V, W^PV              | `W_PV`                | (*stack, D, D)                 |
| W_K, W_Q, W_V, P         | `factors`, if `factored` | (*stack, D, D) each         |

Where the papers differ: von Oswald et al. train the four factors and read the prediction off with a minus sign, since
their layer moves the targets y_j ← y_j - Δw·x_j; Zhang et al. train the two products and read it off as it is.

Without the softmax the products may be taken in either order: scores first, O(m n D) for m queries, or the context's
Gram matrix Σ_i e_i e_iᵀ first, O(n D² + m D²). The cheaper is taken: scores for one query, the Gram matrix for long
prompts. A stack's weights meet the whole batch in one matrix product.

The answer needs less than the moved tokens. With G = Σ_i e_i e_iᵀ a layer is the map M = I + W_PV G W_KQ on every token, so
the next layer's Gram matrix is M G Mᵀ, and it only ever multiplies vectors. M v and Mᵀ v are a product of G with a vector
each: once G is there, the last two layers cost O(D²) per prompt, and no token of the context is moved in them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.models.initialisation import stacked_draws
from lib.tasks.in_context_regression import require_prompts

FACTORS = ("key", "query", "value", "projection")


def project(
    tokens: Float[Tensor, "*data batch n in"], W: Float[Tensor, "*stack out in"]
) -> Float[Tensor, "*both batch n out"]:
    """W e of every token, with batch and points folded into one matrix product."""
    return (tokens.flatten(-3, -2) @ W.mT).unflatten(-2, tokens.shape[-3:-1])


def linear_attention(
    queries: Float[Tensor, "*data batch m D"],
    context: Float[Tensor, "*data batch n D"],
    W_KQ: Float[Tensor, "*stack D D"],
    W_PV: Float[Tensor, "*stack D D"],
) -> Float[Tensor, "*both batch m D"]:
    """What attention adds to each query: Σ_i W_PV e_i (e_iᵀ W_KQ q), a sum, not a mean.

    Args:
        queries: Tokens that look.
        context: Tokens that are looked at; leading axes of tokens and weights broadcast.
        W_KQ: Key-query product.
        W_PV: Projection-value product.

    Returns:
        The updates, without the residual.
    """
    looks = project(queries, W_KQ)
    m, n, D = queries.shape[-2], *context.shape[-2:]
    scores_first = 2 * m * n <= (n + m) * D
    mixed = looks @ context.mT @ context if scores_first else looks @ (context.mT @ context)
    return project(mixed, W_PV)


class SymmetricProduct(torch.autograd.Function):
    """G v of a symmetric G: a derivative that multiplies by G, not Gᵀ, reads memory in order, in half the time."""

    @staticmethod
    def forward(ctx, G: Float[Tensor, "*data D D"], v: Float[Tensor, "*both D"]) -> Float[Tensor, "*both D"]:
        ctx.save_for_backward(G, v)
        return (G @ v[..., None])[..., 0]

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, Tensor]:
        G, v = ctx.saved_tensors
        for_G = (slope[..., None] * v[..., None, :]).sum_to_size(G.shape) if ctx.needs_input_grad[0] else None
        return for_G, SymmetricProduct.apply(G, slope)


def gram_times(
    gram: Float[Tensor, "*data batch D D"], v: Float[Tensor, "*both rows D"]
) -> Float[Tensor, "*both2 batch D"]:
    """G v in every prompt, one v each or one row that all share; the latter meets all Gram matrices in one product."""
    if v.shape[-2] == 1:
        return (v @ gram.flatten(-3, -2).mT).unflatten(-1, gram.shape[-3:-1])[..., 0, :, :]
    return SymmetricProduct.apply(gram, v)


class LinearTransformer(nn.Module):
    """A stack of residual linear self-attention layers that answers the last point of a prompt.

    Args:
        n_dims: Dimension of the inputs; tokens have one more.
        n_layers: Layers, or loops of one layer.
        seeds: One model per seed, each drawn from its own generator.
        looped: All layers share their weights.
        init_std: Standard deviation of the initial entries, of the factors if `factored`.
        factored: Train W_K, W_Q, W_V and P instead of their products W_Kᵀ W_Q and P W_V.
        query_is_key: The query token takes part in the sum over the context.
        n_copies: If given, that many identical copies in a new leading axis, e.g. one per setting.

    Raises:
        ValueError: Fewer than one dimension or layer, or an `init_std` that is not positive.

    >>> LinearTransformer(3, 2, seeds=[0, 1])(torch.ones(2, 5, 7, 3), torch.ones(2, 5, 7)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_dims: int,
        n_layers: int,
        seeds: Sequence[int],
        looped: bool = False,
        init_std: float = 0.02,
        factored: bool = False,
        query_is_key: bool = False,
        n_copies: int | None = None,
    ) -> None:
        super().__init__()
        if n_dims < 1 or n_layers < 1:
            raise ValueError(f"n_dims and n_layers are {n_dims} and {n_layers}; both must be at least 1")
        if not init_std > 0:
            raise ValueError(f"init_std is {init_std}; it must be positive, since zero weights have zero gradient")
        self.n_dims, self.n_layers, self.query_is_key = n_dims, n_layers, query_is_key
        names = FACTORS if factored else ("W_KQ", "W_PV")

        def drawn(layer: int, name: str) -> nn.Parameter:
            purpose = f"linear attention: layer {layer} {name}"
            shape = (n_dims + 1, n_dims + 1)
            return stacked_draws(lambda g: init_std * torch.randn(shape, generator=g), seeds, purpose, n_copies)

        self.layers = nn.ModuleList(
            nn.ParameterDict({name: drawn(layer, name) for name in names}) for layer in range(1 if looped else n_layers)
        )

    def matrices(self) -> list[tuple[Tensor, Tensor]]:
        """(W_KQ, W_PV) of each layer in the order of use; a looped layer appears `n_layers` times."""
        pairs = [
            (layer["key"].mT @ layer["query"], layer["projection"] @ layer["value"])
            if "key" in layer
            else (layer["W_KQ"], layer["W_PV"])
            for layer in self.layers
        ]
        return pairs * self.n_layers if len(pairs) < self.n_layers else pairs

    def forward(
        self, xs: Float[Tensor, "*data batch n_points n_dims"], ys: Float[Tensor, "*data batch n_points"]
    ) -> Float[Tensor, "*both batch"]:
        """The y-entry of the query token after the last layer.

        Args:
            xs: Inputs of each prompt, the last one the query; leading axes broadcast against the stack.
            ys: Targets; the last one is not looked at.

        Raises:
            ValueError: Inputs of another dimension than the model's, or a prompt without context.
        """
        require_prompts(xs, self.n_dims)
        target, padding = self.n_dims, -(self.n_dims + 1) % 4  # products of 11 entries take twice as long as of 12
        pairs = [tuple(nn.functional.pad(W, (0, padding, 0, padding)) for W in pair) for pair in self.matrices()]
        tokens = nn.functional.pad(xs, (0, 1 + padding))
        tokens[..., :-1, target] = ys[..., :-1]
        for W_KQ, W_PV in pairs[:-2]:
            tokens = tokens + linear_attention(tokens, self._context(tokens), W_KQ, W_PV)
        query, context = tokens[..., -1, :], self._context(tokens)
        gram = context.mT @ context
        for W_KQ, W_PV in pairs[-2:-1]:
            query = query + gram_times(gram, query @ W_KQ.mT) @ W_PV.mT
        looks = query @ pairs[-1][0].mT
        reads = pairs[-1][1][..., target, None, :]
        for W_KQ, W_PV in pairs[-2:-1]:  # the Gram matrix of moved tokens, M G Mᵀ, between these two vectors
            looks, reads = (v + gram_times(gram, v @ W_PV) @ W_KQ for v in (looks, reads))
        return query[..., target] + (looks * gram_times(gram, reads)).sum(-1)

    def _context(self, tokens: Tensor) -> Tensor:
        return tokens if self.query_is_key else tokens[..., :-1, :]
