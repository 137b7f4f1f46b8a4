r"""Iterations that solve S w = b layer by layer, and how many layers a condition number costs.

Source: Gatmiry et al. 2024, arXiv 2410.21698 (abstract: sqrt(kappa) layers with restricted, log(kappa) with unrestricted
linear attention, matching lower bounds). The derivations below are our own.

**Restricted attention is a polynomial.** Layer l sends the residuals r_j ← r_j - (1/n) Σ_i r_i x_iᵀ A_l x_j. Without noise
r_j = eᵀ x_j with e = w* - w, so e ← (I - A_lᵀ S) e with S = (1/n) Σ_i x_i x_iᵀ. With A_l = a_l I

    e_L = p(S) e_0,     p(λ) = Π_l (1 - a_l λ),     p(0) = 1, degree L.

| construction            | polynomial over the spectrum [low, high]            | layers until max |p| <= ε            |
|-------------------------|-----------------------------------------------------|--------------------------------------|
| Richardson (one matrix, looped) | (1 - 2λ/(low + high))^L                     | (κ/2) ln(1/ε)                        |
| Chebyshev (L matrices)  | T_L(z(λ)) / T_L(z(0)), z affine with [low, high] → [1, -1] | (√κ/2) ln(2/ε)                |
| whitening (unrestricted)| Π_k (1 - s_k), s_{k+1} = s_k (3 - s_k)²/4, s_0 = λ/high | log_{9/4} κ + log_2 log(1/ε)      |
| Newton's inverse (not attention) | (1 - 2λ/(low + high))^(2^L)                | log_2(κ/2) + log_2 ln(1/ε)           |

*Whitening.* An unrestricted layer may also move the inputs, x̃ ← x̃ - γ S̃ x̃ (von Oswald et al.'s GD++). Up to a factor
that the next layer absorbs this is the Newton-Schulz step X ← X (3 - XᵀX)/2 towards an orthogonal X: the spectrum s of S̃
goes to s (3 - s)²/4, and one gradient step on whitened inputs, the factor 1 - s, solves the task. Newton's inverse
iteration X ← X (2I - S X) is its better known relative and serves as the yardstick.

**Lower bounds.** Take S = λ I with λ in [1, κ].
*Restricted*: an entry of Π_l (I - λ A_lᵀ) is a polynomial in λ of degree L with value 1 at 0. Among these Chebyshev's has
the least maximum over [1, κ], so the Chebyshev count cannot be beaten, whatever matrices are taken.
*Unrestricted*: scale all x_j by √λ. The entries of the tokens are odd polynomials in √λ, and a layer is cubic: degree at
most 3^L, and the y-entry of the query starts at 0, so without a linear term. The relative error of the prediction is a
polynomial in λ of degree (3^L - 1)/2 with value 1 at 0, which must reach Chebyshev's degree: L >= log_3(√κ ln(2/ε) + 1),
about.

| paper        | code              | meaning                                         |
|--------------|-------------------|-------------------------------------------------|
| κ            | `kappa`           | condition number: spectrum in [1, κ]            |
| L            | `n_layers`        | layers, or loops of one layer                   |
| –            | `steps`           | a_l, one per layer                              |
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float


def richardson_step(low: float, high: float) -> float:
    """The constant step with the least max |1 - aλ| over [low, high]: 2/(low + high).

    Raises:
        ValueError: bounds that are not 0 < low <= high.

    >>> richardson_step(1.0, 3.0)
    0.5
    """
    _check_spectrum(low, high)
    return 2 / (low + high)


def chebyshev_steps(low: float, high: float, n_layers: int) -> Float[np.ndarray, " n_layers"]:
    """Steps whose product of 1 - aλ is the smallest over [low, high]: inverse Chebyshev roots, in increasing order.

    Raises:
        ValueError: `n_layers` below 1, or bounds that are not 0 < low <= high.

    >>> chebyshev_steps(1.0, 3.0, 1).tolist()
    [0.5]
    """
    _check_spectrum(low, high)
    _check_layers(n_layers)
    angles = np.pi * (np.arange(n_layers) + 0.5) / n_layers
    return 1 / ((high + low) / 2 + (high - low) / 2 * np.cos(angles))


def residual_polynomial(
    eigenvalues: Float[np.ndarray, "*k"], steps: Float[np.ndarray, " n_layers"]
) -> Float[np.ndarray, "*k"]:
    """p(λ) = Π_l (1 - a_l λ): what is left of the error along an eigenvector after all layers.

    >>> residual_polynomial(np.array([0.0, 1.0]), np.array([0.5, 0.5])).tolist()
    [1.0, 0.25]
    """
    return np.prod(1 - eigenvalues[..., None] * steps, axis=-1)


def chebyshev_residual(
    eigenvalues: Float[np.ndarray, "*k"], low: float, high: float, n_layers: int
) -> Float[np.ndarray, "*k"]:
    """T_L(z(λ)) / T_L(z(0)), the polynomial of `chebyshev_steps` in closed form, inside and outside [low, high].

    Raises:
        ValueError: `n_layers` below 1, or bounds that are not 0 < low < high.
    """
    _check_spectrum(low, high)
    _check_layers(n_layers)
    if low == high:
        raise ValueError(f"low and high are both {low}; Chebyshev's polynomial needs an interval")
    z = (high + low - 2 * np.append(eigenvalues.ravel(), 0.0)) / (high - low)
    inside = np.cos(n_layers * np.arccos(np.clip(z, -1, 1)))
    outside = np.sign(z) ** n_layers * np.cosh(n_layers * np.arccosh(np.maximum(np.abs(z), 1)))
    values = np.where(np.abs(z) <= 1, inside, outside)
    return (values[:-1] / values[-1]).reshape(eigenvalues.shape)


def whitening_spectra(eigenvalues: Float[np.ndarray, " k"], high: float, n_layers: int) -> Float[np.ndarray, "depth k"]:
    """Spectra s_0, …, s_L of the inputs' covariance while unrestricted layers whiten them: s ← s (3 - s)²/4.

    Args:
        eigenvalues: Of the covariance before the first layer, in (0, high].
        high: Scale, so that s_0 = λ/high lies in (0, 1]; up to 3 high the iteration still converges.
        n_layers: Layers.

    Raises:
        ValueError: `n_layers` below 1, `high` not positive, or an eigenvalue that is not positive.

    >>> whitening_spectra(np.array([0.25, 1.0]), 1.0, 2).round(3).tolist()
    [[0.25, 1.0], [0.473, 1.0], [0.755, 1.0]]
    """
    _check_layers(n_layers)
    if not (high > 0 and np.min(eigenvalues) > 0):
        raise ValueError(f"high is {high}, the least eigenvalue {np.min(eigenvalues)}; both must be positive")
    spectra = [eigenvalues / high]
    for _ in range(n_layers):
        spectra.append(spectra[-1] * (3 - spectra[-1]) ** 2 / 4)
    return np.array(spectra)


def whitening_residual(eigenvalues: Float[np.ndarray, " k"], high: float, n_layers: int) -> Float[np.ndarray, " k"]:
    """Share of the error left by L layers that whiten and take a unit gradient step each: Π_{k<L} (1 - s_k)."""
    return np.prod(1 - whitening_spectra(eigenvalues, high, n_layers)[:-1], axis=0)


def newton_inverse(
    matrices: Float[np.ndarray, "*stack d columns"], step: float, n_steps: int
) -> Float[np.ndarray, "*stack d d"]:
    """Newton's iteration for the inverse, X ← X (2I - S X) from X = step · I; I - S X is squared each time.

    Args:
        matrices: S, symmetric positive definite.
        step: Start; it converges for 0 < step < 2/(largest eigenvalue).
        n_steps: Iterations, at least 0.

    Raises:
        ValueError: matrices that are not square, singular or indefinite ones, or a start that diverges.
    """
    if matrices.shape[-2] != matrices.shape[-1]:
        raise ValueError(f"matrices have shape {matrices.shape}; their last two sizes must be equal")
    spectrum = np.linalg.eigvalsh(matrices)
    if spectrum.min() <= 1e-12 * spectrum.max():
        raise ValueError(f"matrices must be positive definite; the least eigenvalue is {spectrum.min():.3g}")
    if not 0 < step < 2 / spectrum.max():
        raise ValueError(f"step is {step}; it must lie in (0, {2 / spectrum.max():.3g}), 2 over the largest eigenvalue")
    if n_steps < 0:
        raise ValueError(f"n_steps is {n_steps}; it must be at least 0")
    eye = np.eye(matrices.shape[-1])
    inverses = step * np.broadcast_to(eye, matrices.shape)
    for _ in range(n_steps):
        inverses = inverses @ (2 * eye - matrices @ inverses)
    return inverses


def newton_residual(
    eigenvalues: Float[np.ndarray, "*k"], low: float, high: float, n_layers: int
) -> Float[np.ndarray, "*k"]:
    """(1 - 2λ/(low + high))^(2^L): share of the error left by `newton_inverse` after L steps."""
    _check_layers(n_layers)
    return (1 - richardson_step(low, high) * eigenvalues) ** (2**n_layers)


# -- how many layers ---------------------------------------------------------------------------------------------------


def worst_richardson(kappa: float, n_layers: int) -> float:
    """max over [1, κ] of |p| for the best constant step: ((κ - 1)/(κ + 1))^L."""
    _check_kappa(kappa)
    _check_layers(n_layers)
    return ((kappa - 1) / (kappa + 1)) ** n_layers


def worst_chebyshev(kappa: float, n_layers: int) -> float:
    """max over [1, κ] of |p| for Chebyshev's steps, 1/T_L((κ + 1)/(κ - 1)): the least of any degree-L polynomial.

    >>> worst_chebyshev(4.0, 1) == worst_richardson(4.0, 1)
    True
    """
    _check_kappa(kappa)
    _check_layers(n_layers)
    if kappa == 1:
        return 0.0
    # The closed form is 2ρ^L/(1 + ρ^(2L)); unlike 1/cosh it does not overflow.
    rho = (math.sqrt(kappa) - 1) / (math.sqrt(kappa) + 1)
    return 2 * rho**n_layers / (1 + rho ** (2 * n_layers))


def worst_whitening(kappa: float, n_layers: int) -> float:
    """max over [1, κ] of the share left by whitening layers; it is taken at 1, since s ← s (3 - s)²/4 is increasing."""
    _check_kappa(kappa)
    return float(whitening_residual(np.array([1.0]), kappa, n_layers)[0])


def worst_newton(kappa: float, n_layers: int) -> float:
    """max over [1, κ] of the share left by Newton's inverse iteration: ((κ - 1)/(κ + 1))^(2^L)."""
    _check_layers(n_layers)
    return worst_richardson(kappa, 2**n_layers)


def layers_needed(worst: Callable[[float, int], float], kappa: float, tolerance: float) -> int:
    """The fewest layers with worst(kappa, n_layers) <= tolerance.

    Args:
        worst: One of the functions above; non-increasing in the number of layers.
        kappa: Condition number, at least 1.
        tolerance: Relative error of the weights in the worst direction, in (0, 1).

    Raises:
        ValueError: `kappa` below 1 or a tolerance outside (0, 1).

    >>> [layers_needed(worst, 16.0, 0.01) for worst in (worst_richardson, worst_chebyshev, worst_whitening)]
    [37, 11, 6]
    """
    _check_kappa(kappa)
    _check_tolerance(tolerance)
    most = 1
    while worst(kappa, most) > tolerance:
        most *= 2
    fewest = most // 2 + 1
    while fewest < most:  # bisection between most/2, which is too few, and most
        middle = (fewest + most) // 2
        fewest, most = (fewest, middle) if worst(kappa, middle) <= tolerance else (middle + 1, most)
    return most


def fewest_restricted_layers(kappa: float, tolerance: float) -> int:
    """Lower bound for restricted linear attention: the degree that Chebyshev's polynomial needs."""
    return layers_needed(worst_chebyshev, kappa, tolerance)


def fewest_unrestricted_layers(kappa: float, tolerance: float) -> int:
    """Lower bound for linear attention with any weights: the least L whose degree (3^L - 1)/2 is Chebyshev's.

    >>> fewest_unrestricted_layers(16.0, 0.01)
    3
    """
    degree, n_layers = layers_needed(worst_chebyshev, kappa, tolerance), 1
    while (3**n_layers - 1) // 2 < degree:
        n_layers += 1
    return n_layers


def _check_spectrum(low: float, high: float) -> None:
    if not 0 < low <= high < math.inf:
        raise ValueError(f"low and high are {low} and {high}; they must satisfy 0 < low <= high")


def _check_layers(n_layers: int) -> None:
    if n_layers < 1:
        raise ValueError(f"n_layers is {n_layers}; it must be at least 1")


def _check_kappa(kappa: float) -> None:
    if not 1 <= kappa < math.inf:
        raise ValueError(f"kappa is {kappa}; a condition number is finite and at least 1")


def _check_tolerance(tolerance: float) -> None:
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; it must lie in (0, 1)")
