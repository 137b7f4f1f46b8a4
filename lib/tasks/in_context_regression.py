r"""In-context regression: prompts (x_1, y_1), …, (x_n, y_n) that each come from a function of their own.

    w ~ N(0, Ω),    x_j ~ N(0, Λ) or U(-a, a)^d,    y_j = wᵀ x_j + ε_j

Source: Garg et al. 2022, arXiv 2208.01066 (the task and its vocabulary); von Oswald et al. 2022, arXiv 2212.07677
(uniform inputs, sines); Zhang et al. 2023, arXiv 2306.09927 (random covariances).

| papers          | code                | shape or meaning                                              |
|-----------------|---------------------|---------------------------------------------------------------|
| x_j             | `xs`                | (seed, batch, n_points, n_dims)                               |
| y_j             | `ys`                | (seed, batch, n_points)                                       |
| N               | `n_points - 1`      | context length: the last point is the query of one-query models |
| Λ (or Σ)        | `covariance`        | of the inputs; one for all, or one per prompt                 |
| a               | `half_width`        | of uniform inputs                                             |

Every seed draws from its own generator (`streams`), so its prompts do not depend on the seeds stacked beside it.
"""

from collections.abc import Callable, Sequence
from math import pi

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from lib.seeds import generator_for


def streams(seeds: Sequence[int], purpose: str) -> list[Generator]:
    """One generator per seed, to draw from again and again."""
    return [generator_for(seed, f"in-context regression: {purpose}") for seed in seeds]


def gaussian_inputs(
    generators: Sequence[Generator],
    batch: int,
    n_points: int,
    n_dims: int,
    covariance: Float[Tensor, "*prompt d d"] | None = None,
) -> Float[Tensor, "seed batch n_points n_dims"]:
    """Inputs from N(0, covariance).

    Args:
        generators: One per seed.
        batch: Prompts per seed.
        n_points: Points per prompt, the query included.
        n_dims: Dimension of the inputs.
        covariance: None for the identity, (n_dims, n_dims), or one per prompt (seed, batch, n_dims, n_dims).

    Returns:
        Inputs in float32.

    Raises:
        ValueError: A size below 1, or a covariance of another size, asymmetric or not positive definite.
    """
    _at_least_one(batch=batch, n_points=n_points, n_dims=n_dims)
    xs = _normal(generators, batch, n_points, n_dims)
    if covariance is None:
        return xs
    return xs @ _factor(covariance, n_dims, "covariance").mT


def uniform_inputs(
    generators: Sequence[Generator], batch: int, n_points: int, n_dims: int, half_width: float = 0.5
) -> Float[Tensor, "seed batch n_points n_dims"]:
    """Inputs with independent coordinates from U(-half_width, half_width).

    Raises:
        ValueError: A size below 1, or a half-width that is not positive.
    """
    _at_least_one(batch=batch, n_points=n_points, n_dims=n_dims)
    if not half_width > 0:
        raise ValueError(f"half_width is {half_width}; it must be positive")
    return _filled(
        generators, (batch, n_points, n_dims), lambda row, g: row.uniform_(-half_width, half_width, generator=g)
    )


def linear_targets(
    generators: Sequence[Generator],
    xs: Float[Tensor, "seed batch n_points n_dims"],
    weight_covariance: Float[Tensor, "*prompt d d"] | float | None = None,
    noise_std: float = 0.0,
) -> tuple[Float[Tensor, "seed batch n_points"], Float[Tensor, "seed batch n_dims"]]:
    """Targets y = wᵀ x + noise, with one w per prompt.

    Args:
        generators: One per seed.
        xs: Inputs.
        weight_covariance: Of w ~ N(0, ·): None for the identity, a number for a multiple of it, (n_dims, n_dims), or
            one per prompt.
        noise_std: Standard deviation of the noise on every point, the query included.

    Returns:
        (ys, weights).

    Raises:
        ValueError: A negative noise, or a weight covariance of another size, asymmetric or not positive definite.
    """
    _, batch, n_points, n_dims = xs.shape
    if noise_std < 0:
        raise ValueError(f"noise_std is {noise_std}; it must be at least 0")
    weights = _normal(generators, batch, n_dims).to(xs.device)
    if isinstance(weight_covariance, float):
        if not weight_covariance > 0:
            raise ValueError(f"weight_covariance is {weight_covariance}; it must be positive")
        weights = weight_covariance**0.5 * weights
    elif weight_covariance is not None:
        weights = (_factor(weight_covariance, n_dims, "weight_covariance") @ weights[..., None])[..., 0]
    ys = (xs @ weights[..., None])[..., 0]
    if noise_std:
        ys = ys.add(_normal(generators, batch, n_points).to(xs.device), alpha=noise_std)
    return ys, weights


def exponential_covariances(
    generators: Sequence[Generator], batch: int, n_dims: int
) -> Float[Tensor, "seed batch n_dims n_dims"]:
    """Diagonal covariances with independent entries from Exp(1), one per prompt (arXiv 2306.09927, Section 4)."""
    _at_least_one(batch=batch, n_dims=n_dims)
    draw = _filled(generators, (batch, n_dims), lambda row, g: row.exponential_(generator=g))
    # An exact zero, one draw in 10⁷ in float32, would be singular.
    return torch.diag_embed(draw.clamp_min(1e-6))


def rotated_covariances(
    generators: Sequence[Generator], batch: int, n_dims: int, low: float, high: float
) -> Float[Tensor, "seed batch n_dims n_dims"]:
    """Covariances in a random orientation with eigenvalues log-uniform in [low, high], one per prompt.

    Raises:
        ValueError: A size below 1, or bounds that are not 0 < low <= high.
    """
    _at_least_one(batch=batch, n_dims=n_dims)
    if not 0 < low <= high:
        raise ValueError(f"low and high are {low} and {high}; they must satisfy 0 < low <= high")
    exponents = _filled(generators, (batch, n_dims), lambda row, g: row.uniform_(generator=g))
    eigenvalues = low * (high / low) ** exponents
    gaussian = _normal(generators, batch, n_dims, n_dims)
    Q, R = torch.linalg.qr(gaussian)
    # Without the signs Q would not be uniform (Mezzadri 2007).
    Q = Q * R.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
    covariances = (Q * eigenvalues[..., None, :]) @ Q.mT
    return (covariances + covariances.mT) / 2  # rounding leaves the product slightly asymmetric


def sines(
    generators: Sequence[Generator],
    batch: int,
    n_points: int,
    amplitude: tuple[float, float] = (0.1, 5.0),
    phase: tuple[float, float] = (0.0, pi),
    half_width: float = 5.0,
) -> tuple[Float[Tensor, "seed batch n_points 1"], Float[Tensor, "seed batch n_points"]]:
    """Sine waves y = A sin(x + φ) with A and φ uniform, one wave per prompt, and x ~ U(-half_width, half_width).

    Returns:
        (xs, ys).

    Raises:
        ValueError: A size below 1, a half-width that is not positive, or a range whose ends are reversed.
    """
    if amplitude[0] > amplitude[1] or phase[0] > phase[1]:
        raise ValueError(f"amplitude and phase are {amplitude} and {phase}; the first end must not exceed the second")
    xs = uniform_inputs(generators, batch, n_points, 1, half_width)
    draw = _filled(generators, (2, batch, 1), lambda row, g: row.uniform_(generator=g))
    A = amplitude[0] + (amplitude[1] - amplitude[0]) * draw[:, 0]
    shift = phase[0] + (phase[1] - phase[0]) * draw[:, 1]
    return xs, A * torch.sin(xs[..., 0] + shift)


def merged_tokens(
    xs: Float[Tensor, "*stack n_points n_dims"], ys: Float[Tensor, "*stack n_points"]
) -> Float[Tensor, "*stack n_points n_dims+1"]:
    """One token e_j = (x_j, y_j) per point; the last is the query (x_q, 0), whose target stays hidden.

    >>> merged_tokens(torch.ones(2, 3), torch.full((2,), 7.0))[:, -1].tolist()
    [7.0, 0.0]
    """
    ys = torch.cat([ys[..., :-1], torch.zeros_like(ys[..., :1])], dim=-1)
    return torch.cat([xs, ys[..., None]], dim=-1)


def interleaved_tokens(
    xs: Float[Tensor, "*stack n_points n_dims"], ys: Float[Tensor, "*stack n_points"]
) -> Float[Tensor, "*stack 2*n_points n_dims"]:
    """Two tokens per point, x_j and (y_j, 0, …, 0); a causal model predicts y_j at the place of x_j, [..., ::2, :].

    >>> interleaved_tokens(torch.ones(2, 3), torch.full((2,), 7.0))[:, 0].tolist()
    [1.0, 7.0, 1.0, 7.0]
    """
    padded = torch.cat([ys[..., None], torch.zeros_like(xs[..., 1:])], dim=-1)
    return torch.stack([xs, padded], dim=-2).flatten(-3, -2)


def require_prompts(xs: Float[Tensor, "*stack n_points d"], n_dims: int | None = None) -> None:
    """For models of one query: are these prompts that a model of `n_dims`, or of any dimension, can answer?

    Raises:
        ValueError: Inputs of another dimension than the model's, or a prompt without context.
    """
    if n_dims is not None and xs.shape[-1] != n_dims:
        raise ValueError(f"xs have {xs.shape[-1]} dimensions; the model was made for n_dims = {n_dims}")
    if xs.shape[-2] < 2:
        raise ValueError(f"n_points is {xs.shape[-2]}; a prompt needs at least 2, the last one is the query")


def _filled(
    generators: Sequence[Generator], shape: tuple[int, ...], fill: Callable[[Tensor, Generator], Tensor]
) -> Tensor:
    """One draw per generator, in place: stacking draws would copy the largest tensor of a training step."""
    draws = torch.empty(len(generators), *shape)
    for row, g in zip(draws, generators, strict=True):
        fill(row, g)
    return draws


def _normal(generators: Sequence[Generator], *shape: int) -> Tensor:
    return _filled(generators, shape, lambda row, g: row.normal_(generator=g))


def _at_least_one(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")


def _factor(covariance: Tensor, n_dims: int, name: str) -> Tensor:
    """Cholesky factor, or a sentence about what is wrong with the covariance."""
    if covariance.shape[-2:] != (n_dims, n_dims):
        raise ValueError(
            f"{name} has shape {tuple(covariance.shape)}; its last two sizes must be n_dims = {n_dims}, the inputs'"
        )
    largest = covariance.abs().amax((-2, -1), keepdim=True)
    if not ((covariance - covariance.mT).abs() <= 1e-4 * largest).all():  # room for rounding in float32
        raise ValueError(f"{name} must be symmetric")
    factor, info = torch.linalg.cholesky_ex(covariance)
    if info.any():
        smallest = torch.linalg.eigvalsh(covariance).min().item()
        raise ValueError(
            f"{name} is singular or indefinite; all eigenvalues must be positive, the least is {smallest:.3g}"
        )
    return factor
