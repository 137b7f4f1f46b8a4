r"""Markov chains of every order, one chain per prompt: nested categories of tasks for learning in context.

    P(· | c) ~ Dirichlet(α, …, α), one row per context c of s symbols
    x_1, …, x_s uniform,    x_t ~ P(· | x_{t-s} … x_{t-1})

Source: Deora et al. 2025, arXiv 2506.19351, Section 2 (orders 1 and k mixed in training); Edelman et al. 2024,
arXiv 2402.11004 (order 1). A chain of order s is one of order s + 1 whose rows do not depend on the oldest symbol.
At order 0 symbols are independent.

| paper    | code            | meaning                                                       |
|----------|-----------------|---------------------------------------------------------------|
| V        | `n_symbols`     | size of the vocabulary                                        |
| s, k     | `order`         | symbols that the next one depends on                          |
| T        | `length`        | symbols of a sequence                                         |
| α        | `concentration` | of the rows' Dirichlet prior; 1 is uniform on the simplex     |

A context is the number Σ_j x_{t-1-j} V^j: its newest symbol is its last digit. Every seed draws from its own generator.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from lib.seeds import generator_for

MAX_CONTEXTS = 4096  # a prompt's table of rows must stay small


def streams(seeds: Sequence[int], purpose: str) -> list[Generator]:
    """One generator per seed, to draw from again and again."""
    return [generator_for(seed, f"Markov chains: {purpose}") for seed in seeds]


def transition_rows(
    generators: Sequence[Generator], batch: int, n_symbols: int, order: int, concentration: float = 1.0
) -> Float[Tensor, "seed batch context n_symbols"]:
    """The rows P(· | c) of one chain per prompt, for all n_symbols^order contexts.

    Args:
        generators: One per seed.
        batch: Prompts per seed.
        n_symbols: Size of the vocabulary.
        order: Symbols that the next one depends on; 0 for independent symbols.
        concentration: Of the symmetric Dirichlet prior.

    Returns:
        Probabilities in float32.

    Raises:
        ValueError: An empty batch, fewer than two symbols, a negative order, more than 4096 contexts, or a
            concentration that is not positive.

    >>> transition_rows(streams([0, 1], "doctest"), batch=5, n_symbols=3, order=2).shape
    torch.Size([2, 5, 9, 3])
    """
    require_chain(n_symbols, order)
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    if not concentration > 0:
        raise ValueError(f"concentration is {concentration}; it must be positive")
    shape = (batch, n_symbols**order, n_symbols)
    # Gamma draws below float32's range would leave rows of zeros; float64 reaches down to concentrations of 0.01.
    alpha = torch.full(shape, concentration, dtype=torch.float64)
    gammas = torch.stack([torch._standard_gamma(alpha, generator=g) for g in generators])
    return (gammas / gammas.sum(-1, keepdim=True)).float()


def sequences(
    generators: Sequence[Generator], rows: Float[Tensor, "seed batch context n_symbols"], length: int
) -> Int[Tensor, "seed batch length"]:
    """One sequence per chain.

    Args:
        generators: One per seed.
        rows: From `transition_rows`.
        length: Symbols, those of the first context included.

    Returns:
        Symbols 0…n_symbols-1. The first `order` are uniform.

    Raises:
        ValueError: A number of rows that is no power of n_symbols, or a length that does not exceed the order.
    """
    batch, n_contexts, n_symbols = rows.shape[1:]
    order = order_of(n_contexts, n_symbols)
    if length <= order:
        raise ValueError(f"length is {length}; it must be at least {order + 1} for a chain of order {order}")
    uniforms = torch.stack([torch.rand(length, batch, generator=g) for g in generators], 1)  # (length, seed, batch)
    if order == 0:
        cumulative = rows[:, :, 0].cumsum(-1)[..., :-1]
        return (uniforms[..., None] > cumulative).sum(-1).permute(1, 2, 0)
    first = (uniforms[:order] * n_symbols).long().clamp_max(n_symbols - 1)
    # The symbol that would follow each context at each time: then a step only looks one number up.
    cumulative = rows.cumsum(-1)[..., :-1]
    if n_symbols == 2:  # one comparison, no axis to sum over
        following = (uniforms[..., None] > cumulative[..., 0]).long()
    else:
        following = (uniforms[..., None, None] > cumulative).sum(-1)
    symbols = list(first)
    context = torch.zeros_like(first[0])
    for symbol in first:
        context = context * n_symbols + symbol
    for t in range(order, length):
        symbol = following[t].gather(-1, context[..., None])[..., 0]
        symbols.append(symbol)
        context = (context * n_symbols + symbol) % n_contexts
    return torch.stack(symbols, -1)


def contexts(symbols: Int[Tensor, "*prompt length"], n_symbols: int, order: int) -> Int[Tensor, "*prompt length"]:
    """The context of each position, that is the `order` symbols before it; -1 where there are fewer.

    Raises:
        ValueError: As `transition_rows`, or a symbol outside 0…n_symbols-1.

    >>> contexts(torch.tensor([0, 1, 1, 0]), n_symbols=2, order=2).tolist()
    [-1, -1, 1, 3]
    """
    require_chain(n_symbols, order)
    if symbols.numel() and not 0 <= int(symbols.min()) <= int(symbols.max()) < n_symbols:
        raise ValueError(
            f"symbols reach from {int(symbols.min())} to {int(symbols.max())}; they must lie in 0…{n_symbols - 1}"
        )
    numbers = torch.zeros_like(symbols)
    for j in range(1, order + 1):
        numbers = numbers + n_symbols ** (j - 1) * symbols.roll(j, -1)
    numbers[..., : min(order, symbols.shape[-1])] = -1
    return numbers


def require_chain(n_symbols: int, order: int) -> None:
    """Refuse what is no chain, or one whose table of rows is out of hand."""
    if n_symbols < 2:
        raise ValueError(f"n_symbols is {n_symbols}; it must be at least 2")
    if order < 0:
        raise ValueError(f"order is {order}; it must be at least 0")
    if n_symbols**order > MAX_CONTEXTS:
        raise ValueError(
            f"n_symbols and order are {n_symbols} and {order}: {n_symbols**order} contexts; at most {MAX_CONTEXTS} are held"
        )


def order_of(n_contexts: int, n_symbols: int) -> int:
    """The order of a chain with that many rows."""
    order = 0
    while n_symbols**order < n_contexts:
        order += 1
    if n_symbols < 2 or n_symbols**order != n_contexts:
        raise ValueError(f"rows has {n_contexts} contexts; it must be a power of n_symbols = {n_symbols} ≥ 2")
    return order
