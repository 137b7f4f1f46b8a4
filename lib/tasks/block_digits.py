r"""BlockMNIST: a digit that tells the label, and a block that tells nothing, one above the other in random order.

Source: Shah et al. 2021, arXiv 2102.12781, Section 5. A model has to look at both blocks to find the digit, but for any one
image the discriminative pixels are known: they lie in the signal block. BlockMNIST-Top, the control, has the digit always
above.

| paper            | code          | shape or meaning                             |
|------------------|---------------|----------------------------------------------|
| signal block     | the digit     | size × size pixels, ink 1, ground 0          |
| null block       | `null_pattern`| size × size pixels, the same in every image  |
| x                | `xs`          | (seed, n, 2 size²), upper block first        |
| y                | `ys`          | (seed, n), place of the digit in `digits`    |
| position         | `top`         | (seed, n), whether the digit is above        |
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from lib.tasks.imbalanced_images import downsample

Pool = tuple[np.ndarray, np.ndarray]


class Blocks(NamedTuple):
    """Images of every seed as rows of pixels, their classes, and where the digit is."""

    xs: Float[Tensor, "seed n d"]
    ys: Int[Tensor, "seed n"]
    top: Bool[Tensor, "seed n"]


def null_pattern(size: int) -> Float[Tensor, "size size"]:
    """The outline of a square, the same in every image.

    >>> null_pattern(7)[2].tolist()
    [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    """
    pattern, edge = torch.zeros(size, size), max(1, size // 5)
    pattern[edge : size - edge, edge : size - edge] = 1
    pattern[edge + 1 : size - edge - 1, edge + 1 : size - edge - 1] = 0
    return pattern


def block_digits(
    pool: Pool,
    generators: Sequence[Generator],
    n_points: int,
    size: int = 14,
    below: float = 0.5,
    digits: Sequence[int] = tuple(range(10)),
) -> Blocks:
    """Images with a digit block and a null block.

    Args:
        pool: Images (n, 1, 28, 28) or (n, 28, 28) in 0…255 and their digits.
        generators: One per seed.
        n_points: Images per seed; digits are drawn without replacement.
        size: Pixels along a block's side; divides 28.
        below: Share of images with the digit below; 0 is BlockMNIST-Top.
        digits: The classes.

    Raises:
        ValueError: A share outside 0…1, fewer than two different digits, or more images than the pool has of them.
    """
    if not 0 <= below <= 1:
        raise ValueError(f"below is {below}; it must lie in 0…1")
    if len(set(digits)) < 2 or len(set(digits)) < len(digits):
        raise ValueError(f"digits is {list(digits)}; it must hold at least two, all different")
    labels = torch.from_numpy(pool[1].copy())
    matches = labels[:, None] == torch.tensor(list(digits))
    owners, classes = matches.any(1).nonzero()[:, 0], matches.long().argmax(1)
    if not 1 <= n_points <= len(owners):
        raise ValueError(f"n_points is {n_points}; it must lie in 1…{len(owners)}, the images of these digits")

    def one(generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        chosen = owners[torch.randperm(len(owners), generator=generator)[:n_points]]
        images = torch.from_numpy(pool[0][chosen.numpy()]).float() / 255
        digit = downsample(images.reshape(n_points, *images.shape[-2:]), size).flatten(1)
        above = torch.rand(n_points, generator=generator) >= below
        null = null_pattern(size).flatten().expand_as(digit)
        first, second = torch.where(above[:, None], digit, null), torch.where(above[:, None], null, digit)
        return torch.cat([first, second], 1), classes[chosen], above

    return Blocks(*map(torch.stack, zip(*map(one, generators), strict=True)))


def in_null_block(top: Bool[Tensor, "*stack n"], n_pixels: int) -> Bool[Tensor, "*stack n d"]:
    """Which pixels lie in the null block.

    Args:
        top: Whether the digit is above.
        n_pixels: d, pixels of both blocks.

    Raises:
        ValueError: `n_pixels` is odd or not positive.

    >>> in_null_block(torch.tensor([True, False]), 4).int().tolist()
    [[0, 0, 1, 1], [1, 1, 0, 0]]
    """
    if n_pixels < 2 or n_pixels % 2:
        raise ValueError(f"n_pixels is {n_pixels}; it must be even and positive")
    lower = torch.arange(n_pixels, device=top.device) >= n_pixels // 2
    return lower == top[..., None]
