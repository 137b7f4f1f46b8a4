r"""Kendall's rank correlation of many pairs of samples at once, its bootstrap interval and its spread under no relation.

    τ = Σ_{i<j} sign(x_i - x_j) sign(y_i - y_j) / √(n_x n_y),     n_x: pairs i < j with x_i ≠ x_j       (Kendall's τ-b)

Under independence and without ties τ has mean 0 and variance 2 (2n + 5) / (9 n (n - 1)) (Kendall 1938).
"""

import numpy as np
from jaxtyping import Float


def kendall_tau(xs: Float[np.ndarray, "*stack n"], ys: Float[np.ndarray, "*stack n"]) -> Float[np.ndarray, "*stack"]:
    """τ-b along the last axis; 0 where all values of a sample are equal.

    Raises:
        ValueError: Fewer than two values, or one that is not a number.

    >>> float(kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])).round(3))
    0.333
    """
    if xs.shape[-1] < 2 or np.isnan(xs).any() or np.isnan(ys).any():
        raise ValueError(f"xs and ys hold {xs.shape[-1]} values; at least two are needed, and none may be NaN")
    n = xs.shape[-1]
    i, j = np.triu_indices(n, 1)
    a, b = np.sign(xs[..., i] - xs[..., j]), np.sign(ys[..., i] - ys[..., j])
    scale = np.sqrt(np.abs(a).sum(-1) * np.abs(b).sum(-1))
    return np.asarray((a * b).sum(-1) / np.maximum(scale, 1e-300))


def bootstrap_interval(
    xs: Float[np.ndarray, "n"], ys: Float[np.ndarray, "n"], n_draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """The 95 % percentile interval of τ over resampled pairs (x_i, y_i).

    Raises:
        ValueError: Fewer than 40 draws: the percentiles would be the extremes.
    """
    if n_draws < 40:
        raise ValueError(f"n_draws is {n_draws}; it must be at least 40")
    picks = rng.integers(len(xs), size=(n_draws, len(xs)))
    low, high = np.percentile(kendall_tau(xs[picks], ys[picks]), [2.5, 97.5])
    return float(low), float(high)


def null_spread(n: int) -> float:
    """Standard deviation of τ for n pairs without relation.

    >>> round(null_spread(48), 3)
    0.1
    """
    return (2 * (2 * n + 5) / (9 * n * (n - 1))) ** 0.5
