r"""Points with one signal coordinate each: the simplified BlockMNIST on which input gradients can be computed by hand.

    x = y e_j + η g,      j uniform in 1…k,      y = ±1,      g ~ N(0, I) outside coordinate j

Source: Shah et al. 2021, arXiv 2102.12781, Section 6 (blocks of one coordinate; k of d coordinates may hold the signal, the
rest never does). For every single point only coordinate j is discriminative.

| paper | code         | meaning                                  |
|-------|--------------|------------------------------------------|
| k     | `n_relevant` | coordinates that may hold the signal     |
| d - k | `n_noise`    | coordinates that never do                |
| η     | `noise_std`  | size of the noise                        |
| j     | `signal`     | where the signal is                      |
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor


class SignalPoints(NamedTuple):
    """Points of every seed, their labels ±1, and the signal coordinate of each."""

    xs: Float[Tensor, "seed n d"]
    ys: Float[Tensor, "seed n"]
    signal: Int[Tensor, "seed n"]


def draw(
    generators: Sequence[Generator], n_points: int, n_relevant: int, n_noise: int = 0, noise_std: float = 0.0
) -> SignalPoints:
    """Points of one seed per generator.

    Args:
        generators: One per seed.
        n_points: Points per seed.
        n_relevant: k.
        n_noise: d - k.
        noise_std: η.

    Raises:
        ValueError: No point, no relevant coordinate, or a negative number.
    """
    for name, value, least in (("n_points", n_points, 1), ("n_relevant", n_relevant, 1), ("n_noise", n_noise, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    if noise_std < 0:
        raise ValueError(f"noise_std is {noise_std}; it must not be negative")

    def one(generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        ys = 1.0 - 2.0 * torch.randint(2, (n_points,), generator=generator)
        signal = torch.randint(n_relevant, (n_points,), generator=generator)
        xs = noise_std * torch.randn(n_points, n_relevant + n_noise, generator=generator)
        return xs.scatter(1, signal[:, None], ys[:, None]), ys, signal

    return SignalPoints(*map(torch.stack, zip(*map(one, generators), strict=True)))
