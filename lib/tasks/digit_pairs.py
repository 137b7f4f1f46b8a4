"""Two digits in one image that both tell the label, one more simply than the other: real pixels for simplicity bias.

The upper digit is one of a pair that is told apart by a line (0 and 1), the lower one of a pair that is not quite (4 and
9). Shah et al. 2020, arXiv 2006.07710, and Morwani et al. 2023, arXiv 2302.00457, put MNIST digits above CIFAR-10 objects;
with digits below, one data set is enough.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator

from lib.tasks.imbalanced_images import downsample
from lib.tasks.slabs import Points

Pool = tuple[np.ndarray, np.ndarray]


def digit_pairs(
    pool: Pool,
    generators: Sequence[Generator],
    n_points: int,
    size: int = 14,
    upper: tuple[int, int] = (0, 1),
    lower: tuple[int, int] = (4, 9),
) -> Points:
    """Images as rows of 2 size² pixels, upper digit first, centred on the mean image; labels ±1.

    Args:
        pool: Images (n, 1, 28, 28) or (n, 28, 28) in 0…255 and their digits.
        generators: One per seed.
        n_points: Images per seed. Digits are drawn with replacement: pairs are new even where digits are not.
        size: Pixels along a digit's side; divides 28.
        upper: Digits above for the labels -1 and +1.
        lower: Digits below for the labels -1 and +1.

    Raises:
        ValueError: No point, equal digits in a pair, a digit that the pool does not have, or a size that does not divide.
    """
    if n_points < 1:
        raise ValueError(f"n_points is {n_points}; it must be at least 1")
    images, labels = torch.from_numpy(pool[0].copy()).float() / 255, torch.from_numpy(pool[1].copy())
    small = downsample(images.reshape(len(labels), *images.shape[-2:]), size).flatten(1)
    owners = {digit: (labels == digit).nonzero()[:, 0] for digit in {*upper, *lower}}
    for name, pair in (("upper", upper), ("lower", lower)):
        if pair[0] == pair[1]:
            raise ValueError(f"{name} is {pair}; its two digits must differ")
        if missing := [digit for digit in pair if not len(owners[digit])]:
            raise ValueError(f"{name} is {pair}; the pool has no digit {missing[0]}")

    xs, ys = [], []
    for generator in generators:
        positive = torch.randint(2, (n_points,), generator=generator).bool()
        halves = []
        for pair in (upper, lower):
            draws = torch.rand(n_points, generator=generator)
            picks = [owners[digit][(draws * len(owners[digit])).long()] for digit in pair]
            halves.append(small[torch.where(positive, picks[1], picks[0])])
        xs.append(torch.cat(halves, 1))
        ys.append(torch.where(positive, 1.0, -1.0))
    means = torch.cat([sum(small[owners[digit]].mean(0) for digit in pair) / 2 for pair in (upper, lower)])
    return Points(torch.stack(xs) - means, torch.stack(ys))
