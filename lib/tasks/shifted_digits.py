"""Digits as a test set finds them after the world has moved a little: noise, rotation, translation, fog.

A small stand-in for CIFAR-10-C and ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261). A change of contrast alone
would say nothing of networks without biases: f(a x) = a f(x) has the classes of f(x) for every a > 0.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

SHIFTS = ("noise", "rotation", "translation", "fog")
NOISE_STD, DEGREES, FOG = 0.3, 25.0, 0.4


def shifted(images: Float[Tensor, "n size size"], shift: str, generator: Generator) -> Float[Tensor, "n size size"]:
    """Images in 0…1 under one of the shifts, a random draw for every image.

    Args:
        images: Square images, ink 1, ground 0.
        shift: "noise" adds N(0, 0.3²) to each pixel; "rotation" turns by 25° one way or the other; "translation" moves by
            one pixel along one axis; "fog" mixes with a ground of 0.4 on one side, which fades towards the other.
        generator: Source of the draw.

    Raises:
        ValueError: An unknown shift.
    """
    if shift not in SHIFTS:
        raise ValueError(f"shift is {shift!r}; it must be one of {', '.join(SHIFTS)}")
    n, size = images.shape[:2]
    if shift == "noise":
        return images + NOISE_STD * torch.randn(images.shape, generator=generator)
    if shift == "rotation":
        sign = torch.randint(2, (n,), generator=generator) * 2.0 - 1
        angle = math.radians(DEGREES) * sign
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(n)
        maps = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
        grid = F.affine_grid(maps, [n, 1, size, size], align_corners=False)
        return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
    if shift == "translation":
        return translations(images)[1 + torch.randint(4, (n,), generator=generator), torch.arange(n)]
    ramp = torch.linspace(1, 0, size)
    weight = FOG * torch.where(torch.rand(n, 1, 1, generator=generator) < 0.5, ramp, ramp.flip(0))
    return images * (1 - weight) + weight


def translations(images: Float[Tensor, "n size size"]) -> Float[Tensor, "5 n size size"]:
    """The images as they are, and moved by one pixel down, up, right and left; what enters is ground.

    >>> translations(torch.eye(2)[None])[1, 0]
    tensor([[0., 0.],
            [1., 0.]])
    """
    size = images.shape[-1]
    padded = F.pad(images, (1, 1, 1, 1))
    corners = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    return torch.stack([padded[:, i : i + size, j : j + size] for i, j in corners])
