r"""The max-margin network of one hidden layer on signal coordinates, in closed form, and one that is robust.

Points ±e_j, j = 1…k, with labels ±1 (`lib.tasks.signal_coordinates` without noise). In the rich regime a wide network tends
to the largest margin per unit of total variation over neurons (w, b) of norm one (Chizat and Bach 2020, arXiv 2002.04486).

*Upper bound.* No margin exceeds what the uniform weights on the 2k points allow one neuron (weak duality):

    γ ≤ max_{‖(w, b)‖ = 1} | (1/2k) Σ_j [ relu(b + w_j) - relu(b - w_j) ] |

For b ≥ 0 a term is concave in w_j² > 0, with slope 2 in w_j up to b and 1 beyond, so that equal w_j = ω are best. Then the
bound is ω for ω ≤ b and (ω + b)/2 beyond, with k ω² + b² = 1, and is greatest at ω = b: 1/√(k+1). For b < 0 a term is at
most w_j, and the bound at most 1/(2√k), which is less.

*It is reached* by the two neurons ±(1, …, 1; ±1)/√(k+1) that attain it, with half of the variation each:

    f(x) = [ relu(1 + s) - relu(1 - s) ] / (2 √(k+1)),      s = x_1 + … + x_k

For |s| < 1 the input gradient is (1, …, 1)/√(k+1) on the relevant coordinates and 0 on all others: it does not depend on
x, and so it cannot tell in which coordinate the signal of *this* x lies (Theorem 1 of Shah et al. 2021, arXiv 2102.12781).

*Robustness.* In the l∞ ball of radius ε the adversary lowers s by kε, and the margin to (1 - kε)/√(k+1): none for ε ≥ 1/k.
One threshold per coordinate, f(x) = Σ_j [relu(x_j - ε) - relu(-x_j - ε)] / (2k √(1+ε²)), keeps (1 - 2ε)/(2k √(1+ε²)) up to
ε = 1/2, beyond which no classifier is robust; its gradient is nonzero at the signal coordinate alone.

| symbol | code         | meaning                              |
|--------|--------------|--------------------------------------|
| k      | `n_relevant` | coordinates that may hold the signal |
| ε      | `radius`     | radius of the l∞ ball                |
"""

import numpy as np
from jaxtyping import Float


def _check(n_relevant: int) -> None:
    if n_relevant < 1:
        raise ValueError(f"n_relevant is {n_relevant}; it must be at least 1")


def max_margin(n_relevant: int) -> float:
    """1/√(k+1), the largest margin per unit of variation.

    Raises:
        ValueError: `n_relevant` below 1.
    """
    _check(n_relevant)
    return (n_relevant + 1) ** -0.5


def max_margin_neurons(n_relevant: int, n_noise: int = 0) -> Float[np.ndarray, "2 d_plus_1"]:
    """The two neurons (w, b), with outputs +1/2 and -1/2.

    Raises:
        ValueError: `n_relevant` below 1.

    >>> max_margin_neurons(3, 1).tolist()
    [[0.5, 0.5, 0.5, 0.0, 0.5], [-0.5, -0.5, -0.5, -0.0, 0.5]]
    """
    _check(n_relevant)
    w = np.r_[np.ones(n_relevant), np.zeros(n_noise)] * max_margin(n_relevant)
    b = [max_margin(n_relevant)]
    return np.stack([np.r_[w, b], np.r_[-w, b]])


def threshold_neurons(n_relevant: int, radius: float) -> Float[np.ndarray, "two_k d_plus_1"]:
    """The neurons (±e_j; -ε)/√(1+ε²), with outputs ±1/2k: first all with plus, then all with minus.

    Raises:
        ValueError: `n_relevant` below 1, or a radius outside 0…1/2.
    """
    _check(n_relevant)
    if not 0 <= radius <= 0.5:
        raise ValueError(f"radius is {radius}; it must lie in 0…0.5")
    w = np.concatenate([np.eye(n_relevant), -np.eye(n_relevant)])
    return np.c_[w, np.full(2 * n_relevant, -radius)] / (1 + radius**2) ** 0.5


def robust_margins(
    n_relevant: int, radii: Float[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Margins in the worst case over l∞ balls of the max-margin network and of the one with a threshold per coordinate.

    Args:
        n_relevant: k.
        radii: ε, each in 0…1/2.

    Returns:
        (1 - min(kε, 2))/√(k+1) and (1 - 2ε)/(2k √(1+ε²)). Beyond kε = 2 the first network has nothing more to lose.

    Raises:
        ValueError: `n_relevant` below 1, or a radius outside 0…1/2.
    """
    _check(n_relevant)
    radii = np.asarray(radii, dtype=float)
    if not ((radii >= 0) & (radii <= 0.5)).all():
        raise ValueError(f"radii is {radii.tolist()}; all must lie in 0…0.5")
    sums = max_margin(n_relevant) * _clipped(1 - n_relevant * radii)
    return sums, (1 - 2 * radii) / (2 * n_relevant * np.sqrt(1 + radii**2))


def _clipped(s: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """[relu(1+s) - relu(1-s)]/2: s between -1 and 1, half as steep beyond."""
    return (np.maximum(1 + s, 0) - np.maximum(1 - s, 0)) / 2
