r"""Weights of linear attention that solve regression: restricted layers, and layers that whiten the inputs.

Source: Gatmiry et al. 2024, arXiv 2410.21698; its text was not at hand, so these constructions are our own and stand in for
the paper's. von Oswald et al. 2022, arXiv 2212.07677 (GD++, layers that move the inputs). What is left of the error after L
layers: `lib.theory.iterative_solvers`.

| layer                                          | W_KQ                   | W_PV                                        |
|------------------------------------------------|------------------------|---------------------------------------------|
| restricted, one matrix A                       | [[A, 0], [0, 0]]       | [[0, 0], [0, -1/n]]                         |
| whitening, scale c_k = (9/4)^k/high in layer k | [[I, 0], [0, 0]]       | -(c_k/n) [[I/3, 0], [0, 1]]                 |
| whitening in a loop, tokens (x, y, u)          | [[I/high, 0, 0], 0, [I, 0, 0]] | [[-I/2n, 0, I/2], [0, -1/n, 0], 0]  |

A Newton-Schulz step X ← X (3 - XᵀX)/2 multiplies the inputs by 3/2, and attention cannot rescale what it is added to. So the
second row leaves the factor out and takes it into the next layer's scale: its layers differ. The third row lets d constant
tokens (0, 0, u_i), with u_i the unit vectors, add the missing x/2; then all layers are the same and the stack is a loop.
All weights are for `linear_attention` with the query left out of the context; the prediction is minus the query's y-entry.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def restricted_blocks(
    A: Float[Tensor, "*stack d d"], n_context: int
) -> tuple[Float[Tensor, "*stack D D"], Float[Tensor, "*stack D D"]]:
    """(W_KQ, W_PV) of the linear attention layer that a restricted layer is.

    Raises:
        ValueError: `n_context` below 1.
    """
    if n_context < 1:
        raise ValueError(f"n_context is {n_context}; it must be at least 1")
    W_KQ = nn.functional.pad(A, (0, 1, 0, 1))
    W_PV = torch.zeros_like(W_KQ)
    W_PV[..., -1, -1] = -1 / n_context
    return W_KQ, W_PV


def whitening_blocks(
    n_dims: int, n_layers: int, high: float, n_context: int
) -> list[tuple[Float[Tensor, "D D"], Float[Tensor, "D D"]]]:
    """(W_KQ, W_PV) of L unrestricted layers that whiten the inputs and take a gradient step each.

    Layer k moves inputs by -(c_k/3) S̃ x̃ and targets by one gradient step of size c_k = (9/4)^k/high. The factor 3/2 of a
    Newton-Schulz step is not applied to the tokens but kept in c_k: attention cannot rescale what it is added to.

    Args:
        n_dims: Dimension of the inputs.
        n_layers: Layers.
        high: Upper end of the spectrum of S.
        n_context: Points in the context.

    Raises:
        ValueError: a size below 1, or `high` not positive.
    """
    _check(n_dims, n_layers, n_context, high)
    W_KQ = torch.diag(torch.tensor([1.0] * n_dims + [0.0]))
    scales = [(9 / 4) ** k / high for k in range(n_layers)]
    return [(W_KQ, -c / n_context * torch.diag(torch.tensor([1 / 3] * n_dims + [1.0]))) for c in scales]


def looped_whitening_block(
    n_dims: int, high: float, n_context: int
) -> tuple[Float[Tensor, "D D"], Float[Tensor, "D D"]]:
    """(W_KQ, W_PV) of the one layer whose loop whitens the inputs, on tokens (x, y, u) of size 2 n_dims + 1.

    Args:
        n_dims: Dimension of the inputs.
        high: Upper end of the spectrum of S.
        n_context: Points in the context, the constant tokens not counted.

    Raises:
        ValueError: a size below 1, or `high` not positive.
    """
    _check(n_dims, 1, n_context, high)
    eye, xs, us = torch.eye(n_dims), slice(n_dims), slice(n_dims + 1, None)
    W_KQ, W_PV = torch.zeros(2, 2 * n_dims + 1, 2 * n_dims + 1)
    W_KQ[xs, xs], W_KQ[us, xs] = eye / high, eye
    W_PV[xs, xs], W_PV[xs, us], W_PV[n_dims, n_dims] = -eye / (2 * n_context), eye / 2, torch.tensor(-1 / n_context)
    return W_KQ, W_PV


def with_constant_tokens(tokens: Float[Tensor, "*stack n_points width"]) -> Float[Tensor, "*stack points D"]:
    """Tokens (x, y) → (x, y, 0), after n_dims constant tokens (0, 0, u_i); the query stays last.

    >>> with_constant_tokens(torch.ones(1, 2)).tolist()
    [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    """
    n_dims = tokens.shape[-1] - 1
    widened = nn.functional.pad(tokens, (0, n_dims))
    constant = nn.functional.pad(torch.eye(n_dims, dtype=tokens.dtype, device=tokens.device), (n_dims + 1, 0))
    return torch.cat([constant.expand(*tokens.shape[:-2], -1, -1), widened], dim=-2)


def _check(n_dims: int, n_layers: int, n_context: int, high: float) -> None:
    if min(n_dims, n_layers, n_context) < 1 or not high > 0:
        raise ValueError(
            f"n_dims, n_layers, n_context and high are {n_dims}, {n_layers}, {n_context} and {high}; "
            "the first three must be at least 1, the last one positive"
        )
