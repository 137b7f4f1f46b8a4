r"""Binary data whose coordinates each tell the label, some simply, some in slabs: which one does a network use?

A coordinate with k slabs cuts [-1, 1] into k intervals with gaps of twice the margin between them; labels alternate
from interval to interval, and the rightmost belongs to the label +1. k = 2 is the linear coordinate. Given the label,
coordinates are independent and lie in an interval of that label, uniformly. For odd k their mean given the label is zero
for both: no line tells anything. For five and seven slabs the intervals' weights are such that the mean square does not
depend on the label either, else many of them would make a simple feature together. Further coordinates are noise.

Source: Shah et al. 2020, arXiv 2006.07710, Section 3 (linear and slab blocks, LMS-k and MS-(5,7), noisy linear block);
Morwani et al. 2023, arXiv 2302.00457 (independent features model).

| papers            | code        | meaning                                                             |
|-------------------|-------------|---------------------------------------------------------------------|
| k of a k-slab     | `slabs`     | intervals of each informative coordinate; 2 is linear               |
| γ, effective margin | `margins` | half of the gap between intervals                                   |
| p, noisy linear   | `flips`     | how often a coordinate is drawn for the wrong label                 |
| d                 |             | len(slabs) + n_noise                                                |
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from lib.seeds import generator_for


class Points(NamedTuple):
    """Points of every seed."""

    xs: Float[Tensor, "seed n d"]
    ys: Float[Tensor, "seed n"]


def streams(seeds: Sequence[int], purpose: str) -> list[Generator]:
    """One generator per seed, to draw from again and again."""
    return [generator_for(seed, f"slabs: {purpose}") for seed in seeds]


def intervals(n_slabs: int, margin: float) -> Float[Tensor, "n_slabs 2"]:
    """Ends of the intervals, from left to right.

    Raises:
        ValueError: Fewer than two slabs, or a margin that leaves no room for them.

    >>> intervals(2, 0.25).tolist()
    [[-1.0, -0.25], [0.25, 1.0]]
    """
    if n_slabs < 2:
        raise ValueError(f"n_slabs is {n_slabs}; it must be at least 2")
    if not 0 <= margin < 1 / (n_slabs - 1):
        raise ValueError(f"margin is {margin}; for {n_slabs} slabs it must lie in [0, {1 / (n_slabs - 1):.3g})")
    width = (2 - 2 * margin * (n_slabs - 1)) / n_slabs
    left = -1 + torch.arange(n_slabs, dtype=torch.float64) * (width + 2 * margin)
    return torch.stack([left, left + width], -1)


def interval_labels(n_slabs: int) -> Float[Tensor, "n_slabs"]:
    """+1 and -1 in turn, +1 on the right.

    >>> interval_labels(3).tolist()
    [1.0, -1.0, 1.0]
    """
    return 1.0 - 2.0 * ((n_slabs - 1 - torch.arange(n_slabs)) % 2)


def interval_weights(n_slabs: int) -> Float[Tensor, "n_slabs"]:
    """How likely each interval is given its label; equally, but for five and seven slabs.

    In units of the distance between centres, five slabs have the mean squares 4/4 and 1, seven 9/8 + 7/8 and 4/2.

    >>> interval_weights(5).tolist()
    [0.125, 0.5, 0.75, 0.5, 0.125]
    """
    half = {5: [2, 8, 12], 7: [1, 4, 7, 8]}.get(n_slabs)
    if half is None:
        labels = interval_labels(n_slabs)
        return 1 / (labels[:, None] == labels).sum(0)
    return torch.tensor(half + half[-2::-1]) / 16


def draw(
    generators: Sequence[Generator],
    n_points: int,
    slabs: Sequence[int],
    margins: Sequence[float],
    n_noise: int = 0,
    noise_std: float = 0.2,
    flips: Sequence[float] | None = None,
) -> Points:
    """Points with labels ±1, equally likely.

    Args:
        generators: One per seed.
        n_points: Points per seed.
        slabs: Intervals of each informative coordinate.
        margins: Half of the gap between its intervals, each.
        n_noise: Coordinates N(0, noise_std²) that tell nothing.
        noise_std: Their standard deviation.
        flips: How often each informative coordinate is drawn for the wrong label; never, if not given.

    Raises:
        ValueError: No point, no informative coordinate, lists of different lengths, a flip outside 0…1, or as `intervals`.

    >>> draw(streams([0, 1], "doctest"), 5, slabs=[2, 5], margins=[0.1, 0.1], n_noise=3).xs.shape
    torch.Size([2, 5, 5])
    """
    flips = [0.0] * len(slabs) if flips is None else flips
    if n_points < 1:
        raise ValueError(f"n_points is {n_points}; it must be at least 1")
    if not slabs or not len(slabs) == len(margins) == len(flips):
        sizes = (len(slabs), len(margins), len(flips))
        raise ValueError(f"slabs, margins and flips have {sizes} entries; all need as many, and at least one")
    if not all(0 <= p <= 1 for p in flips):
        raise ValueError(f"flips is {list(flips)}; all must lie in 0…1")

    def one(generator: Generator) -> tuple[Tensor, Tensor]:
        ys = 1.0 - 2.0 * torch.randint(2, (n_points,), generator=generator)
        columns = []
        for k, margin, flip in zip(slabs, margins, flips, strict=True):
            wrong = torch.rand(n_points, generator=generator) < flip
            label = torch.where(wrong, -ys, ys)
            ends, owners = intervals(k, margin).float(), interval_labels(k)
            # Intervals of the other label have no weight: the cumulative weights of a row stand still there.
            share = interval_weights(k) * (owners == label[:, None])
            which = (torch.rand(n_points, 1, generator=generator) > share.cumsum(-1)[:, :-1]).sum(-1)
            left, right = ends[which].unbind(-1)
            columns.append(left + (right - left) * torch.rand(n_points, generator=generator))
        noise = noise_std * torch.randn(n_points, n_noise, generator=generator)
        return torch.cat([torch.stack(columns, -1), noise], -1), ys

    return Points(*map(torch.stack, zip(*map(one, generators), strict=True)))


def randomised(
    points: Points, coordinates: Sequence[int], generators: Sequence[Generator]
) -> Float[Tensor, "seed n d"]:
    """The inputs with some coordinates taken from other points, so that these tell nothing about the label.

    Raises:
        ValueError: A coordinate that the points do not have.
    """
    d = points.xs.shape[-1]
    if not all(0 <= c < d for c in coordinates):
        raise ValueError(f"coordinates is {list(coordinates)}; all must lie in 0…{d - 1}")
    xs = points.xs.clone()
    for member, generator in enumerate(generators):
        order = torch.randperm(xs.shape[1], generator=generator)
        xs[member, :, list(coordinates)] = points.xs[member][order][:, list(coordinates)]
    return xs
