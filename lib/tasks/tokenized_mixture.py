r"""The tokenized mixture: a few relevant tokens carry the label, the others show patterns that do not.

    y uniform in {-1, +1};   x_t = μ_y  for ζT relevant positions t;   x_t = ν_{j_t} + σ z_t  for the others,

with j_t uniform in 1..M and z_t standard normal. The means μ_+, μ_-, ν_1, …, ν_M are orthogonal and of one norm S.

Source: data model DM1 of Deora, Ghaderi, Taheri, Thrampoulidis 2023, arXiv 2310.12680.

| paper         | code         | note                                                                        |
|---------------|--------------|-----------------------------------------------------------------------------|
| X             | `tokens`     | (seed, n_points, n_tokens, n_dims)                                          |
| y             | `labels`     | (seed, n_points)                                                            |
| ζ             | `zeta`       | share of relevant tokens; ζT must be whole                                  |
| M             | `n_patterns` |                                                                             |
| S             | `norm`       | of every mean                                                               |
| σ             | `noise_std`  | per coordinate, of irrelevant tokens only                                   |
| μ_±, ν_j      | `means`      | S times unit vectors: Gaussian noise has no preferred axes, so none is lost |

Which positions are relevant is drawn anew for every sequence. Every (seed, purpose) has a generator of its own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.seeds import generator_for


class Sequences(NamedTuple):
    """Labelled sequences, stacked over seeds."""

    tokens: Float[Tensor, "seed n_points n_tokens n_dims"]
    labels: Float[Tensor, "seed n_points"]
    relevant: Bool[Tensor, "seed n_points n_tokens"]


def means(n_patterns: int, n_dims: int, norm: float) -> Float[Tensor, "means n_dims"]:
    """The orthogonal means: μ_+, μ_-, then ν_1 to ν_M.

    Raises:
        ValueError: A size below 1, a norm that is not positive, or more means than dimensions.

    >>> means(n_patterns=1, n_dims=3, norm=2.0).diagonal().tolist()
    [2.0, 2.0, 2.0]
    """
    if n_patterns < 1:
        raise ValueError(f"n_patterns is {n_patterns}; it must be at least 1")
    if n_dims < n_patterns + 2:
        raise ValueError(
            f"n_dims is {n_dims}; {n_patterns + 2} orthogonal means (n_patterns + 2) need at least as many"
        )
    if not 0 < norm < float("inf"):
        raise ValueError(f"norm is {norm}; it must be positive and finite")
    return norm * torch.eye(n_patterns + 2, n_dims, dtype=torch.float64)


def count_relevant(zeta: float, n_tokens: int) -> int:
    """The number ζT of relevant tokens.

    Raises:
        ValueError: ζ outside of (0, 1], or ζT not a whole number of at least 1.

    >>> count_relevant(0.2, 10)
    2
    """
    if n_tokens < 1:
        raise ValueError(f"n_tokens is {n_tokens}; it must be at least 1")
    if not 0 < zeta <= 1:
        raise ValueError(f"zeta is {zeta}; the share of relevant tokens must lie in (0, 1]")
    count = round(zeta * n_tokens)
    if count < 1 or abs(zeta * n_tokens - count) > 1e-6:
        raise ValueError(
            f"zeta is {zeta}: zeta * n_tokens = {zeta * n_tokens:g} relevant tokens; it must be a whole number, at least 1"
        )
    return count


def sample(
    seeds: Sequence[int],
    purpose: str,
    n_points: int,
    n_tokens: int,
    n_dims: int,
    zeta: float,
    n_patterns: int,
    norm: float,
    noise_std: float,
) -> Sequences:
    """Draw labelled sequences for every seed.

    Args:
        seeds: One stream of draws per seed.
        purpose: Such as "train" or "test"; different purposes give unrelated draws.
        n_points, n_tokens, n_dims: n, T and d.
        zeta, n_patterns, norm, noise_std: ζ, M, S and σ.

    Returns:
        Tokens, labels and the mask of relevant tokens, in double precision.

    Raises:
        ValueError: An argument out of range; the message names it.
    """
    if len(seeds) < 1:
        raise ValueError("seeds is empty; at least one seed is needed")
    if n_points < 1:
        raise ValueError(f"n_points is {n_points}; it must be at least 1")
    if not 0 <= noise_std < float("inf"):
        raise ValueError(f"noise_std is {noise_std}; it must be finite and not negative")
    count, centres = count_relevant(zeta, n_tokens), means(n_patterns, n_dims, norm)
    drawn = []
    for seed in seeds:
        labels, places, patterns, noise = (
            generator_for(seed, f"tokenized mixture: {purpose} {name}")
            for name in ("labels", "places", "patterns", "noise")
        )
        classes = torch.randint(2, (n_points, 1), generator=labels)  # 0 is +1
        order = torch.rand(n_points, n_tokens, generator=places, dtype=torch.float64).argsort(1)
        relevant = order < count
        irrelevant = 2 + torch.randint(n_patterns, (n_points, n_tokens), generator=patterns)
        z = torch.randn(n_points, n_tokens, n_dims, generator=noise, dtype=torch.float64)
        tokens = centres[torch.where(relevant, classes, irrelevant)] + noise_std * z * ~relevant[..., None]
        drawn.append((tokens, 1.0 - 2.0 * classes[:, 0].double(), relevant))
    return Sequences(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))
