r"""Sequences of a random unitary autoregression: x_{t+1} = W x_t with W = diag(λ_1, …, λ_d), |λ_j| = 1.

Source: Zheng et al. 2024, arXiv 2405.16845, Section 3 and Appendix B. Every sequence has its own W, with independent
phases θ_j ~ U(0, 2π), λ_j = exp(iθ_j), and its own first token x_1, which is real:

| start      | x_1                                                             | in the paper |
|------------|-----------------------------------------------------------------|--------------|
| `gaussian` | N(0, scale² I)                                                  | yes          |
| `sparse`   | one coordinate, drawn uniformly, is ±scale, all others are zero | yes          |
| `ones`     | all coordinates are `scale`                                     | yes, scale 1 |
| `signs`    | all coordinates are ±scale, independently                       | no: our control |

| paper    | code        | shape                            |
|----------|-------------|----------------------------------|
| x_1      | `firsts`    | (seed, batch, n_dims), real      |
| x_t      | `xs`        | (seed, batch, length, n_dims)    |
| T        | `length`    | tokens of a sequence             |
| σ or c   | `scale`     |                                  |
| e_t      | `embedded`  | (x_t, x_{t-1}), with x_0 = 0     |

Every seed draws from its own generators, one for starts and one for phases.
"""

from collections.abc import Sequence
from math import pi

import torch
from jaxtyping import Complex, Float
from torch import Generator, Tensor

STARTS = ("gaussian", "sparse", "ones", "signs")


def check_start(start: str, scale: float) -> None:
    """Raise a ValueError unless the start is known and its scale positive."""
    if start not in STARTS:
        raise ValueError(f"start is {start!r}; it must be one of {', '.join(STARTS)}")
    if not scale > 0:
        raise ValueError(f"scale is {scale}; it must be positive")


def check_length(length: int | float) -> None:
    """Raise a ValueError for sequences too short to learn from: the first token that is predicted is the third."""
    if length < 3:
        raise ValueError(f"length is {length}; it must be at least 3, two tokens to learn from and one to predict")


def first_tokens(
    generators: Sequence[Generator], batch: int, n_dims: int, start: str, scale: float = 1.0
) -> Float[Tensor, "seed batch n_dims"]:
    """First tokens x_1 of one of the `STARTS`.

    Args:
        generators: One per seed.
        batch: Sequences per seed.
        n_dims: Coordinates.
        start: How x_1 is drawn.
        scale: σ of a Gaussian, absolute value of the non-zero coordinates otherwise.

    Returns:
        Real tokens in float64.

    Raises:
        ValueError: An unknown start, a size below 1 or a scale that is not positive.
    """
    check_start(start, scale)
    if batch < 1 or n_dims < 1:
        raise ValueError(f"batch and n_dims are {batch} and {n_dims}; both must be at least 1")
    options = dict(dtype=torch.float64)

    def draw(generator: Generator) -> Tensor:
        if start == "ones":
            return torch.ones(batch, n_dims, **options)
        if start == "gaussian":
            return torch.randn(batch, n_dims, generator=generator, **options)
        signs = 2.0 * torch.randint(2, (batch, n_dims), generator=generator).to(**options) - 1
        if start == "signs":
            return signs
        support = torch.randint(n_dims, (batch,), generator=generator)
        return signs * torch.nn.functional.one_hot(support, n_dims)

    return scale * torch.stack([draw(g) for g in generators])


def sequences(
    generators: Sequence[Generator], firsts: Float[Tensor, "seed batch n_dims"], length: int
) -> Complex[Tensor, "seed batch length n_dims"]:
    """Sequences x_t = W^{t-1} x_1 with phases of W drawn anew for each.

    Args:
        generators: One per seed, not those that drew the first tokens.
        firsts: First tokens.
        length: Tokens per sequence, at least 3.

    Returns:
        Sequences in complex64: the angles are multiplied by time in float64 before they are rounded.

    Raises:
        ValueError: A length below 3.

    >>> streams = [torch.Generator().manual_seed(0)]
    >>> sequences(streams, torch.ones(1, 2, 3, dtype=torch.float64), 4).abs().unique().round(decimals=5).tolist()
    [1.0]
    """
    check_length(length)
    uniform = [torch.rand(firsts.shape[1:], generator=g, dtype=torch.float64) for g in generators]
    return with_phases(2 * pi * torch.stack(uniform), firsts, length)


def with_phases(
    phases: Float[Tensor, "*stack n_dims"], firsts: Float[Tensor, "*stack n_dims"], length: int
) -> Complex[Tensor, "*stack length n_dims"]:
    """The sequences of given phases θ: x_{t,j} = exp(iθ_j (t-1)) x_{1,j}."""
    angles = phases.double()[..., None, :] * torch.arange(length, dtype=torch.float64)[:, None]
    return torch.polar(torch.ones_like(angles), angles).mul(firsts[..., None, :]).to(torch.complex64)


def embedded(xs: Complex[Tensor, "*stack length n_dims"]) -> Complex[Tensor, "*stack length 2*n_dims"]:
    """Tokens e_t = (x_t, x_{t-1}); before the first there is nothing, x_0 = 0.

    >>> embedded(torch.tensor([[1j], [2j], [3j]])).imag.tolist()
    [[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]]
    """
    before = torch.cat([torch.zeros_like(xs[..., :1, :]), xs[..., :-1, :]], dim=-2)
    return torch.cat([xs, before], dim=-1)
