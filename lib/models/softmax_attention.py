r"""One layer of softmax attention with many heads that answers a query from the tokens e_j = (x_j, y_j) of a prompt.

    f(q) = Σ_h W_OV⁽ʰ⁾ Σ_j p_j⁽ʰ⁾ e_j,        p⁽ʰ⁾ = softmax_j(scale · e_jᵀ W_KQ⁽ʰ⁾ q)

Source: He, Pan, Chen, Yang 2025, arXiv 2503.12734: the query (x_q, 0) is no key, nothing is added to it.

| paper                              | code                   | shape                                       |
|------------------------------------|------------------------|---------------------------------------------|
| Z = (x_j; y_j), z_q                | `context`, `queries`   | (*stack, batch, n, D), (*stack, batch, m, D) |
| K⁽ʰ⁾ᵀ Q⁽ʰ⁾, the KQ circuit         | `W_KQ`                 | (*stack, head, D, D)                        |
| O⁽ʰ⁾ V⁽ʰ⁾, the OV circuit          | `W_OV`, `w_OV` (one output) | (*stack, head, out, D), (*stack, head, D) |
| Q⁽ʰ⁾, K⁽ʰ⁾, V⁽ʰ⁾                   | `query`, `key`, `value` | (*stack, head, width // n_heads, D)        |
| O⁽ʰ⁾                               | `projection`           | (*stack, head, out, width // n_heads)       |
| 1/√(d + 1)                         | `scale`                | 1/√(width of a head)                        |

Where variants differ: the paper gives every head D dimensions, so that the width grows with the heads; the usual
transformer divides a fixed width among them. Von Oswald et al. 2022 (arXiv 2212.07677) leave the scale out.

Only the products count, so they are formed once a step; the weights then meet the whole batch in one matrix product,
and no copy of them is made per prompt. Settings that share their prompts are more heads to look at the same tokens.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from lib.models.initialisation import stacked_draws
from lib.tasks.in_context_regression import require_prompts


def attention_outputs(
    queries: Float[Tensor, "*data batch m D"],
    context: Float[Tensor, "*data batch n D"],
    W_KQ: Float[Tensor, "*stack head D D"],
    W_OV: Float[Tensor, "*stack head out D"],
    scale: float,
) -> Float[Tensor, "*both batch m out"]:
    """The sum over heads of what each reads from the tokens that it attends to.

    Args:
        queries: Tokens that look.
        context: Tokens that are looked at; leading axes of tokens and weights broadcast.
        W_KQ: Key-query products.
        W_OV: Output-value products.
        scale: Factor on the scores.

    Returns:
        One vector per query, without a residual.

    Raises:
        ValueError: A context without tokens, or a scale that is not positive.
    """
    if context.shape[-2] < 1:
        raise ValueError("context holds 0 tokens; softmax attention needs at least 1")
    if not scale > 0:
        raise ValueError(f"scale is {scale}; it must be positive")
    # Axes that only the weights have (settings) stand beside the heads: one pass over the tokens serves them all.
    settings = W_KQ.shape[: max(W_KQ.ndim - context.ndim, 0)]
    W_KQ, W_OV = (W.reshape(settings.numel(), *W.shape[len(settings) :]).movedim(0, -4) for W in (W_KQ, W_OV))
    looks = torch.einsum("...bmd,...shed->...bshme", queries, scale * W_KQ)
    weights = torch.softmax(looks.flatten(-4, -2) @ context.mT, dim=-1)
    attended = (weights @ context).unflatten(-2, looks.shape[-4:-1])
    outputs = torch.einsum("...bshmd,...shod->s...bmo", attended, W_OV)
    return outputs.reshape(*settings, *outputs.shape[1:])


def softmax_attention(
    queries: Float[Tensor, "*data batch m D"],
    context: Float[Tensor, "*data batch n D"],
    W_KQ: Float[Tensor, "*stack head D D"],
    w_OV: Float[Tensor, "*stack head D"],
    scale: float,
) -> Float[Tensor, "*both batch m"]:
    """`attention_outputs` with a single output, such as the predicted target.

    >>> tokens = torch.tensor([[[0.0, 1.0], [0.0, 3.0]]])  # equal keys, hence the mean of the targets
    >>> softmax_attention(tokens[:, :1], tokens, torch.ones(1, 2, 2), torch.tensor([[0.0, 1.0]]), scale=1e-9)
    tensor([[2.]])
    """
    return attention_outputs(queries, context, W_KQ, w_OV[..., None, :], scale)[..., 0]


class SoftmaxRegressor(nn.Module):
    """A stack of one-layer softmax attention models, factored as trained: heads of W_K, W_Q, W_V and an output W_O.

    Drawn as `torch.nn.Linear` draws, U(±1/√inputs), which the paper's code relies on.

    Args:
        n_dims: Dimension of the inputs.
        n_heads: Heads per model.
        seeds: One model per seed, each drawn from its own generator.
        n_targets: Targets per point; tokens have n_dims + n_targets entries, D.
        width: Dimensions of all heads together; None for the paper's n_heads · D.
        n_copies: If given, that many identical copies in a new leading axis, e.g. one per setting.

    Raises:
        ValueError: A size below 1, or a width that the heads do not divide.

    >>> SoftmaxRegressor(3, 2, seeds=[0, 1])(torch.ones(2, 5, 7, 3), torch.ones(2, 5, 7)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_dims: int,
        n_heads: int,
        seeds: Sequence[int],
        n_targets: int = 1,
        width: int | None = None,
        n_copies: int | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("n_dims", n_dims), ("n_heads", n_heads), ("n_targets", n_targets)):
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        width = n_heads * (n_dims + n_targets) if width is None else width
        if width < n_heads or width % n_heads:
            raise ValueError(f"width is {width}; it must be a positive multiple of n_heads = {n_heads}")
        self.n_dims, self.n_heads, self.n_targets = n_dims, n_heads, n_targets
        self.scale = (width // n_heads) ** -0.5

        def drawn(name: str, n_out: int, n_in: int, fan_in: int) -> nn.Parameter:
            def uniform(g: Generator) -> Tensor:
                return fan_in**-0.5 * (2 * torch.rand(n_heads, n_out, n_in, generator=g) - 1)

            return stacked_draws(uniform, seeds, f"softmax attention: {name}", n_copies)

        token, head = n_dims + n_targets, width // n_heads
        self.query, self.key, self.value = (drawn(name, head, token, token) for name in ("query", "key", "value"))
        self.projection = drawn("projection", n_targets, head, width)

    def products(self) -> tuple[Float[Tensor, "*stack head D D"], Float[Tensor, "*stack head out D"]]:
        """The circuits (W_KQ, W_OV) of each head."""
        return self.key.mT @ self.query, self.projection @ self.value

    def forward(
        self, xs: Float[Tensor, "*data batch n_points n_dims"], ys: Float[Tensor, "*data batch n_points"]
    ) -> Float[Tensor, "*both batch"]:
        """The predicted target of the last point, for a model with one target.

        Args:
            xs: Inputs of each prompt, the last one the query; leading axes broadcast against the stack.
            ys: Targets; the last one is not looked at.

        Raises:
            ValueError: A model with several targets, inputs of another dimension, or a prompt without context.
        """
        if self.n_targets != 1:
            raise ValueError(f"n_targets is {self.n_targets}; with more than 1 call `predictions`")
        return self.predictions(xs, ys[..., None])[..., 0]

    def predictions(
        self, xs: Float[Tensor, "*data batch n_points n_dims"], ys: Float[Tensor, "*data batch n_points n_targets"]
    ) -> Float[Tensor, "*both batch n_targets"]:
        """The predicted targets of the last point; arguments and errors as in `forward`, with an axis for the targets."""
        require_prompts(xs, self.n_dims)
        if ys.shape[-1] != self.n_targets:
            raise ValueError(f"ys have {ys.shape[-1]} targets; the model was made for n_targets = {self.n_targets}")
        query = nn.functional.pad(xs[..., -1:, :], (0, self.n_targets))
        context = torch.cat([xs, ys], dim=-1)[..., :-1, :]  # cut after joining: joining cut pieces takes twice as long
        return attention_outputs(query, context, *self.products(), self.scale)[..., 0, :]
