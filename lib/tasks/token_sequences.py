r"""Labelled sequences of tokens for one layer of attention: random tokens, or one signal token among noise.

| data            | optimal token                       | other tokens                        | query z          |
|-----------------|-------------------------------------|-------------------------------------|------------------|
| `unit_tokens`   | the one with the best score         | all uniform on the unit sphere      | another such     |
| `signal_tokens` | e_1 if y = 1, e_2 if y = -1         | N(0, I/d), first two entries zero   | the first token  |

Sources: arXiv 2308.16898, the authors' code (`unit_tokens`); after arXiv 2402.05738 (`signal_tokens`, sizes ours).

In `signal_tokens` the optimal token stands at a random place, and all others have the same score under the decoder
v = e_1 - e_2, namely zero, unless `score_std` says otherwise. Equal scores are the kind of condition under which convergence
to W_mm is proved to be global. In `unit_tokens` all scores differ.

| paper                  | code     | shape           |
|------------------------|----------|-----------------|
| X_i                    | `xs`     | (seed, n, T, d) |
| z_i                    | `zs`     | (seed, n, d)    |
| y_i                    | `ys`     | (seed, n), ±1   |
| v, or u                | `v`      | (seed, d)       |
| γ_it = y_i vᵀ x_it     | `scores` | (seed, n, T)    |
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from lib.seeds import generator_for


class TokenData(NamedTuple):
    """Sequences with queries, labels and a decoder, stacked over seeds, in float64."""

    xs: Float[Tensor, "seed n T d"]
    zs: Float[Tensor, "seed n d"]
    ys: Float[Tensor, "seed n"]
    v: Float[Tensor, "seed d"]

    @property
    def scores(self) -> Float[Tensor, "seed n T"]:
        """How good it is to attend to each token: its label times its decoded value."""
        return self.ys[..., None] * (self.xs @ self.v[:, None, :, None])[..., 0]


def check_sizes(seeds: Sequence[int], n: int, T: int, d: int, d_least: int = 1) -> None:
    """Raise a ValueError unless there is a seed, a sequence, a choice of tokens, and room for them."""
    if len(seeds) < 1:
        raise ValueError("seeds is empty; at least one is needed")
    if n < 1 or T < 2 or d < d_least:
        raise ValueError(f"n, T and d are {n}, {T} and {d}; they must be at least 1, 2 and {d_least}")


def unit_tokens(seeds: Sequence[int], n: int, T: int, d: int) -> TokenData:
    """Tokens, queries and decoder uniform on the unit sphere; labels ±1 with equal odds.

    Args:
        seeds: One instance per seed.
        n: Sequences of an instance.
        T: Tokens of a sequence.
        d: Dimension of a token.

    Raises:
        ValueError: No seed, n < 1, T < 2 or d < 1.

    >>> unit_tokens([0, 1], n=6, T=8, d=10).xs.shape
    torch.Size([2, 6, 8, 10])
    """
    check_sizes(seeds, n, T, d)

    def draw(seed: int) -> tuple[Tensor, ...]:
        g = generator_for(seed, "unit tokens")
        v, xs, zs = (
            normalize(torch.randn(*shape, d, generator=g, dtype=torch.float64), dim=-1) for shape in ((), (n, T), (n,))
        )
        ys = 2.0 * torch.randint(2, (n,), generator=g, dtype=torch.float64) - 1
        return xs, zs, ys, v

    return TokenData(*map(torch.stack, zip(*map(draw, seeds), strict=True)))


def signal_tokens(
    seeds: Sequence[int], n: int, T: int, d: int, noise_std: float = 0.0, score_std: float = 0.0
) -> TokenData:
    """One signal token per sequence, at a random place among Gaussian noise; labels alternate.

    Args:
        seeds: One instance per seed.
        n: Sequences of an instance.
        T: Tokens of a sequence; the first is also its query.
        d: Dimension of a token, at least 3: two for the signals.
        noise_std: Of the Gaussian vector N(0, noise_std² I / d) that is added to signal tokens.
        score_std: Of the scores of the other tokens; 0 makes them equal. Above about 1/3 some exceed the signal's score, 1.

    Raises:
        ValueError: No seed, n < 1, T < 2, d < 3 or a negative standard deviation.

    >>> signal_tokens([0], n=2, T=2, d=3).scores.amax(-1)
    tensor([[1., 1.]], dtype=torch.float64)
    """
    check_sizes(seeds, n, T, d, d_least=3)
    if not (noise_std >= 0 and score_std >= 0):
        raise ValueError(f"noise_std and score_std are {noise_std} and {score_std}; they must be at least 0")
    ys = 1.0 - 2.0 * (torch.arange(n, dtype=torch.float64) % 2)
    signals = torch.zeros(n, d, dtype=torch.float64)
    signals[torch.arange(n), (ys < 0).long()] = 1.0

    def draw(seed: int) -> Tensor:
        g = generator_for(seed, "signal tokens")
        xs = torch.randn(n, T, d, generator=g, dtype=torch.float64) / d**0.5
        noise = xs[:, 0].clone()
        xs[..., :2] *= score_std * (d / 2) ** 0.5  # a score is the difference of two such entries
        place = torch.randint(T, (n,), generator=g)
        xs[torch.arange(n), place] = signals + noise_std * noise
        return xs

    xs = torch.stack([draw(seed) for seed in seeds])
    v = torch.zeros(len(seeds), d, dtype=torch.float64)
    v[:, 0], v[:, 1] = 1.0, -1.0
    return TokenData(xs, xs[:, :, 0], ys.expand(len(seeds), n), v)
