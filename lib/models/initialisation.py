"""How weights are drawn before training."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from lib.seeds import generator_for


def stacked_draws(
    draw: Callable[[Generator], Tensor], seeds: Sequence[int], purpose: str, n_copies: int | None = None
) -> nn.Parameter:
    """One draw per seed, stacked: a parameter (seed, …), or (copy, seed, …).

    Args:
        draw: Draws one member's parameter.
        seeds: One member per seed; a seed's draw does not depend on the others.
        purpose: Names the parameter, so that each has a stream of its own, see `generator_for`.
        n_copies: If given, that many identical copies in a new leading axis, e.g. one per learning rate.

    >>> stacked_draws(lambda g: torch.randn(3, 4, generator=g), seeds=[0, 1], purpose="W", n_copies=5).shape
    torch.Size([5, 2, 3, 4])
    """
    draws = torch.stack([draw(generator_for(seed, purpose)) for seed in seeds])
    return nn.Parameter(draws if n_copies is None else draws.repeat(n_copies, *[1] * draws.ndim))


def he_normal(shapes: Sequence[tuple[int, int]], seeds: Sequence[int], n_copies: int | None = None) -> nn.ParameterList:
    """Weight matrices N(0, 2 / in), stacked over seeds: ReLU layers keep the signal's scale at any depth.

    Args:
        shapes: (out, in) of each matrix.
        seeds: One member per seed; a seed's draw does not depend on the others.
        n_copies: If given, that many identical copies in a new leading axis, e.g. one per learning rate.

    Returns:
        One parameter (seed, out, in), or (copy, seed, out, in), per shape.

    Source: He et al. 2015, arXiv:1502.01852, equation 10.
    """
    generators = [generator_for(seed, "weights") for seed in seeds]
    weights = nn.ParameterList()
    for n_out, n_in in shapes:
        w = torch.stack([torch.randn(n_out, n_in, generator=g) for g in generators]) * (2 / n_in) ** 0.5
        weights.append(nn.Parameter(w if n_copies is None else w.repeat(n_copies, 1, 1, 1)))
    return weights
